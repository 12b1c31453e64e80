"""
Data that are made up, for whoever has none at hand: a small shop of films, and people who have tastes.

Each film is of one genre above all, and each person likes two genres: most of what a person watches is of those. So
it can be seen at a glance whether recommendations make sense. The same are made each time.
"""

from __future__ import annotations

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

from airflow_provider_personalize.local.tables import SEPARATOR, Dataset, assemble

_SEED = 20180522
_USERS = 600
_FILMS_OF_A_GENRE = 40
#: How many films a person watches: at least, and on average above that.
_FEWEST, _MORE = 15, 30
#: The share of what a person watches that is of the two genres that they like.
_OF_TASTE = 0.9
#: 2026-01-01, the day before which all of it happens, and the seconds of a year.
_END, _YEAR = 1_767_225_600, 31_536_000
#: What follows what, as a share of the films that were looked at; the value says how much it tells.
_EVENTS = (("Click", 1.0, 1.0), ("Watch", 0.7, 3.0), ("Purchase", 0.25, 5.0))
#: Each genre, with the words that its films are named by.
_GENRES = {
    "Action": ("Last Strike", "Iron Chase", "Steel Fist", "Burning Bridge", "Rogue Agent"),
    "Animation": ("Little Fox", "Paper Moon", "Singing Robot", "Brave Teapot", "Cloud Painter"),
    "Comedy": ("Wrong Wedding", "Clumsy Waiter", "Funny Uncle", "Lost Trousers", "Noisy Neighbour"),
    "Crime": ("Silent Witness", "Cold Alibi", "Seventh Safe", "Crooked Judge", "Missing Ledger"),
    "Drama": ("Long Goodbye", "Empty House", "Bitter Harvest", "Distant Daughter", "Broken Vow"),
    "Horror": ("Hollow Cellar", "Crawling Fog", "Pale Nurse", "Whispering Well", "Rotten Orchard"),
    "Musical": ("Golden Chorus", "Dancing Baker", "Midnight Melody", "Tap Parade", "Velvet Voice"),
    "Romance": ("Summer Letter", "Second Kiss", "Harbour Promise", "Blue Ribbon", "Secret Garden"),
    "Sci-Fi": ("Orbit Nine", "Quantum Door", "Martian Winter", "Android Heart", "Fading Star"),
    "Western": ("Dusty Saddle", "Red Canyon", "Lone Sheriff", "Silver Spur", "Wild Mesa"),
}
_PLACES = ("in Paris", "of the North", "at Dawn", "Returns", "and the Stranger", "Forever", "at Sea", "Reborn")
_TIERS, _AGES = ("Basic", "Premium"), ("18-24", "25-34", "35-54", "55+")


def made() -> Dataset:
    """Make the data: 400 films with titles, genres and years, 600 people, and what they clicked, watched and bought."""
    # The legacy generator is frozen, so that its numbers are the same with every version of NumPy.
    random = np.random.RandomState(_SEED)
    genre_of, items = _films(random)
    first, second, users = _people(random)
    interactions = _events(random, genre_of, items["ITEM_ID"].to_numpy(), first, second)
    # Thirds of the people, by how much they did.
    counts = np.bincount(interactions["USER_ID"].astype(int), minlength=_USERS + 1)[1:]
    place = np.argsort(np.argsort(counts, kind="stable"), kind="stable")
    users["ACTIVITY"] = np.array(["low", "medium", "high"], dtype=object)[place * 3 // _USERS]
    return assemble("data that are made up", interactions, items, users)


def _films(random: np.random.RandomState) -> tuple[np.ndarray, pd.DataFrame]:
    names = list(_GENRES)
    count = len(names) * _FILMS_OF_A_GENRE
    genre_of = np.arange(count) % len(names)
    # Every third film is of a second genre, too.
    others = (genre_of + random.randint(1, len(names), count)) % len(names)
    titles, genres = [], []
    for film, (genre, other) in enumerate(zip(genre_of, others, strict=True)):
        turn = film // len(names)
        words = _GENRES[names[genre]]
        titles.append(f"The {words[turn % len(words)]} {_PLACES[turn // len(words)]}")
        genres.append(names[genre] + (SEPARATOR + names[other] if turn % 3 == 0 else ""))
    years = random.randint(1950, 2026, count)
    return genre_of, pd.DataFrame(
        {
            "ITEM_ID": (np.arange(count) + 1).astype(str).astype(object),
            "TITLE": titles,
            "GENRES": genres,
            "YEAR": years.astype(str).astype(object),
        }
    )


def _people(random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    names = np.array(list(_GENRES), dtype=object)
    first = np.arange(_USERS) % len(names)
    second = (first + random.randint(1, len(names), _USERS)) % len(names)
    return (
        first,
        second,
        pd.DataFrame(
            {
                "USER_ID": (np.arange(_USERS) + 1).astype(str).astype(object),
                "TOP_GENRE": names[first],
                "MEMBERSHIP": np.array(_TIERS, dtype=object)[(random.random_sample(_USERS) < 0.3).astype(int)],
                "AGE_GROUP": np.array(_AGES, dtype=object)[random.randint(0, len(_AGES), _USERS)],
            }
        ),
    )


def _events(
    random: np.random.RandomState, genre_of: np.ndarray, item_ids: np.ndarray, first: np.ndarray, second: np.ndarray
) -> pd.DataFrame:
    films = len(genre_of)
    # The n-th film of a genre is watched about half as often as its first from the fifth on.
    standing = 1 / (5 + np.arange(films) // len(_GENRES)) ** 0.9
    users, items = [], []
    for user in range(_USERS):
        liked = np.where(genre_of == first[user], 2.0, np.where(genre_of == second[user], 1.0, 0.0)) * standing
        chances = _OF_TASTE * liked / liked.sum() + (1 - _OF_TASTE) * standing / standing.sum()
        count = min(_FEWEST + int(random.exponential(_MORE)), _FILMS_OF_A_GENRE + 20)
        items.append(random.choice(films, count, replace=False, p=chances))
        users.append(np.full(count, user))
    whose, item = np.concatenate(users), np.concatenate(items)
    looked_at = _END - random.randint(0, _YEAR, len(whose))
    steps = random.random_sample(len(whose))
    tables = []
    for number, (name, share, value) in enumerate(_EVENTS):
        chosen = steps < share
        tables.append(
            pd.DataFrame(
                {
                    "USER_ID": (whose[chosen] + 1).astype(str).astype(object),
                    "ITEM_ID": item_ids[item[chosen]],
                    "TIMESTAMP": (looked_at[chosen] + 60 * number).astype(str).astype(object),
                    "EVENT_TYPE": name,
                    "EVENT_VALUE": value,
                }
            )
        )
    return pd.concat(tables, ignore_index=True).sort_values("TIMESTAMP", kind="stable", ignore_index=True)
