"""
### The same offers, in each customer's own order

A short list of offers is the same for everybody, but who sees which first is not: every night it is put in order for
each subscriber, by a solution of the recipe Personalized-Ranking.

This one waits in a task of its own, a sensor, as for a job that another DAG has created. The price is that no retry
heals a failed job: the sensor would look at the same job again, so it fails for good, and it is the green task `rank`
that has to be cleared. The other examples create and wait in one task, whose retries make another job.

The database has the tables `subscribers` (`user_id, subscribed`) and `offers` (`item_id`).

It runs as it is against the local stand-in (`make airflow`). Against AWS, give the connections `aws_default` and
`postgres_default`, and set the Airflow variables `personalize_bucket`, `personalize_role_arn` (the role that
Personalize reads and writes the bucket with) and `personalize_arn_prefix` (what the ARNs of your solutions begin with).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow_provider_personalize.operators.batch import PersonalizeCreateBatchInferenceJobOperator
from airflow_provider_personalize.sensors.batch import PersonalizeBatchInferenceJobSensor
from airflow_provider_personalize.transfers.personalize_to_sql import PersonalizeToSqlOperator
from airflow_provider_personalize.transfers.sql_to_personalize import SqlToPersonalizeInputOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

AWS = "aws_default"
WAREHOUSE = "postgres_default"

BUCKET = "{{ var.value.get('personalize_bucket', 'personalize-local') }}"
ROLE = "{{ var.value.get('personalize_role_arn', 'arn:aws:iam::123456789012:role/personalize-local') }}"
ARN = "{{ var.value.get('personalize_arn_prefix', 'arn:aws:personalize:us-east-1:123456789012') }}"

# A run that was triggered by hand has no logical date on Airflow 3.
FOLDER = f"s3://{BUCKET}/personalized_ranking/{{{{ (dag_run.logical_date or dag_run.run_after) | ts_nodash }}}}"

with DAG(
    dag_id="personalized_ranking",
    description="A short list of offers, put in order for each subscriber",
    doc_md=__doc__,
    schedule="@daily",
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
        doc_md="Write each user with the offers to put in order to S3, as the lines of the job's input.",
        sql="""
            SELECT user_id, (SELECT array_agg(item_id ORDER BY item_id) FROM offers) AS item_list
            FROM subscribers WHERE subscribed ORDER BY user_id
        """,
        sql_conn_id=WAREHOUSE,
        s3_uri=f"{FOLDER}/input/",
        recipe="aws-personalized-ranking",
        aws_conn_id=AWS,
    )

    rank = PersonalizeCreateBatchInferenceJobOperator(
        task_id="rank",
        task_display_name="Put in order",
        doc_md="Create the batch inference job.",
        solution_arn=f"{ARN}:solution/personalized-ranking",
        role_arn=ROLE,
        input_uri=prepare.output,
        output_uri=f"{FOLDER}/output/",
        aws_conn_id=AWS,
    )

    wait = PersonalizeBatchInferenceJobSensor(
        task_id="wait",
        task_display_name="Wait for the job",
        doc_md="Wait in the triggerer until the job is ACTIVE.",
        job_arn=rank.output,
        deferrable=True,
        timeout=timedelta(hours=6),
        aws_conn_id=AWS,
    )

    PersonalizeToSqlOperator(
        task_id="load",
        task_display_name="Load the offers",
        doc_md="Load the job's output into the table, all of it or nothing.",
        job_arn=wait.output,
        sql_conn_id=WAREHOUSE,
        table="ranked_offers",
        write_mode="replace",
        aws_conn_id=AWS,
    )
