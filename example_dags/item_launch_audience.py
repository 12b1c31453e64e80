"""
### Whom to tell of new items

Every day, each item that is new in the shop gets the users who would like it most, by a solution of the recipe
Item-Affinity. The table `launch_audience` keeps the audiences of earlier items as they are. A day without new items
costs nothing: the rest of the run is skipped.

The database has the table `launches` (`item_id, launched`).

It runs as it is against the local stand-in (`make airflow`). Against AWS, give the connections `aws_default` and
`postgres_default`, and set the Airflow variables `personalize_bucket`, `personalize_role_arn` (the role that
Personalize reads and writes the bucket with) and `personalize_arn_prefix` (what the ARNs of your solutions begin with).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow_provider_personalize.operators.batch import PersonalizeCreateBatchSegmentJobOperator
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
RUN_DATE = "{{ (dag_run.logical_date or dag_run.run_after) | ds }}"
FOLDER = f"s3://{BUCKET}/item_launch_audience/{{{{ (dag_run.logical_date or dag_run.run_after) | ts_nodash }}}}"

with DAG(
    dag_id="item_launch_audience",
    description="For each new item, the users who would like it most",
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
        doc_md="Write the new items' attributes to S3, as the lines of the job's input.",
        sql="SELECT item_id FROM launches WHERE launched = CAST(%(run_date)s AS date) ORDER BY item_id",
        parameters={"run_date": RUN_DATE},
        sql_conn_id=WAREHOUSE,
        s3_uri=f"{FOLDER}/input/",
        recipe="aws-item-affinity",
        allow_empty=True,
        aws_conn_id=AWS,
    )

    audience = PersonalizeCreateBatchSegmentJobOperator(
        task_id="audience",
        task_display_name="Find the audience",
        doc_md="Create the batch segment job, and wait for it in the triggerer.",
        solution_arn=f"{ARN}:solution/item-affinity",
        role_arn=ROLE,
        input_uri=prepare.output,
        output_uri=f"{FOLDER}/output/",
        num_results=100,
        deferrable=True,
        aws_conn_id=AWS,
    )

    PersonalizeToSqlOperator(
        task_id="load",
        task_display_name="Load the audience",
        doc_md="Load the users into the table, all of them or none.",
        job_arn=audience.output,
        sql_conn_id=WAREHOUSE,
        table="launch_audience",
        write_mode="merge",
        extra_columns={"launched": RUN_DATE},
        aws_conn_id=AWS,
    )
