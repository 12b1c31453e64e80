"""
### Set up Personalize

From an account with nothing in it to one where a model can be trained: a dataset group, a schema and a dataset for each
of interactions, items and users, a solution for user personalization, another one of what is popular (the baseline that
`weekly_retrain` compares with), and a filter that leaves out what somebody knows already.

Run it as often as you like: what is there is used, and nothing is made twice. Where something of the same name was made
from another definition, the task fails and lists the differences. Nothing here is billed.

It runs as it is against the local stand-in (`make airflow`). Against AWS, give the connection `aws_default`, and set
this Airflow variable if you want another name.

| variable | what it is |
| --- | --- |
| `personalize_dataset_group` | the name of the dataset group |

Then set `personalize_solution_arn` to what the task `solution` returns (look under XCom), and trigger `weekly_retrain`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow_provider_personalize.operators.resources import (
    PersonalizeCreateDatasetGroupOperator,
    PersonalizeCreateDatasetOperator,
    PersonalizeCreateFilterOperator,
    PersonalizeCreateSchemaOperator,
    PersonalizeCreateSolutionOperator,
)

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

AWS = "aws_default"
GROUP = "{{ var.value.get('personalize_dataset_group', 'personalize-local') }}"


def avro(name: str, *fields: dict[str, Any]) -> dict[str, Any]:
    """Return a schema as Personalize takes it."""
    namespace = "com.amazonaws.personalize.schema"
    return {"type": "record", "name": name, "namespace": namespace, "fields": list(fields), "version": "1.0"}


USER_ID = {"name": "USER_ID", "type": "string"}
ITEM_ID = {"name": "ITEM_ID", "type": "string"}

# The columns of the queries in weekly_retrain. For a table of your own, personalize_schema() of
# airflow_provider_personalize.transfers.sql_to_personalize writes the schema.
SCHEMAS = {
    "interactions": avro(
        "Interactions",
        USER_ID,
        ITEM_ID,
        {"name": "TIMESTAMP", "type": "long"},
        {"name": "EVENT_TYPE", "type": "string"},
    ),
    "items": avro("Items", ITEM_ID, {"name": "GENRES", "type": ["null", "string"], "categorical": True}),
    "users": avro("Users", USER_ID, {"name": "SUBSCRIBED", "type": ["null", "boolean"]}),
}

with DAG(
    dag_id="personalize_setup",
    description="The dataset group, schemas, datasets, solutions and filter that everything else stands on",
    doc_md=__doc__,
    schedule=None,
    max_active_runs=1,
    default_args={
        "retries": 2,
        "retry_delay": timedelta(minutes=5),
        "aws_conn_id": AWS,
        # What is made here takes a minute or two, and the next task needs it ACTIVE.
        "wait_for_completion": True,
        "poll_interval": 5,
    },
    tags=["personalize", "example"],
) as dag:
    group = PersonalizeCreateDatasetGroupOperator(
        task_id="group", task_display_name="Dataset group", doc_md="Make the dataset group, or find it.", name=GROUP
    )

    datasets = {}
    for kind, schema in SCHEMAS.items():
        made = PersonalizeCreateSchemaOperator(
            task_id=f"schema_{kind}",
            task_display_name=f"Schema of {kind}",
            doc_md=f"Make the schema of the {kind}, or find it.",
            name=f"{GROUP}-{kind}",
            schema=schema,
        )
        datasets[kind] = PersonalizeCreateDatasetOperator(
            task_id=f"dataset_{kind}",
            task_display_name=f"Dataset of {kind}",
            doc_md=f"Make the dataset of the {kind}, or find it.",
            name=f"{GROUP}-{kind}",
            dataset_group_arn=group.output,
            schema_arn=made.output,
            dataset_type=kind.upper(),
        )

    # weekly_retrain trains them; were the service to train by itself, too, both would be billed.
    solution = PersonalizeCreateSolutionOperator(
        task_id="solution",
        task_display_name="Solution",
        doc_md="Make the solution that is trained every week, or find it.",
        name="user-personalization",
        dataset_group_arn=group.output,
        recipe_arn="arn:aws:personalize:::recipe/aws-user-personalization-v2",
        perform_auto_training=False,
    )
    baseline = PersonalizeCreateSolutionOperator(
        task_id="baseline",
        task_display_name="Baseline",
        doc_md="Make the solution of what is popular, which a model has to be better than.",
        name="popularity-count",
        dataset_group_arn=group.output,
        recipe_arn="arn:aws:personalize:::recipe/aws-popularity-count",
        perform_auto_training=False,
    )
    not_yet_seen = PersonalizeCreateFilterOperator(
        task_id="not_yet_seen",
        task_display_name="Filter",
        doc_md="Make the filter that leaves out what somebody has seen.",
        name="not-yet-seen",
        dataset_group_arn=group.output,
        filter_expression='EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")',
    )

    # A filter is checked against the columns of the datasets.
    datasets["interactions"] >> [solution, baseline, not_yet_seen]
