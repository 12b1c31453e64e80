"""
### The audience of a campaign

Who would like what has all of these attributes? A solution of the recipe Item-Attribute-Affinity picks up to a million
users for each line of attributes; its conditions are joined by `AND`, so alternatives are lines of their own. A filter
keeps to users who are active enough: its placeholder `$ACTIVITY` has its values in each line.

Each campaign is a slice of the table `campaign_audience`: making it anew leaves the others alone.

It runs as it is against the local stand-in (`make airflow`). Against AWS, give the connections `aws_default` and
`postgres_default`, and set the Airflow variables `personalize_bucket`, `personalize_role_arn` (the role that
Personalize reads and writes the bucket with) and `personalize_arn_prefix` (what the ARNs of your solutions and filters
begin with).
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
FOLDER = f"s3://{BUCKET}/segment_campaign/{{{{ (dag_run.logical_date or dag_run.run_after) | ts_nodash }}}}"

with DAG(
    dag_id="segment_campaign",
    description="The users who like these attributes most, as a campaign's slice of a table",
    doc_md=__doc__,
    schedule=None,
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
        doc_md="Write the campaign's items to S3, as the lines of the job's input.",
        sql="""
            SELECT item_attributes, '["high", "medium"]' AS activity
            FROM (VALUES
                ('ITEMS.GENRES = "Film-Noir" AND ITEMS.GENRES = "Mystery"'),
                ('ITEMS.GENRES = "Sci-Fi" AND ITEMS.YEAR = 1982')
            ) AS campaign (item_attributes)
        """,
        filter_values={"ACTIVITY": "activity"},
        sql_conn_id=WAREHOUSE,
        s3_uri=f"{FOLDER}/input/",
        recipe="aws-item-attribute-affinity",
        aws_conn_id=AWS,
    )

    segment = PersonalizeCreateBatchSegmentJobOperator(
        task_id="segment",
        task_display_name="Make segments",
        doc_md="Create the batch segment job, and wait for it in the triggerer.",
        solution_arn=f"{ARN}:solution/item-attribute-affinity",
        filter_arn=f"{ARN}:filter/activity",
        role_arn=ROLE,
        input_uri=prepare.output,
        output_uri=f"{FOLDER}/output/",
        num_results=1_000_000,
        deferrable=True,
        aws_conn_id=AWS,
    )

    PersonalizeToSqlOperator(
        task_id="load",
        task_display_name="Load the segments",
        doc_md="Load the users into the table, all of them or none.",
        job_arn=segment.output,
        sql_conn_id=WAREHOUSE,
        table="campaign_audience",
        write_mode="replace_slice",
        extra_columns={"campaign": "classics"},
        aws_conn_id=AWS,
    )
