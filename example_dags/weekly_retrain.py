"""
### Retrain every week

Three queries become CSV files on S3, and these are imported. A new version of the solution is trained on them, and one
of the baseline, which is a list of what is popular. The check compares the two, and the new version with the last good
one.

A version that passes gets the tag `quality` = `passed`, and from then on `nightly_email_list` runs on it. One that does
not is left alone: the task `check` is red, and the nights go on with the last good version. The report of the check is
an HTML page for people.

Campaigns of the solution, where there are any, are updated to the version that has passed.

It runs as it is against the local stand-in, after `personalize_setup`. Against AWS, nothing here changes: give the
connections `aws_default` and `postgres_default`, and set these Airflow variables.

| variable | what it is |
| --- | --- |
| `personalize_bucket` | the S3 bucket for the CSV files |
| `personalize_role_arn` | the role that Personalize reads that bucket with |
| `personalize_arn_prefix` | what the ARNs of your datasets and of the baseline begin with |
| `personalize_dataset_group` | the name of the dataset group |
| `personalize_solution_arn` | the solution |
| `email_preview_dir` | the folder for the report; by default `email_previews` in Airflow's home |

The database has the tables `views` (`user_id, item_id, watched`), `items` (`item_id, title, genres`) and `subscribers`
(`user_id, name, email, subscribed`).

What is billed: the imports by their size, and two trainings. Once the tasks `train` and `train_baseline` have ended,
the billed hours are in their logs.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.operators.data import PersonalizeCreateDatasetImportJobOperator
from airflow_provider_personalize.operators.resources import PersonalizeCreateCampaignOperator
from airflow_provider_personalize.operators.training import (
    PersonalizeCreateSolutionVersionOperator,
    PersonalizeSolutionVersionCheckOperator,
)
from airflow_provider_personalize.transfers.sql_to_personalize import SqlToPersonalizeDatasetOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

AWS = "aws_default"
WAREHOUSE = "postgres_default"

BUCKET = "{{ var.value.get('personalize_bucket', 'personalize-local') }}"
ROLE = "{{ var.value.get('personalize_role_arn', 'arn:aws:iam::123456789012:role/personalize-local') }}"
PREFIX = "{{ var.value.get('personalize_arn_prefix', 'arn:aws:personalize:us-east-1:123456789012') }}"
GROUP = "{{ var.value.get('personalize_dataset_group', 'personalize-local') }}"
SOLUTION = (
    "{{ var.value.get('personalize_solution_arn', "
    "'arn:aws:personalize:us-east-1:123456789012:solution/user-personalization') }}"
)
BASELINE = f"{PREFIX}:solution/popularity-count"
HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
PAGES = f"{{{{ (var.value.get('email_preview_dir', '') or '{HOME / 'email_previews'}').rstrip('/') }}}}"

RUN_DATE = "{{ (dag_run.logical_date or dag_run.run_after) | ds }}"
FOLDER = f"s3://{BUCKET}/weekly_retrain/{{{{ (dag_run.logical_date or dag_run.run_after) | ts_nodash }}}}"

#: What of each dataset is imported; the names of the columns are those of the schemas in personalize_setup.
QUERIES = {
    "interactions": "SELECT user_id, item_id, watched AS timestamp, 'watch' AS event_type FROM views",
    "items": "SELECT item_id, string_to_array(genres, '|') AS genres FROM items",
    "users": "SELECT user_id, subscribed FROM subscribers",
}

NDCG = "normalized_discounted_cumulative_gain_at_10"

with DAG(
    dag_id="weekly_retrain",
    description="New data into Personalize, a new model from it, and a check before anybody gets its recommendations",
    doc_md=__doc__,
    schedule="0 20 * * 0",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5), "aws_conn_id": AWS},
    tags=["personalize", "example"],
) as dag:
    imports = []
    for kind, query in QUERIES.items():
        dataset = f"{PREFIX}:dataset/{GROUP}/{kind.upper()}"
        write = SqlToPersonalizeDatasetOperator(
            task_id=f"write_{kind}",
            task_display_name=f"Write {kind}",
            doc_md=f"Write the {kind} to S3, as the CSV of their dataset.",
            sql=query,
            sql_conn_id=WAREHOUSE,
            s3_uri=f"{FOLDER}/{kind}/",
            dataset_arn=dataset,
        )
        imports.append(
            PersonalizeCreateDatasetImportJobOperator(
                task_id=f"import_{kind}",
                task_display_name=f"Import {kind}",
                doc_md=f"Import the {kind}, and wait for it in the triggerer.",
                dataset_arn=dataset,
                data_location=write.output,
                role_arn=ROLE,
                deferrable=True,
                poll_interval=10,
            )
        )

    train = PersonalizeCreateSolutionVersionOperator(
        task_id="train",
        task_display_name="Train",
        doc_md="Train a version of the solution, and wait for it in the triggerer.",
        solution_arn=SOLUTION,
        deferrable=True,
        poll_interval=10,
        timeout=timedelta(hours=24),
    )
    train_baseline = PersonalizeCreateSolutionVersionOperator(
        task_id="train_baseline",
        task_display_name="Train the baseline",
        doc_md="Train a version of the baseline, and wait for it in the triggerer.",
        solution_arn=BASELINE,
        deferrable=True,
        poll_interval=10,
        timeout=timedelta(hours=24),
    )

    # A model that is no better than a list of what is popular has learned nothing of anybody.
    check = PersonalizeSolutionVersionCheckOperator(
        task_id="check",
        task_display_name="Check the version",
        doc_md="Compare the version's metrics with what is expected, and tag one that passes.",
        solution_version_arn=train.output,
        baseline_solution_arn=BASELINE,
        checks={f"{NDCG}_to_baseline": {"geq_to": 1.2}, f"{NDCG}_to_previous": {"geq_to": 0.8}},
        warn_checks={"coverage": {"geq_to": 0.05}},
        pass_tags={"quality": "passed"},
        report_uri=f"{PAGES}/training_{RUN_DATE}.html",
    )

    @dag.task(task_display_name="Find the campaigns")
    def find_campaigns(solution_arn: str) -> list[str]:
        """Return the names of the solution's campaigns, often none."""
        client = PersonalizeHook(aws_conn_id=AWS).conn
        pages = client.get_paginator("list_campaigns").paginate(solutionArn=solution_arn)
        return [campaign["name"] for page in pages for campaign in page["campaigns"] if campaign["status"] == "ACTIVE"]

    # Where there are none, this is skipped. A campaign goes on answering from its old version during the update.
    campaigns = find_campaigns(SOLUTION)
    PersonalizeCreateCampaignOperator.partial(
        task_id="update_campaigns",
        task_display_name="Update campaigns",
        doc_md="Let each campaign use the version that has passed.",
        solution_version_arn=train.output,
        if_exists="update",
        deferrable=True,
        poll_interval=10,
    ).expand(name=campaigns)

    imports >> train >> check >> campaigns
    imports >> train_baseline >> check
