"""What tasks send through Airflow's statistics, over real waits, loads and checks."""

from __future__ import annotations

import pytest

from airflow_provider_personalize.exceptions import JobFailedError, TooManyRejectsError
from tests.integration.load_support import line, load
from tests.integration.test_jobs import BUCKET, both_halves, context, inference, run_through
from tests.integration.test_output_check import TODAY, YESTERDAY, check
from tests.unit.test_metrics import Backend, use


@pytest.fixture
def sent(monkeypatch):
    """What was sent of a metric: the values, each with its tags."""
    backend = Backend()
    use(monkeypatch, backend)
    return lambda name: [(value, tags) for stat, value, tags in backend.sent if stat == f"personalize.{name}"]


@both_halves
def test_jobs_polls_and_waits_for_a_slot(local, sent, deferrable):
    local.s3(local.region).put_object(Bucket=BUCKET, Key="metrics/users.json", Body=b'{"userId": "1"}\n' * 3)
    local.controls.add_fault("fail_job", times=1, reason="a bad night")
    local.controls.add_fault("limit", times=1, operation="CreateBatchInferenceJob")
    # A prefix of its own: other tests leave their input under the usual one.
    own = {"input_uri": f"s3://{BUCKET}/metrics/", "num_results": 2}
    waits = {**own, "deferrable": deferrable, "wait_for_completion": True}
    with pytest.raises(JobFailedError):
        run_through(inference(local, **waits), context())
    run_through(inference(local, **waits), context())
    ended = sent("job.duration")
    assert [tags for _, tags in ended] == [
        {"kind": "BatchInferenceJob", "state": state} for state in ("failed", "succeeded")
    ]
    assert all(0 < seconds.total_seconds() < 600 for seconds, _ in ended)
    [(seconds, tags)] = sent("quota_wait.duration")
    assert tags == {"kind": "BatchInferenceJob", "outcome": "slot"}
    assert 0 < seconds.total_seconds() < 600
    assert {tags["operation"] for _, tags in sent("polls")} == {"DescribeBatchInferenceJob"}
    assert (sent("input.lines")[0][0], sent("input.results")[0][0]) == (3, 6)


@pytest.mark.parametrize("target", ["sqlite"], indirect=True)
def test_loads_and_checks(target, output, sent):
    load(target, output.write(line("u", "a", "b")), write_mode="replace_slice", extra_columns=YESTERDAY)
    load(target, output.write(line("u", "a", "c"), "no JSON"), **slice_of(TODAY), max_reject_rate=0.5)
    tag = {"target": "SqliteTarget"}
    assert sent("load.lines") == [(1, tag), (2, tag)]
    assert sent("load.rows") == [(2, tag), (2, tag)]
    assert sent("load.rejects") == [(0, tag), (1, tag)]
    assert [tags for _, tags in sent("load.duration")] == [tag, tag]
    with pytest.raises(TooManyRejectsError):
        load(target, output.write("no JSON"), **slice_of(TODAY))
    assert sent("load.rejects")[2:] == [(1, tag)]
    assert len(sent("load.duration")) == 2

    target.execute("CREATE TABLE people (user_id varchar(9))")
    target.execute("INSERT INTO people VALUES ('u'), ('v')")
    check(target, extra_columns=TODAY, input_sql="SELECT user_id FROM people")
    table = {"table": "recs"}
    assert sent("check.rows") == [(2, table)]
    assert sent("check.entity_coverage") == [(0.5, table)]
    assert sent("check.overlap") == [(0.5, table)]
    assert sent("check.catalog_coverage") == []


def slice_of(values):
    return {"write_mode": "replace_slice", "extra_columns": values}
