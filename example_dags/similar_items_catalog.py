"""
### Similar items for the whole catalogue

Once a week, each item of the shop gets the items to show beside it. The catalogue is cut into parts, and each part goes
its own way: a job, and a slice of the table `similar_items`, which readers see replaced at once. As many jobs run at a
time as the pool `personalize` has slots (`airflow pools set personalize 5 "Personalize jobs" --include-deferred`);
without it, tasks wait for Personalize's own quota.

The database has the table `items` (`item_id`).

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
    from airflow.sdk import DAG, task_group
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.decorators import task_group

AWS = "aws_default"
WAREHOUSE = "postgres_default"

BUCKET = "{{ var.value.get('personalize_bucket', 'personalize-local') }}"
ROLE = "{{ var.value.get('personalize_role_arn', 'arn:aws:iam::123456789012:role/personalize-local') }}"
ARN = "{{ var.value.get('personalize_arn_prefix', 'arn:aws:personalize:us-east-1:123456789012') }}"

# A run that was triggered by hand has no logical date on Airflow 3.
FOLDER = f"s3://{BUCKET}/similar_items_catalog/{{{{ (dag_run.logical_date or dag_run.run_after) | ts_nodash }}}}"
PARTS = 3

with DAG(
    dag_id="similar_items_catalog",
    description="Related items for every item, part by part",
    doc_md=__doc__,
    schedule="@weekly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["personalize", "example"],
) as dag:

    @task_group
    def part(number: int) -> None:
        """Everything for one part of the catalogue: the items whose ids have that remainder."""
        prepare = SqlToPersonalizeInputOperator(
            task_id="prepare",
            task_display_name="Write a part",
            doc_md="Write the items of one part of the catalog to S3.",
            sql="""
                SELECT item_id FROM items
                WHERE abs(hashtext(item_id)::bigint) %% CAST(%(parts)s AS integer) = CAST(%(part)s AS integer)
                ORDER BY item_id
            """,
            parameters={"parts": PARTS, "part": number},
            sql_conn_id=WAREHOUSE,
            s3_uri=f"{FOLDER}/{{{{ ti.map_index }}}}/input/",
            recipe="aws-similar-items",
            allow_empty=True,
            aws_conn_id=AWS,
        )

        similar = PersonalizeCreateBatchInferenceJobOperator(
            task_id="similar",
            task_display_name="Find similar items",
            doc_md="Create the part's batch inference job, and wait for it in the triggerer.",
            solution_arn=f"{ARN}:solution/similar-items",
            role_arn=ROLE,
            input_uri=prepare.output,
            output_uri=f"{FOLDER}/{{{{ ti.map_index }}}}/output/",
            num_results=10,
            deferrable=True,
            aws_conn_id=AWS,
        )

        PersonalizeToSqlOperator(
            task_id="load",
            task_display_name="Load a part",
            doc_md="Load the part's output into the table, all of it or nothing.",
            job_arn=similar.output,
            sql_conn_id=WAREHOUSE,
            table="similar_items",
            write_mode="replace_slice",
            extra_columns={"part": number},
            aws_conn_id=AWS,
        )

    part.expand(number=list(range(PARTS)))
