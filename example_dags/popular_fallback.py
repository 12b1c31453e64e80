"""
### What is popular, for those nobody knows yet

Whenever `nightly_email_list` has announced recommendations, the subscribers who got none get what is popular, by a
solution of the recipe Popularity-Count: the table is announced as an asset once the list is good, or approved, and this
DAG is scheduled on that. The rows go to the table `fallback_recommendations`. Where everybody has recommendations, the
rest of the run is skipped, and that table keeps the rows of the night before.

The database has the tables `subscribers` (`user_id, subscribed`), `recommendations` and `email_list_decisions` (both
from `nightly_email_list`).

It runs as it is against the local stand-in (`make airflow`). Against AWS, give the connections `aws_default` and
`postgres_default`, and set the Airflow variables `personalize_bucket`, `personalize_role_arn` (the role that
Personalize reads and writes the bucket with) and `personalize_arn_prefix` (what the ARNs of your solutions begin with).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow_provider_personalize.operators.batch import PersonalizeCreateBatchInferenceJobOperator
from airflow_provider_personalize.transfers.personalize_to_sql import PersonalizeToSqlOperator
from airflow_provider_personalize.transfers.sql_to_personalize import SqlToPersonalizeInputOperator

try:
    from airflow.sdk import DAG, Asset
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.datasets import Dataset as Asset

AWS = "aws_default"
WAREHOUSE = "postgres_default"

BUCKET = "{{ var.value.get('personalize_bucket', 'personalize-local') }}"
ROLE = "{{ var.value.get('personalize_role_arn', 'arn:aws:iam::123456789012:role/personalize-local') }}"
ARN = "{{ var.value.get('personalize_arn_prefix', 'arn:aws:personalize:us-east-1:123456789012') }}"

# A run that was triggered by hand has no logical date on Airflow 3.
FOLDER = f"s3://{BUCKET}/popular_fallback/{{{{ (dag_run.logical_date or dag_run.run_after) | ts_nodash }}}}"
#: The table that the DAG nightly_email_list announces.
RECOMMENDATIONS = Asset("recommendations")

with DAG(
    dag_id="popular_fallback",
    description="Popular items for subscribers without recommendations",
    doc_md=__doc__,
    schedule=[RECOMMENDATIONS],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["personalize", "example"],
) as dag:
    prepare = SqlToPersonalizeInputOperator(
        task_id="prepare",
        task_display_name="Write the input",
        doc_md="Write the ids of those who got no recommendations to S3.",
        # Of the newest list that was announced: a newer one may not have passed its check yet, or was refused.
        sql="""
            SELECT user_id FROM subscribers
            WHERE subscribed AND user_id NOT IN (SELECT user_id FROM recommendations WHERE CAST(run_date AS date) = (
                SELECT max(run_date) FROM email_list_decisions WHERE decision <> 'refused'
            ))
            ORDER BY user_id
        """,
        sql_conn_id=WAREHOUSE,
        s3_uri=f"{FOLDER}/input/",
        recipe="aws-popularity-count",
        allow_empty=True,
        aws_conn_id=AWS,
    )

    popular = PersonalizeCreateBatchInferenceJobOperator(
        task_id="popular",
        task_display_name="Find what is popular",
        doc_md="Create the batch inference job, and wait for it in the triggerer.",
        solution_arn=f"{ARN}:solution/popularity-count",
        role_arn=ROLE,
        input_uri=prepare.output,
        output_uri=f"{FOLDER}/output/",
        num_results=10,
        deferrable=True,
        aws_conn_id=AWS,
    )

    PersonalizeToSqlOperator(
        task_id="load",
        task_display_name="Load what is popular",
        doc_md="Load the job's output into the table, all of it or nothing.",
        job_arn=popular.output,
        sql_conn_id=WAREHOUSE,
        table="fallback_recommendations",
        column_names={"score": None},
        aws_conn_id=AWS,
    )
