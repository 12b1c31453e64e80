"""
### Every night into the lake

Recommendations for every subscriber become rows of an Iceberg table, where Athena, Spark, Trino, Snowflake and others
read them: a slice for each night, which appears all at once.

Four mapped tasks share the job's output, so that as many workers write it, on Celery, on Kubernetes or wherever Airflow
runs tasks. One task after them publishes all that they have written by one commit. A worker that dies costs the time of
its own part, and nothing else.

It runs as it is against the local stand-in (`make airflow`). Against AWS, give the connections `aws_default`,
`postgres_default` and `iceberg_default` (of the type `iceberg`; its extra as
`{"type": "glue", "warehouse": "s3://my-lake/warehouse"}`), and set the Airflow variables `personalize_bucket`,
`personalize_role_arn` and `personalize_solution_arn`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow_provider_personalize.operators.batch import PersonalizeCreateBatchInferenceJobOperator
from airflow_provider_personalize.transfers.personalize_to_iceberg import PersonalizeToIcebergOperator
from airflow_provider_personalize.transfers.personalize_to_parquet import PersonalizeToParquetOperator
from airflow_provider_personalize.transfers.sql_to_personalize import SqlToPersonalizeInputOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

AWS = "aws_default"
WAREHOUSE = "postgres_default"
LAKE = "iceberg_default"

BUCKET = "{{ var.value.get('personalize_bucket', 'personalize-local') }}"
ROLE = "{{ var.value.get('personalize_role_arn', 'arn:aws:iam::123456789012:role/personalize-local') }}"
SOLUTION = (
    "{{ var.value.get('personalize_solution_arn', "
    "'arn:aws:personalize:us-east-1:123456789012:solution/user-personalization') }}"
)

# A run that was triggered by hand has no logical date on Airflow 3.
RUN_DATE = "{{ (dag_run.logical_date or dag_run.run_after) | ds }}"
FOLDER = f"s3://{BUCKET}/nightly_to_lake/{RUN_DATE}"

PARTS = 4
#: The job writes one object for each file of its input, and the parts share these objects: so there have to be some for
#: each. With millions of subscribers, 100,000 are a good size.
LINES_PER_FILE = 100

with DAG(
    dag_id="nightly_to_lake",
    description="Recommendations for every subscriber, written by several workers into an Iceberg table",
    doc_md=__doc__,
    schedule="0 3 * * *",
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
        doc_md="Write everybody's ids to S3, as the lines of the job's input.",
        sql="SELECT user_id FROM subscribers ORDER BY user_id",
        sql_conn_id=WAREHOUSE,
        s3_uri=f"{FOLDER}/input/",
        max_lines_per_file=LINES_PER_FILE,
        aws_conn_id=AWS,
    )

    recommend = PersonalizeCreateBatchInferenceJobOperator(
        task_id="recommend",
        task_display_name="Make recommendations",
        doc_md="Create the batch inference job, and wait for it in the triggerer.",
        solution_arn=SOLUTION,
        role_arn=ROLE,
        input_uri=prepare.output,
        output_uri=f"{FOLDER}/output/",
        num_results=25,
        deferrable=True,
        aws_conn_id=AWS,
    )

    export = PersonalizeToParquetOperator.partial(
        task_id="export",
        task_display_name="Write Parquet",
        doc_md="Write one part of the job's output as Parquet files.",
        job_arn=recommend.output,
        # From the commit on, these files are the table's: what else deletes old objects must leave them alone.
        target_uri=f"s3://{BUCKET}/lake/recommendations/{RUN_DATE}/",
        extra_columns={"run_date": RUN_DATE},
        parts=PARTS,
        aws_conn_id=AWS,
    ).expand(part=list(range(PARTS)))

    PersonalizeToIcebergOperator(
        task_id="publish",
        task_display_name="Publish the files",
        doc_md="Commit the files of all parts to the Iceberg table, at once.",
        loads=export.output,
        iceberg_conn_id=LAKE,
        table="lake.recommendations",
        write_mode="replace_slice",
        aws_conn_id=AWS,
    )
