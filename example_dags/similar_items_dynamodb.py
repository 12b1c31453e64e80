"""
### Similar items where the shop reads them

Every night, each item of the shop gets the items to show beside it, in a table of DynamoDB: a page of the shop reads
one item, by its key, and has its list in the right order. An item that has left the catalogue is deleted by DynamoDB a
week later, by its `expires_at`. The last task reads as the shop does.

The database has the table `items` (`item_id`). The table `similar_items` of DynamoDB is made by the first run.

It runs as it is against the local stand-in (`make airflow`). Against AWS, give the connections `aws_default` and
`postgres_default`, and set the Airflow variables `personalize_bucket`, `personalize_role_arn` (the role that
Personalize reads and writes the bucket with) and `personalize_arn_prefix` (what the ARNs of your solutions begin with).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_personalize.operators.batch import PersonalizeCreateBatchInferenceJobOperator
from airflow_provider_personalize.transfers.personalize_to_dynamodb import PersonalizeToDynamoDbOperator
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
FOLDER = f"s3://{BUCKET}/similar_items_dynamodb/{{{{ (dag_run.logical_date or dag_run.run_after) | ts_nodash }}}}"
TABLE = "similar_items"

with DAG(
    dag_id="similar_items_dynamodb",
    description="Related items for every item, in DynamoDB, where the shop reads them by key",
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
        doc_md="Write the catalog's items to S3, as the lines of the job's input.",
        sql="SELECT item_id FROM items ORDER BY item_id",
        sql_conn_id=WAREHOUSE,
        s3_uri=f"{FOLDER}/input/",
        recipe="aws-similar-items",
        aws_conn_id=AWS,
    )

    similar = PersonalizeCreateBatchInferenceJobOperator(
        task_id="similar",
        task_display_name="Find similar items",
        doc_md="Create the batch inference job, and wait for it in the triggerer.",
        solution_arn=f"{ARN}:solution/similar-items",
        role_arn=ROLE,
        input_uri=prepare.output,
        output_uri=f"{FOLDER}/output/",
        num_results=10,
        deferrable=True,
        aws_conn_id=AWS,
    )

    load = PersonalizeToDynamoDbOperator(
        task_id="load",
        task_display_name="Put into DynamoDB",
        doc_md="Put one item for each item of the catalog into the table.",
        job_arn=similar.output,
        table_name=TABLE,
        ttl=timedelta(days=7),
        aws_conn_id=AWS,
    )

    @dag.task(task_display_name="Read as the shop does")
    def as_the_shop_reads_it(loaded: dict[str, Any]) -> dict[str, list[str]]:
        """Read one item by its key, and return what the shop shows beside it."""
        from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
        from airflow.providers.postgres.hooks.postgres import PostgresHook

        [item_id] = PostgresHook(postgres_conn_id=WAREHOUSE).get_first("SELECT min(item_id) FROM items")
        table = AwsBaseHook(AWS, resource_type="dynamodb").get_conn().Table(loaded["table_name"])
        # A page has read all that it needs by this one call.
        return {item_id: table.get_item(Key={"item_id": item_id})["Item"]["items"]}

    as_the_shop_reads_it(load.output)
