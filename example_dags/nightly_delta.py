"""
### Only what has changed, for the marketing tool

Whenever `nightly_email_list` has loaded recommendations that are good enough, whoever has other ones than the night
before goes into a file on S3, from where a marketing tool takes them: it is paid, and limited, by what it is sent. The
first night, all are new; a night on which nothing has changed leaves no file. The last task says in its log how many
users are new, have changed and are gone.

The file here is in the format of Braze's Cloud Data Ingestion; `format` has others.

The database has the table `recommendations` (from `nightly_email_list`).

It runs as it is against the local stand-in (`make airflow`). Against AWS, give the connections `aws_default` and
`postgres_default`, and set the Airflow variable `personalize_bucket` (the S3 bucket for the file).
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_personalize.transfers.personalize_delta import PersonalizeDeltaOperator

try:
    from airflow.sdk import DAG, Asset
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.datasets import Dataset as Asset

AWS = "aws_default"
WAREHOUSE = "postgres_default"

BUCKET = "{{ var.value.get('personalize_bucket', 'personalize-local') }}"
NEWEST = "{{ ti.xcom_pull(task_ids='newest') }}"
#: The table that the DAG nightly_email_list announces.
RECOMMENDATIONS = Asset("recommendations")

log = logging.getLogger(__name__)

with DAG(
    dag_id="nightly_delta",
    description="Whose recommendations have changed since the night before, as a file for a marketing tool",
    doc_md=__doc__,
    schedule=[RECOMMENDATIONS],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["personalize", "example"],
) as dag:

    @dag.task(task_display_name="Find the newest night")
    def newest() -> str:
        """Return the date of the newest list: a run that an asset has triggered has none of its own."""
        from airflow.providers.postgres.hooks.postgres import PostgresHook

        hook = PostgresHook(postgres_conn_id=WAREHOUSE)
        return str(hook.get_first("SELECT max(run_date) FROM recommendations")[0])

    changes = PersonalizeDeltaOperator(
        task_id="changes",
        task_display_name="Find what has changed",
        doc_md="Compare tonight's recommendations with those of the night before, in the database.",
        sql_conn_id=WAREHOUSE,
        table="recommendations",
        # Compared with the newest slice that is older.
        extra_columns={"run_date": NEWEST},
        format="braze",
        # Braze takes files from S3 in the order of their events, and no UPDATED_AT with them.
        updated_at=False,
        target_uri=f"s3://{BUCKET}/nightly_delta/{NEWEST}/recommendations.json",
        aws_conn_id=AWS,
    )

    @dag.task(task_display_name="Count the changes")
    def count(done: dict[str, Any]) -> None:
        """Say in the log what the marketing tool gets."""
        log.info(
            "New: %s, changed: %s, gone: %s. File: %s.", done["new"], done["changed"], done["gone"], done["target_uri"]
        )

    newest() >> changes
    count(changes.output)
