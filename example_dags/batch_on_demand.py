"""
### A batch job on demand

For people rather than schedules: **Trigger** opens a form that asks what to make, for whom, and where to put it. No
code, no ARNs. A job costs money and cannot be stopped, so what cannot work is refused before anything is submitted: by
the form, or by the first task, which fails once, with a sentence in its log for each thing that is wrong.

It runs as it is against the local stand-in (`make airflow`). Against AWS, give the connections `aws_default` and
`postgres_default`, and set these Airflow variables.

| variable | what it is |
| --- | --- |
| `personalize_bucket` | the S3 bucket for the jobs' input and output |
| `personalize_role_arn` | the role that Personalize reads and writes that bucket with |
| `personalize_arn_prefix` | what the ARNs of your solutions and filters begin with |

A query of the form only reads, whatever it says, and reads with the rights of the connection `postgres_default`: give
that one no more than it needs.
"""

# ruff: noqa: AIR311 - on Airflow 2, Param comes from where Airflow 3 no longer has it

from __future__ import annotations

import json
import re
from contextlib import closing
from datetime import timedelta
from typing import Any

from airflow_provider_personalize.compat import AirflowFailException
from airflow_provider_personalize.exceptions import PersonalizeError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.input.rows import InputRows
from airflow_provider_personalize.input.validation import InputCheck
from airflow_provider_personalize.operators.batch import (
    PersonalizeCreateBatchInferenceJobOperator,
    PersonalizeCreateBatchSegmentJobOperator,
)
from airflow_provider_personalize.operators.preflight import preflight
from airflow_provider_personalize.service.expressions import filter_placeholders
from airflow_provider_personalize.service.kinds import BATCH_INFERENCE_JOB, BATCH_SEGMENT_JOB
from airflow_provider_personalize.service.recipes import find_recipe
from airflow_provider_personalize.sql.query import database_hook, stream_query
from airflow_provider_personalize.sql.statements import single_statement
from airflow_provider_personalize.transfers.personalize_to_sql import PersonalizeToSqlOperator
from airflow_provider_personalize.transfers.sql_to_personalize import SqlToPersonalizeInputOperator

try:
    from airflow.sdk import DAG, Param, task
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.decorators import task
    from airflow.models.param import Param

AWS = "aws_default"
WAREHOUSE = "postgres_default"

BUCKET = "{{ var.value.get('personalize_bucket', 'personalize-local') }}"
ROLE = "{{ var.value.get('personalize_role_arn', 'arn:aws:iam::123456789012:role/personalize-local') }}"
ARN = "{{ var.value.get('personalize_arn_prefix', 'arn:aws:personalize:us-east-1:123456789012') }}"
FOLDER = f"s3://{BUCKET}/batch_on_demand/{{{{ run_id | replace(':', '') | replace('+', '_') }}}}"
NAME = "^[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}$"

PARAMS = {
    "job": Param(
        "inference",
        type="string",
        title="Kind of job",
        description="Recommendations and related items for what you ask for, or the users who would like it most.",
        enum=["inference", "segment"],
        values_display={"inference": "Recommendations (batch inference)", "segment": "User segments (batch segment)"},
        section="What",
    ),
    "solution": Param(
        "user-personalization",
        type="string",
        title="Solution",
        description="The solution's name in Personalize. Its newest active version is used.",
        pattern=NAME,
        examples=[
            "user-personalization",
            "personalized-ranking",
            "popularity-count",
            "similar-items",
            "item-affinity",
            "item-attribute-affinity",
        ],
        section="What",
    ),
    "num_results": Param(
        10,
        type="integer",
        title="Number of results",
        description="How many items, or users, for each line.",
        minimum=1,
        maximum=5_000_000,
        section="What",
    ),
    "ids_from": Param(
        "query",
        type="string",
        title="Where the ids come from",
        enum=["query", "s3"],
        values_display={"query": "A query", "s3": "Files on S3"},
        section="For whom",
    ),
    "sql": Param(
        "SELECT user_id FROM subscribers WHERE subscribed",
        type=["null", "string"],
        format="multiline",
        title="Query",
        description="Its columns say what a line holds: user_id; user_id and item_list; item_id; or item_attributes.",
        section="For whom",
    ),
    "input_uri": Param(
        None,
        type=["null", "string"],
        title="Folder on S3",
        description="Input that is there already, as s3://bucket/folder/ with the slash at its end.",
        pattern="^s3://[^/]+/.*/$",
        maxLength=256,
        section="For whom",
    ),
    "filter": Param(
        None,
        type=["null", "string"],
        title="Filter",
        description="The filter's name in Personalize.",
        pattern=NAME,
        section="Options",
    ),
    "filter_values": Param(
        None,
        type=["null", "object"],
        title="Values for the filter",
        description='One list for each placeholder of the filter: {"GENRES": ["Comedy", "Drama"]}',
        additionalProperties={"type": "array", "items": {"type": ["string", "number"]}, "minItems": 1},
        propertyNames={"pattern": "^[A-Za-z][A-Za-z0-9_]*$"},
        section="Options",
    ),
    "exploration_weight": Param(
        None,
        type=["null", "number"],
        title="Exploration",
        description="User personalization only: from 0 (what is proven) to 1 (what is new).",
        minimum=0,
        maximum=1,
        section="Options",
    ),
    "table": Param(
        "on_demand",
        type="string",
        title="Table",
        description="The table to load into. It is made if it is missing.",
        pattern="^[A-Za-z_][A-Za-z0-9_]{0,62}$",
        section="Where to",
    ),
    "write_mode": Param(
        "replace_slice",
        type="string",
        title="What to do with the rows that are there",
        enum=["replace_slice", "merge", "append", "replace"],
        values_display={
            "replace_slice": "Replace those with the same label",
            "merge": "Replace those of the same users, items or segments",
            "append": "Keep them",
            "replace": "Replace all",
        },
        section="Where to",
    ),
    "label": Param(
        "on demand",
        type="string",
        title="Label",
        description="Stands in the column label of every row, to tell them from others.",
        minLength=1,
        maxLength=100,
        section="Where to",
    ),
}


def what_is_wrong(params: dict[str, Any]) -> list[str]:
    """Return what does not go together, which the form cannot see, since it checks each field alone."""
    from_query = params["ids_from"] == "query"
    rules = {
        "Query: expected one, since the ids come from a query.": from_query and not (params["sql"] or "").strip(),
        "Query: expected one statement that begins with SELECT or WITH.": (
            from_query
            and bool((params["sql"] or "").strip())
            and not re.match(r"(\s|--.*\n|\()*(SELECT|WITH)\b", params["sql"], re.IGNORECASE)
        ),
        "Folder on S3: expected one, since the ids come from files on S3.": not from_query and not params["input_uri"],
        "Folder on S3: leave it empty, since the ids come from a query, or choose files on S3.": (
            from_query and bool(params["input_uri"])
        ),
        "Values for the filter: name the filter that they are for.": bool(params["filter_values"])
        and not params["filter"],
        "Values for the filter: leave them out, since each line of the files on S3 has its own.": (
            bool(params["filter_values"]) and not from_query
        ),
        "Exploration: leave it empty for user segments, which have none.": (
            params["exploration_weight"] is not None and params["job"] == "segment"
        ),
    }
    return [sentence for sentence, broken in rules.items() if broken]


def what_is_refused(asked: dict[str, Any], arn: str, written: dict[str, Any]) -> list[str]:
    """Return what the service or the database would refuse: a solution, a filter, the folder or the query."""
    wrong, hook, recipe = [], PersonalizeHook(aws_conn_id=AWS), None
    kind = BATCH_INFERENCE_JOB if asked["job"] == "inference" else BATCH_SEGMENT_JOB
    request: dict[str, Any] = {"numResults": asked["num_results"], "batchInferenceJobConfig": written["config"]}
    try:
        request["solutionVersionArn"] = hook.newest_active_version(f"{arn}:solution/{asked['solution']}")
        version = hook.conn.describe_solution_version(solutionVersionArn=request["solutionVersionArn"])
        recipe = find_recipe(version["solutionVersion"].get("recipeArn", ""))
    except PersonalizeError as error:
        wrong.append(f"Solution: {error}")
    placeholders = frozenset(written["parameters"])
    if asked["filter"]:
        request["filterArn"] = f"{arn}:filter/{asked['filter']}"
        try:
            found = hook.conn.describe_filter(filterArn=request["filterArn"])["filter"]
            placeholders = filter_placeholders(found.get("filterExpression", ""))
        except hook.conn.exceptions.ResourceNotFoundException as error:
            wrong.append(f"Filter: {error}")
    if wrong:
        return wrong
    if asked["ids_from"] == "s3":
        request["jobInput"] = {"s3DataSource": {"path": asked["input_uri"]}}
        try:
            preflight(hook, kind, request, whole=False)
        except PersonalizeError as error:
            wrong.append(str(error))
        return wrong
    if placeholders != frozenset(written["parameters"]):
        wanted, given = (", ".join(sorted(names)) or "none" for names in (placeholders, written["parameters"]))
        wrong.append(f"Values for the filter: expected values for {wanted}, got values for {given}.")
    try:
        check = InputCheck(recipe, placeholders=placeholders)
        check.check_request(kind, request)
        check.raise_for_problems()
    except PersonalizeError as error:
        wrong.append(str(error))
    return wrong or what_the_query_lacks(written, recipe)


def what_the_query_lacks(written: dict[str, Any], recipe: Any) -> list[str]:
    """Run the query as far as its first rows, and return why they cannot be the input."""
    try:
        with stream_query(database_hook(WAREHOUSE), written["sql"], written["parameters"]) as rows:
            lines = InputRows(rows.columns, filter_values=written["filter_values"], recipe=recipe)
            first = next(iter(rows), None)
            if first is None:
                return ["Query: expected at least one row, got none."]
            lines.encode(first.rows())
    except Exception as error:
        # The names that every driver has for what another try would not heal.
        refusals = {"ProgrammingError", "DataError", "InternalError", "NotSupportedError", PersonalizeError.__name__}
        if not refusals & {base.__name__ for base in type(error).__mro__}:
            raise
        return [f"Query: {str(error).removeprefix('sql: ').strip()}"]
    return []


def alone(sql: str) -> str:
    """Return the query without a trailing semicolon or comment, so that it can be put in brackets."""
    with closing(database_hook(WAREHOUSE).get_conn()) as connection:
        try:
            return single_statement(sql, connection, parameter="Query")
        except PersonalizeError as error:
            refuse([str(error)])
            raise


def refuse(wrong: list[str]) -> None:
    """Fail, without a retry, where something is wrong."""
    if wrong:
        raise AirflowFailException("Nothing was submitted. Please trigger again:\n" + "\n".join(wrong)) from None


with DAG(
    dag_id="batch_on_demand",
    description="Recommendations or segments for whom you like, asked for in a form",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    params=PARAMS,
    tags=["personalize", "example"],
):

    @task(multiple_outputs=True)
    def check(arn: str = "", params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Refuse what cannot work; return the query with the filter's values, and the exploration settings."""
        asked = dict(params or {})
        refuse(what_is_wrong(asked))
        # The values travel as parameters of the query: each becomes a column, the same in all rows.
        values = {name: json.dumps(given) for name, given in (asked["filter_values"] or {}).items()}
        columns = "".join(f', CAST(%({name})s AS text) AS "{name}"' for name in values)
        query = asked["sql"] or ""
        if values:
            query = alone(query).replace("%", "%%")
            query = f"SELECT asked.*{columns} FROM ({query}\n) AS asked"  # noqa: S608 - whoever may trigger may ask
        weight = asked["exploration_weight"]
        written = {
            "sql": query,
            "parameters": values,
            "filter_values": {name: name for name in values},
            "config": {} if weight is None else {"itemExplorationConfig": {"explorationWeight": str(weight)}},
        }
        refuse(what_is_refused(asked, arn, written))
        return written

    @task.branch
    def where_from(ids_from: str) -> str:
        """Write the query's ids, or take the files that are there."""
        return "write_input" if ids_from == "query" else "which_job"

    @task.branch(trigger_rule="none_failed")
    def which_job(job: str) -> str:
        """Go on with the job that was asked for."""
        return job

    checked = check(ARN)
    source = where_from("{{ params.ids_from }}")
    job = which_job("{{ params.job }}")

    write_input = SqlToPersonalizeInputOperator(
        task_id="write_input",
        sql=checked["sql"],
        parameters=checked["parameters"],
        filter_values=checked["filter_values"],
        sql_conn_id=WAREHOUSE,
        s3_uri=f"{FOLDER}/input/",
        aws_conn_id=AWS,
    )

    request: dict[str, Any] = {
        "solution_arn": f"{ARN}:solution/{{{{ params.solution }}}}",
        "filter_arn": f"{{% if params.filter %}}{ARN}:filter/{{{{ params.filter }}}}{{% endif %}}",
        "input_uri": "{{ params.input_uri if params.ids_from == 's3' else ti.xcom_pull('write_input') }}",
        "output_uri": f"{FOLDER}/output/",
        "num_results": "{{ params.num_results }}",
        "role_arn": ROLE,
        "validate_input": "whole",
        "deferrable": True,
        # Somebody is waiting for it.
        "poll_interval": 10,
        "aws_conn_id": AWS,
    }
    inference = PersonalizeCreateBatchInferenceJobOperator(
        task_id="inference", batch_inference_job_config=checked["config"], **request
    )
    segment = PersonalizeCreateBatchSegmentJobOperator(task_id="segment", **request)

    load = PersonalizeToSqlOperator(
        task_id="load",
        job_arn="{{ ti.xcom_pull(['inference', 'segment']) | select | first }}",
        sql_conn_id=WAREHOUSE,
        table="{{ params.table }}",
        write_mode="{{ params.write_mode }}",
        extra_columns={"label": "{{ params.label }}"},
        trigger_rule="none_failed_min_one_success",
        aws_conn_id=AWS,
    )

    checked >> source >> [write_input, job]
    write_input >> job >> [inference, segment] >> load
