"""
### Forget users

Whoever asks to be forgotten has a row in the table `forget_requests` (`user_id, requested, run_id, forgotten`). Every
day, this DAG takes the new ones and deletes all that Personalize's datasets and the tables of these examples hold of
them (see `TABLES`; add your own); last, it notes when that was done. A day without requests costs nothing.

The warehouse comes first: what it still held, the next full import would bring back. A model that was trained before
knows these users until the next training, so `weekly_retrain` does the rest. Files on S3 and the text of rejected lines
(`recommendations_rejected`) have ids in them, too: delete these by their age.

It runs as it is against the local stand-in, after `personalize_setup`. Against AWS, give the connections `aws_default`
and `postgres_default`, and set these Airflow variables.

| variable | what it is |
| --- | --- |
| `personalize_bucket` | the S3 bucket for the list of users |
| `personalize_role_arn` | the role that Personalize reads that bucket with |
| `personalize_arn_prefix` | what the ARN of your dataset group begins with |
| `personalize_dataset_group` | the name of the dataset group |
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

from airflow_provider_personalize.operators.data import PersonalizeCreateDataDeletionJobOperator
from airflow_provider_personalize.transfers.sql_to_personalize import SqlToPersonalizeUserListOperator

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
#: The tables that rows of users are deleted from, each by its column `user_id`, as far as it is there and has one.
TABLES = (
    *("views", "subscribers", "recommendations", "email_list", "fallback_recommendations", "ranked_offers"),
    *("campaign_audience", "launch_audience", "on_demand"),
)
FOLDER = f"s3://{BUCKET}/forget_users/{{{{ run_id | replace(':', '') | replace('+', '_') }}}}/"

with DAG(
    dag_id="forget_users",
    description="Delete all that the warehouse and Personalize hold of those who have asked for it",
    doc_md=__doc__,
    schedule="0 4 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["personalize", "example"],
) as dag:
    # A request belongs to the run that takes it, and a run takes requests once: whatever is retried or cleared works on
    # the same ones, and what comes meanwhile is left to the next run. The statements are one transaction.
    forget_here = SQLExecuteQueryOperator(
        task_id="forget_here",
        task_display_name="Forget them here",
        doc_md="Delete the users' rows from this database.",
        conn_id=WAREHOUSE,
        parameters={"run_id": "{{ run_id }}"},
        sql=[
            """
            UPDATE forget_requests SET run_id = %(run_id)s WHERE run_id IS NULL AND forgotten IS NULL
            AND NOT EXISTS (SELECT 1 FROM forget_requests WHERE run_id = %(run_id)s)
            """,
            # Some of the tables are made by other DAGs: one may not be there yet, or be of something else than users.
            f"""
            DO $$
            DECLARE name text;
            BEGIN
                FOREACH name IN ARRAY ARRAY{list(TABLES)} LOOP
                    IF EXISTS (
                        SELECT FROM pg_attribute WHERE attrelid = to_regclass(name) AND attname = 'user_id'
                    ) THEN
                        EXECUTE 'DELETE FROM ' || quote_ident(name) || ' WHERE user_id IN '
                            '(SELECT user_id FROM forget_requests WHERE run_id IS NOT NULL AND forgotten IS NULL)';
                    END IF;
                END LOOP;
            END $$
            """,  # noqa: S608 (the names are those above)
        ],
    )

    # Without requests, this task and those behind it are skipped.
    list_users = SqlToPersonalizeUserListOperator(
        task_id="list_users",
        task_display_name="List the users",
        doc_md="Write the ids of the users who must be forgotten to S3.",
        sql="SELECT DISTINCT user_id FROM forget_requests WHERE run_id = %(run_id)s AND forgotten IS NULL",
        parameters={"run_id": "{{ run_id }}"},
        sql_conn_id=WAREHOUSE,
        s3_uri=FOLDER,
        allow_empty=True,
        aws_conn_id=AWS,
    )

    # The service may take a day.
    forget_there = PersonalizeCreateDataDeletionJobOperator(
        task_id="forget_there",
        task_display_name="Forget them in Personalize",
        doc_md="Delete all that the dataset group holds of these users; that may take a day.",
        dataset_group_arn=f"{PREFIX}:dataset-group/{GROUP}",
        data_location=list_users.output,
        role_arn=ROLE,
        deferrable=True,
        poll_interval=60,
        timeout=timedelta(days=3),
        aws_conn_id=AWS,
    )

    note = SQLExecuteQueryOperator(
        task_id="note",
        task_display_name="Note that it is done",
        doc_md="Note when Personalize has forgotten the users.",
        conn_id=WAREHOUSE,
        parameters={"run_id": "{{ run_id }}"},
        sql="UPDATE forget_requests SET forgotten = now() WHERE run_id = %(run_id)s AND forgotten IS NULL",
    )

    forget_here >> list_users >> forget_there >> note
