"""The answer to each line of a batch job's input."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.local import catalog
from airflow_provider_personalize.local.errors import RecordError
from airflow_provider_personalize.local.expressions import parse_item_attributes
from airflow_provider_personalize.local.filters import Filter, check_column
from airflow_provider_personalize.local.guard import decode_json
from airflow_provider_personalize.local.jobs import Job
from airflow_provider_personalize.local.recommend import Ranked, Recommender
from airflow_provider_personalize.service.kinds import BATCH_SEGMENT_JOB

DEFAULT_RESULTS = 25
THEMES = "THEME_GENERATION"


def dump(value: Any, *, spaced: bool) -> bytes:
    """
    Write JSON as the service was recorded to: with spaces in segments, without them elsewhere, in UTF-8.

    :param value: What to write.
    :param spaced: Whether to put a space after commas and colons.
    """
    separators = (", ", ": ") if spaced else (",", ":")
    try:
        return json.dumps(value, ensure_ascii=False, separators=separators, allow_nan=False).encode()
    except UnicodeEncodeError:
        # Half a surrogate pair is not UTF-8; escaped, it comes through.
        return json.dumps(value, separators=separators).encode()


class LineAnswerer:
    """
    Answers the lines of one job.

    :param job: The job.
    :param recommender: Who knows the answers.
    """

    def __init__(self, job: Job, recommender: Recommender) -> None:
        self.recommender = recommender
        self.data = recommender.data
        if job.recipe is None:
            raise TypeError(f"Expected a batch job, which has a recipe, got {job.arn}.")
        self.recipe = job.recipe
        self.segments = job.kind is BATCH_SEGMENT_JOB
        self.count = int(job.request.get("numResults") or DEFAULT_RESULTS)
        self.themes = job.request.get("batchInferenceJobMode") == THEMES
        config = job.request.get("batchInferenceJobConfig") or {}
        # Assumption: itemExplorationConfig, and the influence of FRESHNESS, change nothing here.
        self.popularity_weight = float((config.get("rankingInfluence") or {}).get("POPULARITY", 0))
        self.filter = Filter(job.filter_expression, self.data) if job.filter_expression else None
        fails_records = job.fault is not None and job.fault.fault == "fail_records"
        self.fail_every = job.fault.every if job.fault and fails_records else 0
        self.fail_reason = (job.fault.reason if job.fault else "") or "Internal error: failed on request."
        self.answered = 0

    def answer(self, line: bytes) -> bytes:
        """
        Answer one line; what is wrong with it becomes the ``error`` of its output.

        :param line: The line, without its end.
        """
        self.answered += 1
        record: Any = None
        try:
            record = self._parsed(line)
            self._check(record)
            if self.segments:
                return self._segment_line(record, self._users(record))
            return dump({"input": record, "output": self._items(record), "error": None}, spaced=False)
        except (RecordError, InvalidRequestError) as error:
            # Assumption: the input of a line that is not JSON is echoed as text.
            echoed = line.decode("utf-8", "replace") if record is None else record
            output: dict[str, Any] = {"usersList" if self.segments else "recommendedItems": []}
            message = error.message if error.message.startswith("Internal") else f"User error: {error.message}"
            return dump({"input": echoed, "output": output, "error": message}, spaced=self.segments)

    @staticmethod
    def _parsed(line: bytes) -> dict[str, Any]:
        try:
            record = decode_json(line)
            # A number beyond all floats is JSON, and cannot be echoed; nor can what only just was not too deep.
            json.dumps([[record]], allow_nan=False)
        except (ValueError, RecursionError):
            raise RecordError("The record is not valid JSON") from None
        if not isinstance(record, dict):
            raise RecordError("The record is not a JSON object")
        return record

    def recommend(self, record: dict[str, Any]) -> dict[str, Any]:
        """
        Answer one question about items.

        :param record: The question, as a line of input has it.
        :raises RecordError: if a field is missing.
        :raises InvalidRequestError: if a value for the filter is.
        """
        self._check(record)
        return self._items(record)

    def _check(self, record: dict[str, Any]) -> None:
        missing = [
            key
            for key in self.recipe.required
            if not isinstance(record.get(key), list if key == "itemList" else str) or not record[key]
        ]
        if missing:
            # The form of this text is recorded.
            raise RecordError(f"Required fields for the provided recipe are {', '.join(self.recipe.required)}")
        if self.fail_every and (self.answered - 1) % self.fail_every == 0:
            raise RecordError(self.fail_reason)

    def _segment_line(self, record: dict[str, Any], users: Ranked) -> bytes:
        # Millions of ids are joined, not dumped one by one. Recorded lists have no spaces, all around them has.
        ids = b",".join(self.data.users.json_ids[users.positions].tolist())
        echoed = dump(record, spaced=True)
        return b"".join((b'{"input": ', echoed, b', "output": {"usersList": [', ids, b']}, "error": null}'))

    # What the recipes answer

    def _users(self, record: dict[str, Any]) -> Ranked:
        allowed = self._allowed(record)
        if self.recipe is catalog.ITEM_AFFINITY:
            # Assumption: an item that the data do not hold has an empty segment.
            item = self.data.items.index.get(record["itemId"])
            items = np.array([] if item is None else [item], dtype=np.int64)
        else:
            matching = np.ones(len(self.data.items), dtype=bool)
            for condition in parse_item_attributes(record["itemAttributes"]):
                check_column(self.data.items, condition)
                matching &= self.data.items.where(condition.column, condition.holds)
            items = np.flatnonzero(matching)
        return self.recommender.users_for(items, self.count, allowed)

    def _items(self, record: dict[str, Any]) -> dict[str, Any]:
        allowed = self._allowed(record)
        if self.recipe is catalog.POPULARITY or self.recipe.type == "POPULAR_ITEMS":
            return {"recommendedItems": self._item_ids(self.recommender.popular(self.count, allowed))}
        if self.recipe.type == "PERSONALIZED_RANKING":
            return self._ranking(record, allowed)
        if self.recipe.type == "RELATED_ITEMS":
            related = self._related(record["itemId"], allowed)
            return self._themed(related) if self.themes else {"recommendedItems": self._item_ids(related)}
        # Assumption: what a user has met is left out, unless a filter speaks of interactions itself.
        hide_known = self.filter is None or not self.filter.about_interactions
        return self._scored(
            self.recommender.for_user(
                record["userId"],
                self.count,
                allowed,
                hide_known=hide_known,
                popularity_weight=self.popularity_weight,
            )
        )

    def _related(self, item_id: str, allowed: np.ndarray | None) -> Ranked:
        item = self.data.items.index.get(item_id)
        if item is not None and self.recipe is catalog.SEMANTIC_SIMILARITY:
            return self.recommender.alike(item, self.count, allowed)
        if item is None or not self.recommender.popularity[item]:
            # Assumption: an item without interactions is given popular ones.
            return self.recommender.popular(self.count, allowed)
        if self.recipe is catalog.SIMS:
            return self.recommender.together(item, self.count, allowed)
        return self.recommender.similar(item, self.count, allowed)

    def _ranking(self, record: dict[str, Any], allowed: np.ndarray | None) -> dict[str, Any]:
        # What is no text is no item, and stands for itself.
        wanted = list({json.dumps(id_): id_ for id_ in record["itemList"]}.values())
        index = self.data.items.index
        positions = [index[id_] for id_ in wanted if isinstance(id_, str) and id_ in index]
        if allowed is not None:
            positions = [position for position in positions if allowed[position]]
        output = self._scored(self.recommender.rank(record["userId"], np.array(positions, dtype=np.int64)))
        # Assumption: items that the data do not hold come last, with a score of 0, and no filter touches them.
        unknown = [id_ for id_ in wanted if not isinstance(id_, str) or id_ not in index]
        output["recommendedItems"] += unknown
        output["scores"] += [0.0] * len(unknown)
        return output

    def _themed(self, related: Ranked) -> dict[str, Any]:
        # Assumption: a theme is named after the commonest genres, and an item's relevance is its share of them, and a
        # little of its place; the service has a language model write the one and judge the other. The range is
        # documented: from about 0.6 to -0.1.
        genres = [
            self.data.items.cell("GENRES", int(position)) if "GENRES" in self.data.items.columns else frozenset[str]()
            for position in related.positions
        ]
        counts = Counter(genre for item in genres for genre in sorted(item))
        top = [genre for genre, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:2]]
        nearness = 1 - np.arange(len(genres)) / max(len(genres), 1)
        if top:
            fitting = np.array([len(item & set(top)) / len(top) for item in genres])
            nearness = (6 * fitting + nearness) / 7
        relevance = np.round(0.7 * nearness - 0.1, 3)
        order = np.argsort(-relevance, kind="stable")
        return {
            "recommendedItems": self._item_ids(Ranked(related.positions[order])),
            "theme": f"{' and '.join(top)} favourites" if top else "Chosen alike",
            "itemsThemeRelevanceScores": relevance[order].tolist(),
        }

    def _item_ids(self, ranked: Ranked) -> list[str]:
        ids: list[str] = self.data.items.ids[ranked.positions].tolist()
        return ids

    def _scored(self, ranked: Ranked) -> dict[str, Any]:
        scores = [] if ranked.scores is None else np.round(ranked.scores.astype(np.float64), 7).tolist()
        return {"recommendedItems": self._item_ids(ranked), "scores": scores}

    def _allowed(self, record: dict[str, Any]) -> np.ndarray | None:
        """Return which items or users the job's filter lets through for a line, None where it has no filter."""
        return None if self.filter is None else self.filter.mask(record)
