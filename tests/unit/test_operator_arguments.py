"""Each operator says what is wrong with its arguments when the DAG is parsed, or before it does anything."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

pytest.importorskip("airflow", reason="the classes under test are Airflow's")

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.operators.batch import (
    PersonalizeCreateBatchInferenceJobOperator,
    PersonalizeCreateBatchSegmentJobOperator,
)
from airflow_provider_personalize.operators.output_check import PersonalizeOutputCheckOperator
from airflow_provider_personalize.sensors.batch import (
    PersonalizeBatchInferenceJobSensor,
    PersonalizeBatchSegmentJobSensor,
    PersonalizeJobSensor,
)
from airflow_provider_personalize.service.kinds import KINDS
from airflow_provider_personalize.transfers import sql_to_personalize
from airflow_provider_personalize.transfers.personalize_to_sql import PersonalizeToSqlOperator
from airflow_provider_personalize.transfers.sql_to_personalize import SqlToPersonalizeInputOperator

BASE = "arn:aws:personalize:us-east-1:123456789012:"
VERSION, SOLUTION, JOB = f"{BASE}solution/s/1", f"{BASE}solution/s", f"{BASE}batch-inference-job/nightly"
GOOD = {
    PersonalizeCreateBatchInferenceJobOperator: {
        "solution_version_arn": VERSION,
        "role_arn": "arn:aws:iam::123456789012:role/personalize",
        "input_uri": "s3://shop/in/",
        "output_uri": "s3://shop/out/",
    },
    PersonalizeBatchInferenceJobSensor: {"job_arn": JOB},
    PersonalizeBatchSegmentJobSensor: {"job_arn": f"{BASE}batch-segment-job/nightly"},
    PersonalizeToSqlOperator: {"job_arn": JOB, "sql_conn_id": "shop", "table": "recs"},
    SqlToPersonalizeInputOperator: {"sql": "SELECT 1 AS user_id", "sql_conn_id": "shop", "s3_uri": "s3://shop/in/"},
    PersonalizeOutputCheckOperator: {"sql_conn_id": "shop", "table": "recs"},
}
GOOD[PersonalizeCreateBatchSegmentJobOperator] = GOOD[PersonalizeCreateBatchInferenceJobOperator]
INFERENCE, SEGMENT = PersonalizeCreateBatchInferenceJobOperator, PersonalizeCreateBatchSegmentJobOperator
LOAD, PREPARE, CHECK = PersonalizeToSqlOperator, SqlToPersonalizeInputOperator, PersonalizeOutputCheckOperator


def make(cls, **changes):
    return cls(task_id="example", **{**GOOD[cls], **changes})


WRONG = [
    (INFERENCE, {"if_job_exists": "maybe"}, "if_job_exists: expected one of reuse, fail, new, got 'maybe'"),
    (INFERENCE, {"validate_input": "all"}, "validate_input: expected one of off, sample, whole, got 'all'"),
    (INFERENCE, {"validate_input": None}, "validate_input: expected a value, got None"),
    (INFERENCE, {"solution_arn": SOLUTION}, "exactly one of solution_version_arn and solution_arn"),
    (INFERENCE, {"solution_version_arn": None}, "exactly one of solution_version_arn and solution_arn, got None and N"),
    (INFERENCE, {"solution_version_arn": SOLUTION}, "of a solution: give it as solution_arn"),
    (INFERENCE, {"solution_version_arn": None, "solution_arn": VERSION}, "give it as solution_version_arn"),
    (INFERENCE, {"solution_version_arn": f"{BASE}campaign/c"}, "got one of a campaign"),
    (INFERENCE, {"solution_version_arn": "arn:aws:personalize:::solution/s/1"}, "without region or account"),
    (INFERENCE, {"filter_arn": SOLUTION}, "filter_arn: expected an ARN like"),
    (INFERENCE, {"role_arn": "arn:aws:iam::123456789012:user/me"}, "role_arn: expected the ARN of the IAM role"),
    (INFERENCE, {"input_kms_key_arn": "alias/in"}, "input_kms_key_arn: expected the ARN of a KMS key"),
    (INFERENCE, {"output_kms_key_arn": "arn:aws:kms:us-east-1:123456789012:alias/a"}, "output_kms_key_arn: .*no alias"),
    (INFERENCE, {"input_uri": "https://shop/in/"}, "input_uri: expected an S3 URI"),
    (INFERENCE, {"output_uri": "s3://shop/" + "x" * 250}, "output_uri: expected at most 256 characters"),
    (INFERENCE, {"job_name": "a b"}, "job_name: expected 1 to 63 letters"),
    (INFERENCE, {"job_name": ["a"]}, "job_name: expected text, got the list"),
    (
        INFERENCE,
        {"num_results": 0},
        "num_results: expected a whole number, 1 or more, as the API's numResults is, got 0",
    ),
    (INFERENCE, {"num_results": "many"}, "num_results: .* got 'many'"),
    (SEGMENT, {"num_results": 5_000_001}, "num_results: expected a whole number, 1 to 5,000,000, .* got 5000001"),
    (
        INFERENCE,
        {"batch_inference_job_mode": "THEMES"},
        "batch_inference_job_mode: expected one of BATCH_INFERENCE, TH",
    ),
    (INFERENCE, {"batch_inference_job_mode": "THEME_GENERATION"}, "both or neither"),
    (INFERENCE, {"theme_generation_config": {"fieldsForThemeGeneration": {"itemName": "T"}}}, "both or neither"),
    (
        INFERENCE,
        {"batch_inference_job_config": {"rankingInfluence": {"FRESHNESS": 1.5}}},
        "FRESHNESS: expected a numbe",
    ),
    (INFERENCE, {"tags": ["team"]}, "tags: expected .*got 'team' in a list"),
    (INFERENCE, {"wait_for_completion": "false"}, "wait_for_completion: expected True or False, got the str 'false'"),
    (INFERENCE, {"deferrable": "{{ params.deferrable }}"}, "deferrable: expected True or False"),
    (INFERENCE, {"quota_wait_timeout": "1 h"}, "quota_wait_timeout: expected seconds"),
    (PersonalizeBatchInferenceJobSensor, {"job_arn": "nightly"}, "job_arn: expected an ARN"),
    (PersonalizeBatchInferenceJobSensor, {"job_arn": None}, "job_arn: expected a value, got None"),
    (
        PersonalizeBatchSegmentJobSensor,
        {"job_arn": JOB},
        "job_arn: expected the ARN of a batch-segment-job, got one of",
    ),
    (LOAD, {"write_mode": "upsert"}, "write_mode: expected one of replace, replace_slice, merge, append, got 'upsert'"),
    (LOAD, {"write_mode": "replace_slice"}, "expected extra_columns, got none"),
    (LOAD, {"write_mode": "replace_slice", "extra_columns": {}}, "expected extra_columns, got none"),
    (LOAD, {"job_arn": None}, "exactly one of job_arn and output_uri, got None and None"),
    (LOAD, {"output_uri": "s3://shop/out/"}, "exactly one of job_arn and output_uri"),
    (LOAD, {"job_arn": SOLUTION}, "job_arn: expected the ARN of a batch-inference-job or batch-segment-job"),
    (LOAD, {"job_arn": None, "output_uri": "gs://shop/out/"}, "output_uri: expected 's3://bucket/folder/'"),
    (LOAD, {"job_arn": None, "output_uri": "/data/out/"}, "output_uri: expected 's3://bucket/folder/'"),
    (LOAD, {"max_reject_rate": 50}, "max_reject_rate: expected a share from 0.0 to 1.0, .* got 50"),
    (LOAD, {"max_reject_rate": "0.1"}, "max_reject_rate: expected a share from 0.0 to 1.0, .* got '0.1'"),
    (LOAD, {"max_reject_rate": "{{ params.rate }}"}, "max_reject_rate: expected a share"),
    (LOAD, {"column_names": {"user": "customer"}}, "column_names: expected names among"),
    (LOAD, {"column_names": {"user": "{{ x }}"}}, "column_names: expected names among"),
    (LOAD, {"column_names": ["user_id"]}, "column_names: expected a mapping"),
    (LOAD, {"extra_columns": "run_date=2026-11-22"}, "extra_columns: expected a mapping.*tojson"),
    (LOAD, {"hook_params": "local_infile"}, "hook_params: expected a mapping"),
    (LOAD, {"create_table": "no"}, "create_table: expected True or False"),
    (LOAD, {"table": ""}, "table: expected a value, got ''"),
    (PREPARE, {"s3_uri": "shop/in"}, "s3_uri: expected an S3 URI"),
    (PREPARE, {"recipe": "aws-trending-now"}, "recipe: expected one with batch jobs"),
    (PREPARE, {"recipe": "aws-similar-item"}, "recipe: expected one with batch jobs"),
    (PREPARE, {"max_lines_per_file": 0}, "max_lines_per_file: expected a whole number, 1 or more, got 0"),
    (PREPARE, {"max_lines_per_file": "{{ 5 }}"}, "max_lines_per_file: expected a whole number"),
    (PREPARE, {"filter_values": "GENRES"}, "filter_values: expected a mapping"),
    (PREPARE, {"filter_values": {"GENRES": ["genres"]}}, "filter_values, GENRES: expected text, got the list"),
    (PREPARE, {"parameters": "2026-11-22"}, "parameters: expected a mapping or a list"),
    (PREPARE, {"parameters": 7}, "parameters: expected a mapping or a list, got the int 7"),
    (PREPARE, {"extra_args": ["ACL"]}, "extra_args: expected a mapping"),
    (PREPARE, {"allow_empty": "yes"}, "allow_empty: expected True or False"),
    (CHECK, {"checks": {"row": {"geq_to": 1}}}, "checks: expected figures among"),
    (CHECK, {"checks": {"row": {"geq_to": "{{ n }}"}}}, "checks: expected figures among"),
    (CHECK, {"checks": {"rows": 1}}, "checks: expected conditions for rows"),
    (CHECK, {"warn_checks": {"rows": {"at_least": 1}}}, "warn_checks: expected conditions for rows"),
    (CHECK, {"checks": {"rows": {"geq_to": "many"}}}, "checks: expected numbers to compare rows with"),
    (CHECK, {"checks": {"rows": {"geq_to": float("nan")}}}, "checks: expected numbers to compare rows with"),
    (CHECK, {"checks": {"rows": {"geq_to": True}}}, "checks: expected numbers to compare rows with"),
    (CHECK, {"checks": {"reject_rate": {"leq_to": 0.1}}}, "reject_rate is known only with loaded"),
    (CHECK, {"report_uri": "https://shop/report.html"}, "report_uri: expected"),
    (CHECK, {"report_uri": "gs://shop/report.html"}, "report_uri: expected"),
    (CHECK, {"report_uri": "s3://shop"}, "report_uri: expected"),
    (CHECK, {"loaded": "much"}, "loaded: expected a mapping"),
    (CHECK, {"column_names": {"user": "customer"}}, "column_names: expected names among"),
]


@pytest.mark.parametrize(("cls", "changes", "words"), WRONG)
def test_a_literal_that_is_wrong_is_told_of_when_the_dag_is_parsed(cls, changes, words):
    with pytest.raises(InvalidRequestError, match=words):
        make(cls, **changes)


@pytest.mark.parametrize("cls", GOOD)
def test_what_is_right_passes(cls):
    make(cls)


@pytest.mark.parametrize(
    ("cls", "changes"),
    [
        (INFERENCE, {"theme_generation_config": None, "job_name": None, "tags": {}, "quota_wait_timeout": 0}),
        (PREPARE, {"recipe": "aws-brand-new", "parameters": {}, "s3_uri": "s3://shop/in"}),
        (PREPARE, {"recipe": "aws-semantic-similarity", "parameters": ("a", 1)}),
        (LOAD, {"write_mode": "replace_slice", "extra_columns": {"run_date": "{{ ds }}"}, "max_reject_rate": 1}),
        (LOAD, {"job_arn": None, "output_uri": "file:///data/out/", "column_names": {"score": None}}),
        (CHECK, {"report_uri": "reports/nightly.html", "loaded": {"lines": 1, "rejects": 0}}),
        (CHECK, {"report_uri": "file:///reports/nightly.html", "checks": {"rows": {"geq_to": "1"}}}),
        (CHECK, {"loaded": "{{ x }}", "checks": {"reject_rate": {"leq_to": "{{ params.rate }}"}}}),
    ],
)
def test_what_is_unusual_but_right_passes(cls, changes):
    make(cls, **changes)


@pytest.mark.parametrize("cls", GOOD)
def test_what_is_known_only_when_the_task_runs_passes(cls):
    """Templates and other tasks' output, in every templated parameter at once."""
    with DAG("example", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
        upstream = make(LOAD)
        cls(task_id="templates", **dict.fromkeys(own_fields(cls), "{{ x }}"))
        cls(task_id="outputs", **dict.fromkeys(own_fields(cls), upstream.output))


def own_fields(cls):
    return set(cls.template_fields) - {"aws_conn_id", "region_name", "verify", "botocore_config"}


@pytest.mark.parametrize("cls", GOOD)
def test_a_mapped_task_may_lack_what_it_is_mapped_over(cls):
    with DAG("example", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
        for index, name in enumerate(GOOD[cls]):
            rest = {other: value for other, value in GOOD[cls].items() if other != name}
            cls.partial(task_id=f"mapped{index}", **rest).expand(**{name: [GOOD[cls][name]] * 2})


def test_what_a_task_is_mapped_over_is_checked_when_it_runs():
    """It is made from the values then, and what its constructor raises Airflow would retry."""
    operator = make(INFERENCE, num_results=0, _airflow_from_mapped=True)
    with pytest.raises(InvalidRequestError, match="num_results: expected a whole number, 1 or more"):
        operator.read_arguments()


def test_all_that_is_wrong_is_told_together():
    with pytest.raises(InvalidRequestError) as caught:
        make(LOAD, write_mode="upsert", max_reject_rate=50, job_arn=None, column_names={"user": "u"})
    text = str(caught.value)
    assert text.startswith("Found 4 problems in the arguments")
    for word in ("write_mode", "max_reject_rate", "column_names", "exactly one of job_arn"):
        assert word in text


def rendered(cls, values, *, native, **changes):
    """Render an operator's templates as a task does, then read what came."""
    with DAG(
        "example", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), render_template_as_native_obj=native
    ):
        operator = make(cls, **changes)
    operator.render_template_fields(values)
    operator.read_arguments()
    return operator


SLICE = {"run_date": "2026-11-22", "n": 1}
either_rendering = pytest.mark.parametrize("native", [False, True], ids=["text", "native"])


@either_rendering
@pytest.mark.parametrize("template", ["{{ value | tojson }}", "{{ value }}"])
@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        (INFERENCE, "tags", {"team": "email"}),
        (INFERENCE, "batch_inference_job_config", {"rankingInfluence": {"POPULARITY": 0.5}}),
        (LOAD, "extra_columns", SLICE),
        (LOAD, "column_names", {"user_id": "customer", "score": None}),
        (LOAD, "hook_params", {"local_infile": True}),
        (PREPARE, "filter_values", {"GENRES": "genres"}),
        (PREPARE, "parameters", {"day": "2026-11-22"}),
        (PREPARE, "parameters", ["2026-11-22", 7]),
        (PREPARE, "hook_params", {"local_infile": True}),
        (PREPARE, "extra_args", {"ACL": "private"}),
        (CHECK, "loaded", [{"lines": 10, "rejects": 1}]),
        (CHECK, "checks", {"rows": {"geq_to": 1}}),
        (CHECK, "warn_checks", {"rows": {"geq_to": 1}}),
        (CHECK, "extra_columns", SLICE),
        (CHECK, "previous_columns", SLICE),
        (CHECK, "column_names", {"user_id": "customer", "score": None}),
    ],
)
def test_a_whole_value_that_was_rendered_is_what_was_meant(native, template, cls, name, value):
    operator = rendered(cls, {"value": value}, native=native, **{name: template})
    assert getattr(operator, name) == value


@either_rendering
def test_nothing_that_was_rendered_is_nothing(native):
    names = ("filter_arn", "job_name", "num_results", "tags", "theme_generation_config", "batch_inference_job_mode")
    operator = rendered(INFERENCE, {"value": None}, native=native, **dict.fromkeys(names, "{{ value }}"))
    assert {getattr(operator, name) for name in names} == {None}


def test_what_native_rendering_took_for_a_number_is_its_digits():
    value = {"value": "20261122"}
    operator = rendered(INFERENCE, value, native=True, job_name="{{ value }}", tags={"run": "{{ value }}"})
    assert (operator.job_name, operator.tags) == ("20261122", {"run": "20261122"})
    assert rendered(LOAD, value, native=True, table="{{ value }}").table == "20261122"
    day = rendered(INFERENCE, {"value": date(2026, 11, 22)}, native=True, job_name="{{ value }}")
    assert day.job_name == "2026-11-22"
    with pytest.raises(InvalidRequestError, match=r"job_name: expected text, got the float 100000\.0"):
        rendered(INFERENCE, {"value": "1e5"}, native=True, job_name="{{ value }}")


@pytest.mark.parametrize(
    ("cls", "name", "value", "words"),
    [
        (INFERENCE, "tags", "much", r"tags: expected .*tojson.*got the text 'much'"),
        (INFERENCE, "num_results", "0", "num_results: expected a whole number, 1 or more"),
        (LOAD, "write_mode", "upsert", "write_mode: expected one of"),
        (LOAD, "extra_columns", "[1, 2]", "extra_columns: expected a mapping.*got the list"),
        (LOAD, "job_arn", None, "exactly one of job_arn and output_uri"),
        (CHECK, "checks", '{"row": {"geq_to": 1}}', "checks: expected figures among"),
        (PREPARE, "recipe", "aws-trending-now", "recipe: expected one with batch jobs"),
    ],
)
def test_what_was_rendered_wrong_is_refused(cls, name, value, words):
    with pytest.raises(InvalidRequestError, match=words):
        rendered(cls, {"value": value}, native=False, **{name: "{{ value }}"})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.noun)
def test_a_sensor_of_any_kind_takes_the_arns_of_its_kind_alone(kind):
    """A further sensor is a class that names its kind, and nothing more."""
    sensor = type("Sensor", (PersonalizeJobSensor,), {"resource_kind": kind})
    arns = {
        other: f"arn:aws:personalize:us-east-1:123456789012:{other.arn_type}/{'/'.join('ab'[: other.arn_parts])}"
        for other in KINDS
    }
    message = "expected the ARN of a {}, got one of a {}".format
    assert sensor(task_id="wait", job_arn=arns.pop(kind)).resource_kind is kind
    for other, arn in arns.items():
        with pytest.raises(
            InvalidRequestError, match=message(*(each.words.replace(" ", "-") for each in (kind, other)))
        ):
            sensor(task_id="wait", job_arn=arn)


def test_one_module_has_all_transfers_of_queries():
    """By import and by name, though it loads those of datasets only when they are asked for."""
    for name in sql_to_personalize.__all__:
        assert getattr(sql_to_personalize, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'SqlToNothing'"):
        sql_to_personalize.SqlToNothing  # noqa: B018
