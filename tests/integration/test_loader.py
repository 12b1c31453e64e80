"""The loader's machinery with a target that is no database: what the protocol asks for is all that it needs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from airflow_provider_personalize.exceptions import InvalidRequestError, TooManyRejectsError
from airflow_provider_personalize.output.rows import Batch, Column, Reject
from airflow_provider_personalize.s3.objects import objects_at
from airflow_provider_personalize.targets.base import Capabilities, Target
from airflow_provider_personalize.targets.counts import LoadCounts, settle
from airflow_provider_personalize.targets.loader import Loader, LoadResult, publish_parts
from airflow_provider_personalize.targets.plan import LoadPlan
from tests.integration.load_support import Output, line


class JsonLinesFolder:
    """A folder that takes rows as JSON Lines: parts are staged in ``staged/``, and published by a rename."""

    capabilities = Capabilities(frozenset({"replace", "append"}), all_or_nothing=True, parts=True)

    def __init__(self, folder: Path, plan: LoadPlan) -> None:
        self.folder, self.plan = folder, plan
        self.staged, self.published = folder / "staged", folder / "published"
        self.rejects_kept_in = str(folder / "rejects")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def prepare(self, columns: tuple[Column, ...]) -> None:
        self.columns = columns
        for folder in (self.staged, self.published, self.folder / "rejects"):
            folder.mkdir(parents=True, exist_ok=True)

    def loaded_before(self) -> LoadCounts | None:
        note = self.folder / "loaded.json"
        found = json.loads(note.read_text()) if note.exists() else {}
        before = found.get(self.plan.source) if self.plan.write_mode == "append" else None
        return LoadCounts(*before) if before else None

    def stage(self, part: int, batches: Iterator[Batch], rejects: Iterable[Reject]) -> None:
        names = [*(column.name for column in self.columns), *self.plan.extra]
        with (self.staged / f"{part}.jsonl").open("w") as file:
            for row in (row for batch in batches for row in batch.rows(self.columns)):
                file.write(json.dumps(dict(zip(names, (*row, *self.plan.extra.values()), strict=True))) + "\n")
        lines = [json.dumps(reject._asdict()) + "\n" for reject in rejects]
        (self.folder / "rejects" / f"{part}.jsonl").write_text("".join(lines))

    def publish(self, counts: LoadCounts) -> None:
        if self.plan.write_mode == "replace":
            for path in self.published.iterdir():
                path.unlink()
        number = len(list(self.published.iterdir()))
        for path in self.staged.iterdir():
            path.rename(self.published / f"{number}-{path.name}")
        (self.folder / "loaded.json").write_text(json.dumps({self.plan.source: counts}))

    def discard(self) -> None:
        for path in self.staged.iterdir():
            path.unlink()


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for path in sorted(folder.glob("*.jsonl")) for text in path.read_text().splitlines()]


def items(target: JsonLinesFolder) -> list[tuple[str, int, str]]:
    return [(row["user_id"], row["rank"], row["item_id"]) for row in read(target.published)]


def loader(output: Output, name: str | None = None) -> Loader:
    uri = (output.folder / name).as_uri() if name else output.uri
    return Loader(objects_at(lambda: None, uri), lambda: None, log=logging.getLogger(__name__), keep_rejects=True)


def load(target: Target, output: Output) -> LoadResult:
    with loader(output) as loading:
        columns = target.plan.columns(loading.kind())
        with target as entered:
            return loading.load(entered, columns)


def test_a_folder_is_loaded_by_the_loaders_own_machinery(tmp_path, output):
    target = JsonLinesFolder(tmp_path / "target", LoadPlan("job", extra={"run_date": "2026-11-22"}))
    for item in ("a", "b"):
        output.write(line("u", item))
        assert load(target, output) == (LoadCounts(1, 1, 0), True)
        assert read(target.published) == [
            {"user_id": "u", "rank": 1, "item_id": item, "score": 1.0, "run_date": "2026-11-22"}
        ]


def test_too_many_rejects_leave_what_was_there_and_are_kept(tmp_path, output):
    target = JsonLinesFolder(tmp_path / "target", LoadPlan("job", max_reject_rate=0.4))
    output.write(line("u", "a"))
    load(target, output)
    output.write("no JSON", line("u", "b"))
    with pytest.raises(TooManyRejectsError, match="target/rejects") as caught:
        load(target, output)
    assert (caught.value.rejects, caught.value.lines, len(caught.value.examples)) == (1, 2, 1)
    assert items(target) == [("u", 1, "a")]
    assert [reject["text"] for reject in read(target.folder / "rejects")] == ["no JSON"]


def test_as_many_rejects_as_are_allowed_are_not_too_many():
    """Which 29 of 100 would be if 0.29 * 100, a little less than 29, were the most."""
    for lines in range(1, 300):
        for rejects in range(lines + 1):
            settle(LoadCounts(lines, 0, rejects), rejects / lines)
            if rejects:
                with pytest.raises(TooManyRejectsError):
                    settle(LoadCounts(lines, 0, rejects), (rejects - 1) / lines)
    settle(LoadCounts(), 0.0)


def test_a_source_is_appended_once(tmp_path, output):
    output.write(line("u", "a"))
    target = JsonLinesFolder(tmp_path / "target", LoadPlan("job", write_mode="append"))
    assert load(target, output) == (LoadCounts(1, 1, 0), True)
    assert load(target, output) == (LoadCounts(1, 1, 0), False)
    load(JsonLinesFolder(tmp_path / "target", LoadPlan("another job", write_mode="append")), output)
    assert items(target) == [("u", 1, "a"), ("u", 1, "a")]


@pytest.mark.parametrize(("rate", "published"), [(0.25, True), (0.24, False)])
def test_the_rejects_of_all_parts_are_judged_together(tmp_path, output, rate, published):
    """One part alone has rejected half of its lines; it counts as what it is among all of them."""
    output.write("no JSON", line("u", "a"), name="0.json.out")
    output.write(line("v", "b"), line("w", "c"), name="1.json.out")
    plan = LoadPlan("job", max_reject_rate=rate)
    counts = []
    for part, name in enumerate(("0.json.out", "1.json.out")):
        # As in a task of its own: each part has another target, and a retry stages the same again.
        for _ in range(2):
            with loader(output, name) as loading, JsonLinesFolder(tmp_path / "target", plan) as target:
                columns = plan.columns(loading.kind())
                staged = loading.stage(target, columns, part)
        counts.append(staged)
        assert items(target) == []
    assert counts == [LoadCounts(2, 1, 1), LoadCounts(2, 2, 0)]
    with JsonLinesFolder(tmp_path / "target", plan) as target:
        if published:
            assert publish_parts(target, columns, counts) == (LoadCounts(4, 3, 1), True)
        else:
            with pytest.raises(TooManyRejectsError, match="1 of 4 lines"):
                publish_parts(target, columns, counts)
    assert sorted(items(target)) == ([("u", 1, "a"), ("v", 1, "b"), ("w", 1, "c")] if published else [])


def test_what_a_target_cannot_do_is_refused(tmp_path, output):
    output.write(line("u", "a"))
    with pytest.raises(InvalidRequestError, match="write_mode: expected one of append, replace for this target"):
        load(JsonLinesFolder(tmp_path / "target", LoadPlan("job", write_mode="merge")), output)
    assert not (tmp_path / "target").exists()
