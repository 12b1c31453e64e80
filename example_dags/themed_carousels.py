"""
### Carousels with a theme

Every week, some items of the shop become carousels: each with the items that go with it, and a theme that Personalize
finds for them, as "Crime and Drama favourites". Themes cost extra, come from a solution of the recipe Similar-Items
only, in a few regions, and for at most 100 items a job.

The database has the table `items` (`item_id, genres`).

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
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

AWS = "aws_default"
WAREHOUSE = "postgres_default"

BUCKET = "{{ var.value.get('personalize_bucket', 'personalize-local') }}"
ROLE = "{{ var.value.get('personalize_role_arn', 'arn:aws:iam::123456789012:role/personalize-local') }}"
ARN = "{{ var.value.get('personalize_arn_prefix', 'arn:aws:personalize:us-east-1:123456789012') }}"

# A run that was triggered by hand has no logical date on Airflow 3.
FOLDER = f"s3://{BUCKET}/themed_carousels/{{{{ (dag_run.logical_date or dag_run.run_after) | ts_nodash }}}}"

with DAG(
    dag_id="themed_carousels",
    description="Related items under a theme, for the carousels of the start page",
    doc_md=__doc__,
    schedule="@weekly",
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
        doc_md="Write the items that carousels are made for to S3.",
        sql="SELECT item_id FROM items WHERE genres LIKE '%Film-Noir%' ORDER BY item_id LIMIT 20",
        sql_conn_id=WAREHOUSE,
        s3_uri=f"{FOLDER}/input/",
        recipe="aws-similar-items",
        aws_conn_id=AWS,
    )

    themes = PersonalizeCreateBatchInferenceJobOperator(
        task_id="themes",
        task_display_name="Make themes",
        doc_md="Create the batch inference job with themes, and wait for it in the triggerer.",
        solution_arn=f"{ARN}:solution/similar-items",
        role_arn=ROLE,
        input_uri=prepare.output,
        output_uri=f"{FOLDER}/output/",
        num_results=12,
        batch_inference_job_mode="THEME_GENERATION",
        theme_generation_config={"fieldsForThemeGeneration": {"itemName": "TITLE"}},
        deferrable=True,
        aws_conn_id=AWS,
    )

    PersonalizeToSqlOperator(
        task_id="load",
        task_display_name="Load the carousels",
        doc_md="Load the job's output into the table, all of it or nothing.",
        job_arn=themes.output,
        sql_conn_id=WAREHOUSE,
        table="carousels",
        aws_conn_id=AWS,
    )
