"""
### Only what has changed, for the marketing tool

Whenever `nightly_email_list` has announced recommendations, whoever has other ones than in the list that was announced
before goes into a file on S3, from where a marketing tool takes them: it is paid, and limited, by what it is sent. A
list that was refused, or has not passed its check, was never sent, so nothing is compared with it. The first time, all
are new; a night on which nothing has changed leaves no file. The last task says in its log how many users are new, have
changed and are gone.

The file here is in the format of Braze's Cloud Data Ingestion; `format` has others.

The database has the tables `recommendations` and `email_list_decisions` (from `nightly_email_list`).

It runs as it is against the local stand-in (`make airflow`). Against AWS, give the connections `aws_default` and
`postgres_default`, and set the Airflow variable `personalize_bucket` (the S3 bucket for the file).
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_personalize.compat import AirflowSkipException
from airflow_provider_personalize.transfers.personalize_delta import PersonalizeDeltaOperator

try:
    from airflow.sdk import DAG, Asset
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.datasets import Dataset as Asset

AWS = "aws_default"
WAREHOUSE = "postgres_default"

BUCKET = "{{ var.value.get('personalize_bucket', 'personalize-local') }}"
NEWEST, BEFORE = (f"{{{{ ti.xcom_pull(task_ids='nights')['{night}'] }}}}" for night in ("newest", "before"))
#: The table that the DAG nightly_email_list announces.
RECOMMENDATIONS = Asset("recommendations")

log = logging.getLogger(__name__)

with DAG(
    dag_id="nightly_delta",
    description="Whose recommendations have changed since the last list, as a file for a marketing tool",
    doc_md=__doc__,
    schedule=[RECOMMENDATIONS],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["personalize", "example"],
) as dag:

    @dag.task(task_display_name="Find the nights to compare")
    def nights() -> dict[str, str]:
        """Return the dates of the two newest lists that were announced: a run of an asset has no date of its own."""
        from airflow.providers.postgres.hooks.postgres import PostgresHook

        announced = PostgresHook(postgres_conn_id=WAREHOUSE).get_records(
            "SELECT run_date FROM email_list_decisions WHERE decision <> 'refused' ORDER BY run_date DESC LIMIT 2"
        )
        if not announced:
            raise AirflowSkipException("No list was announced yet.")
        # The first one is compared with a night that no list is of, so that all are new.
        newest, before, *_ = *(str(night) for (night,) in announced), "0001-01-01"
        return {"newest": newest, "before": before}

    changes = PersonalizeDeltaOperator(
        task_id="changes",
        task_display_name="Find what has changed",
        doc_md="Compare the newest list with the one that was announced before, in the database.",
        sql_conn_id=WAREHOUSE,
        table="recommendations",
        extra_columns={"run_date": NEWEST},
        previous_columns={"run_date": BEFORE},
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

    nights() >> changes
    count(changes.output)
