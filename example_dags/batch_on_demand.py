"""
### A batch job on demand

For people rather than schedules: **Trigger** opens a form that asks what to make, for whom, and where to put it. No
code, no ARNs. A job costs money and cannot be stopped, so what cannot work is refused before anything is submitted: by
the first task, which fails once, with a sentence in its log for each thing that is wrong. The last task shows ten of
the rows, and where all of them lie.

It runs as it is against the local stand-in (`make airflow`). Against AWS, give the connections `aws_default` and
`postgres_default`, and set these Airflow variables.

| variable | what it is |
| --- | --- |
| `personalize_bucket` | the S3 bucket for the jobs' input and output |
| `personalize_role_arn` | the role that Personalize reads and writes that bucket with |
| `personalize_arn_prefix` | what the ARNs of your solutions and filters begin with |
| `personalize_max_results` | the most results of one job, all lines together; by default 10,000,000 |

A query of the form only reads, whatever it says, and reads with the rights of the connection `postgres_default`: give
that one no more than it needs.
"""

# ruff: noqa: AIR311 - on Airflow 2, Param comes from where Airflow 3 no longer has it

from __future__ import annotations

import csv
import io
import json
import logging
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
from airflow_provider_personalize.operators.costs import configured_prices, count_batch, log_estimate
from airflow_provider_personalize.operators.preflight import preflight
from airflow_provider_personalize.output.rows import RELATED_ITEMS, USER_RECOMMENDATIONS, USER_SEGMENTS
from airflow_provider_personalize.service.expressions import read_filter
from airflow_provider_personalize.service.kinds import BATCH_INFERENCE_JOB, BATCH_SEGMENT_JOB
from airflow_provider_personalize.service.recipes import ITEM, find_recipe
from airflow_provider_personalize.sql.query import database_hook, stream_query
from airflow_provider_personalize.sql.statements import single_statement
from airflow_provider_personalize.targets.plan import LoadPlan
from airflow_provider_personalize.targets.sql import open_target
from airflow_provider_personalize.transfers.personalize_to_sql import PersonalizeToSqlOperator
from airflow_provider_personalize.transfers.sql_to_personalize import SqlToPersonalizeInputOperator

try:
    from airflow.sdk import DAG, Param, task
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.decorators import task
    from airflow.models.param import Param

log = logging.getLogger(__name__)

AWS = "aws_default"
WAREHOUSE = "postgres_default"

BUCKET = "{{ var.value.get('personalize_bucket', 'personalize-local') }}"
ROLE = "{{ var.value.get('personalize_role_arn', 'arn:aws:iam::123456789012:role/personalize-local') }}"
ARN = "{{ var.value.get('personalize_arn_prefix', 'arn:aws:personalize:us-east-1:123456789012') }}"
FOLDER = f"s3://{BUCKET}/batch_on_demand/{{{{ run_id | replace(':', '') | replace('+', '_') }}}}"
#: The most results of one job, all lines together: what anybody may ask for who can press the button.
MOST = 10_000_000
MOST_RESULTS = f"{{{{ var.value.get('personalize_max_results', {MOST}) }}}}"

# No patterns: what Airflow says of those is JSON Schema. The first task says what is wrong in sentences.
# No sections, since Airflow shows all but one of them shut.
PARAMS = {
    "job": Param(
        "inference",
        type="string",
        title="Kind of job",
        description="Recommendations and related items for what you ask for, or the users who would like it most.",
        enum=["inference", "segment"],
        values_display={"inference": "Recommendations (batch inference)", "segment": "User segments (batch segment)"},
    ),
    "solution": Param(
        "user-personalization",
        type="string",
        title="Solution",
        description="The solution's name in Personalize. Its newest active version is used.",
        examples=[
            "user-personalization",
            "personalized-ranking",
            "popularity-count",
            "similar-items",
            "item-affinity",
            "item-attribute-affinity",
        ],
    ),
    "num_results": Param(
        10,
        type="integer",
        title="Number of results",
        description="How many items, or users, for each line.",
        # The form itself keeps to these two, without a word.
        minimum=1,
        maximum=5_000_000,
    ),
    "ids_from": Param(
        "query",
        type="string",
        title="Where the ids come from",
        enum=["query", "s3"],
        values_display={"query": "A query", "s3": "Files on S3"},
    ),
    "sql": Param(
        "SELECT user_id FROM subscribers WHERE subscribed",
        type=["null", "string"],
        format="multiline",
        title="Query",
        description="Its columns say what a line holds: user_id; user_id and item_list; item_id; or item_attributes.",
    ),
    "input_uri": Param(
        None,
        type=["null", "string"],
        title="Folder on S3",
        description="Input that is there already, as s3://bucket/folder/ with the slash at its end.",
    ),
    "filter": Param(
        None,
        type=["null", "string"],
        title="Filter",
        description="The filter's name in Personalize.",
    ),
    "filter_values": Param(
        None,
        # As text for people; programs may give an object of lists.
        type=["null", "string", "object"],
        format="multiline",
        title="Values for the filter",
        description="One line for each placeholder of the filter: GENRES = Comedy, Drama",
    ),
    "exploration_weight": Param(
        None,
        type=["null", "number"],
        title="Exploration",
        description="User personalization only: from 0 (what is proven) to 1 (what is new).",
        minimum=0,
        maximum=1,
    ),
    "table": Param(
        "on_demand",
        type="string",
        title="Table",
        description="The table to load into. It is made if it is missing.",
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
    ),
    "label": Param(
        "on demand",
        type="string",
        title="Label",
        description="Stands in the column label of every row, to tell them from others.",
    ),
}


def in_a_line(words: Any) -> str:
    """Return values as they stand in the form."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(words if isinstance(words, list) else [words])
    return line.getvalue()


def filter_values_of(text: str | dict[str, Any] | None) -> tuple[dict[str, list[str]], list[str]]:
    """
    Read the values for the filter: a line for each placeholder, with commas between the values.

    :param text: What stands in the form. A value with a comma stands in double quotes.
    :return: The values by placeholder, and what is wrong.
    """
    if isinstance(text, dict):
        text = "\n".join(f"{name} = {in_a_line(words)}" for name, words in text.items())
    values: dict[str, list[str]] = {}
    wrong = []
    for number, line in enumerate((text or "").splitlines(), 1):
        if not line.strip():
            continue
        name, equals, rest = line.partition("=")
        name = name.strip().removeprefix("$")
        given = [word.strip() for word in next(csv.reader([rest], skipinitialspace=True), []) if word.strip()]
        place = f"Values for the filter, line {number}:"
        if not equals or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
            wrong.append(f"{place} expected a placeholder, = and its values, as GENRES = Comedy, Drama; got {line!r}.")
        elif not given:
            wrong.append(f"{place} expected values for {name}, got none.")
        elif name in values:
            wrong.append(f"{place} {name} stands twice; put all of its values into one line.")
        else:
            values[name] = given
    return values, wrong


def what_is_misspelt(params: dict[str, Any]) -> list[str]:
    """Return which fields cannot be right, each by itself."""
    weight = params["exploration_weight"]
    folder = (params["input_uri"] or "").strip()
    name = r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}"
    rules = {
        "Solution: expected a name of letters, digits, - and _, got {solution!r}.": not re.fullmatch(
            name, params["solution"]
        ),
        "Filter: expected a name of letters, digits, - and _, got {filter!r}.": bool(params["filter"])
        and not re.fullmatch(name, params["filter"]),
        "Number of results: expected 1 or more, got {num_results}.": params["num_results"] < 1,
        "Folder on S3: expected s3://bucket/folder/ with the slash at its end, got {input_uri!r}.": bool(folder)
        and not re.fullmatch(r"s3://[^/]+/(.*/)?", folder),
        "Exploration: expected a number from 0 to 1, got {exploration_weight}.": (
            weight is not None and not 0 <= weight <= 1
        ),
        "Table: expected letters, digits and _, got {table!r}; at most 63, and no digit first.": not re.fullmatch(
            r"[A-Za-z_][A-Za-z0-9_]{0,62}", params["table"]
        ),
        "Label: expected 1 to 100 characters, got {label!r}.": not 1 <= len(params["label"].strip()) <= 100,
    }
    return [sentence.format(**params) for sentence, broken in rules.items() if broken]


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


def none_of_that_name(what: str, name: str, there: list[str]) -> str:
    """Return that there is no solution, or filter, of a name, and which there are."""
    return f"{what}: there is none of the name {name!r}. There are: {', '.join(sorted(there)[:20]) or 'none'}."


def what_is_refused(asked: dict[str, Any], arn: str, written: dict[str, Any], most: int) -> list[str]:
    """
    Return what the service or the database would refuse: a solution, a filter, the folder, the query or the table.

    :param asked: The form.
    :param arn: What the ARNs of solutions and filters begin with.
    :param written: What the first task returns. What the job is made of is added to it.
    :param most: The most results of one job.
    """
    hook = PersonalizeHook(aws_conn_id=AWS)
    version, of_filter, wrong = what_is_there(hook, asked, arn)
    if wrong:
        return wrong
    recipe = find_recipe(version.get("recipeArn", ""))
    kind = BATCH_INFERENCE_JOB if asked["job"] == "inference" else BATCH_SEGMENT_JOB
    request: dict[str, Any] = {
        "solutionVersionArn": version["solutionVersionArn"],
        "numResults": asked["num_results"],
        "batchInferenceJobConfig": written["config"],
    }
    if written["config"] and recipe and "user-personalization" not in recipe.name:
        wrong.append(f"Exploration: leave it empty for {recipe.name}; only User-Personalization explores.")
    wrong += what_the_table_lacks(asked, recipe)
    if asked["ids_from"] == "s3":
        request["jobInput"] = {"s3DataSource": {"path": asked["input_uri"]}}
        request |= {"filterArn": of_filter["filterArn"]} if of_filter else {}
        try:
            seen = preflight(hook, kind, request, whole=False)
            written["counts"] = count_batch(hook, request, seen=seen, max_lines=None, max_results_total=most)
        except PersonalizeError as error:
            wrong.append(str(error))
        return wrong
    check, placeholders = InputCheck(recipe), read_filter(of_filter.get("filterExpression", ""))
    check.check_request(kind, request)
    check.check_filter(kind, placeholders)
    wrong += map(str, check.problems)
    given, known = frozenset(written["parameters"]), placeholders.required | placeholders.optional
    if not placeholders.required <= given <= known:
        told, got = (", ".join(sorted(names)) or "none" for names in (known, given))
        wrong.append(f"Values for the filter: expected values for {told}, got values for {got}.")
    return wrong or what_the_query_lacks(asked, written, recipe, most)


def what_is_there(
    hook: PersonalizeHook, asked: dict[str, Any], arn: str
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Return the solution's newest version and the filter, as the service describes them, and what is wrong."""
    missing, wrong = hook.conn.exceptions.ResourceNotFoundException, []
    version: dict[str, Any] = {}
    of_filter: dict[str, Any] = {}
    try:
        hook.conn.describe_solution(solutionArn=f"{arn}:solution/{asked['solution']}")
        version = hook.describe_version(hook.newest_active_version(f"{arn}:solution/{asked['solution']}"))
    except missing:
        there = [solution["name"] for solution in hook.conn.list_solutions(maxResults=100)["solutions"]]
        wrong.append(none_of_that_name("Solution", asked["solution"], there))
    except PersonalizeError as error:
        wrong.append(f"Solution: {error}")
    try:
        if asked["filter"]:
            of_filter = hook.conn.describe_filter(filterArn=f"{arn}:filter/{asked['filter']}")["filter"]
    except missing:
        there = [each["name"] for each in hook.conn.list_filters(maxResults=100)["Filters"]]
        wrong.append(none_of_that_name("Filter", asked["filter"], there))
    groups = {found["datasetGroupArn"] for found in (version, of_filter) if found.get("datasetGroupArn")}
    if len(groups) > 1:
        wrong.append("Filter: expected one of the solution's own dataset group, got one of another.")
    return version, of_filter, wrong


def what_the_table_lacks(asked: dict[str, Any], recipe: Any) -> list[str]:
    """Return why the table could not take the rows, before anybody pays for them; nothing is changed."""
    if recipe is None or len(recipe.lines) != 1:
        return []
    rows = RELATED_ITEMS if recipe.lines == (ITEM,) else USER_RECOMMENDATIONS
    rows = USER_SEGMENTS if asked["job"] == "segment" else rows
    plan = LoadPlan("the form", write_mode=asked["write_mode"], extra={"label": asked["label"]})
    try:
        with open_target(database_hook(WAREHOUSE), plan, asked["table"]) as target:
            target.columns = plan.columns(rows)
            target.begin()
            target.check_table()
    except PersonalizeError as error:
        return [f"Table: {error}"]
    return []


def what_the_query_lacks(asked: dict[str, Any], written: dict[str, Any], recipe: Any, most: int) -> list[str]:
    """Run the query as far as its first rows, and count them all; return why they cannot be the input."""
    hook, prices = database_hook(WAREHOUSE), configured_prices(log)
    try:
        with stream_query(hook, written["sql"], written["parameters"]) as rows:
            encoder = InputRows(rows.columns, filter_values=written["filter_values"], recipe=recipe)
            first = next(iter(rows), None)
            if first is None:
                return ["Query: expected at least one row, got none."]
            encoder.encode(first.rows())
        counting = f"SELECT count(*) AS lines FROM ({alone(written['sql'])}\n) AS asked"  # noqa: S608 - as above
        with stream_query(hook, counting, written["parameters"]) as rows:
            [(lines,)] = next(iter(rows)).rows()
    except Exception as error:
        # The names that every driver has for what another try would not heal.
        refusals = {"ProgrammingError", "DataError", "InternalError", "NotSupportedError", PersonalizeError.__name__}
        if not refusals & {base.__name__ for base in type(error).__mro__}:
            raise
        return [f"Query: {str(error).removeprefix('sql: ').strip()}"]
    results = lines * asked["num_results"]
    if results > most:
        asked_for = f"the query has {lines:,} rows, so {asked['num_results']:,} for each are {results:,} in all"
        return [f"Number of results: {asked_for}; at most {most:,} may be asked for here. Ask for fewer."]
    cost = prices.of_results(results)
    log.info("Lines: %s, results: %s.", f"{lines:,}", f"{results:,}")
    if cost is not None:
        log_estimate(log, cost, f"{results:,} results", "price_per_1000_results")
    written["counts"] = {"lines": lines, "results": results, "estimated_cost": cost}
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

    @task(multiple_outputs=True, task_display_name="Check the form")
    def check(arn: str = "", most: str = "", params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Refuse what cannot work; return the query with the filter's values, and what the job is made of."""
        asked = dict(params or {})
        given, wrong = filter_values_of(asked["filter_values"])
        refuse([*what_is_misspelt(asked), *wrong, *what_is_wrong(asked)])
        # The values travel as parameters of the query: each becomes a column, the same in all rows.
        values = {name: json.dumps(words) for name, words in given.items()}
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
            "counts": None,
        }
        refuse(what_is_refused(asked, arn, written, int(most or MOST)))
        return written

    @task.branch(task_display_name="Where the ids come from")
    def where_from(ids_from: str) -> str:
        """Write the query's ids, or take the files that are there."""
        return "write_input" if ids_from == "query" else "which_job"

    @task.branch(trigger_rule="none_failed", task_display_name="Which kind of job")
    def which_job(job: str) -> str:
        """Go on with the job that was asked for."""
        return job

    @task(task_display_name="Show ten of the rows")
    def show(table: str, label: str, loaded: dict[str, Any]) -> dict[str, Any]:
        """Show ten of the rows that were loaded, and say where all of them lie."""
        hook = database_hook(WAREHOUSE)
        query = f'SELECT * FROM "{table}" WHERE label = %s ORDER BY 1, 2 LIMIT 10'  # noqa: S608 - check has read it
        with closing(hook.get_conn()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(query, [label])
            names = [column[0] for column in cursor.description]
            rows = [dict(zip(names, map(str, row), strict=True)) for row in cursor.fetchall()]
        quoted = label.replace("'", "''")
        where = f"""SELECT * FROM "{table}" WHERE label = '{quoted}'"""  # noqa: S608 - for a person to copy
        for row in rows:
            log.info("%s", "   ".join(f"{name}: {value}" for name, value in row.items()))
        log.info("Rows of this run: %s, in the table %s of the connection %s.", loaded["rows"], table, WAREHOUSE)
        log.info("%s", where)
        return {"rows": rows, "where": where, "loaded": loaded["rows"]}

    checked = check(ARN, MOST_RESULTS)
    source = where_from("{{ params.ids_from }}")
    job = which_job("{{ params.job }}")

    write_input = SqlToPersonalizeInputOperator(
        task_id="write_input",
        task_display_name="Write the input",
        doc_md="Write the query's rows to S3, as the lines of the job's input.",
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
        "max_results_total": MOST_RESULTS,
        "deferrable": True,
        # Somebody is waiting for it.
        "poll_interval": 10,
        "aws_conn_id": AWS,
    }
    inference = PersonalizeCreateBatchInferenceJobOperator(
        task_id="inference",
        task_display_name="Make recommendations",
        doc_md="Create the batch inference job, and wait for it in the triggerer.",
        batch_inference_job_config=checked["config"],
        **request,
    )
    segment = PersonalizeCreateBatchSegmentJobOperator(
        task_id="segment",
        task_display_name="Make segments",
        doc_md="Create the batch segment job, and wait for it in the triggerer.",
        **request,
    )

    load = PersonalizeToSqlOperator(
        task_id="load",
        task_display_name="Load the rows",
        doc_md="Load the job's output into the table, all of it or nothing.",
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
    show("{{ params.table }}", "{{ params.label }}", load.output)
