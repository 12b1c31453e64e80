"""A job, a check of it whose report is given no place, and a page of a task's own, with hostile words in the titles."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow_provider_personalize.operators.batch import PersonalizeCreateBatchInferenceJobOperator
from airflow_provider_personalize.operators.output_check import PersonalizeOutputCheckOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

ACCOUNT = "arn:aws:personalize:us-east-1:123456789012"
FOREIGN = "<script>document.body.dataset.foreign = 1; top.alert('x')</script><img src=x onerror=\"top.alert('y')\">"
TEMPLATE = """<!doctype html>
<title>Emails</title><h1>An email</h1><p id="own">no script</p>{foreign}
<script>
  const found = document.body.dataset.foreign ? "a foreign one, too" : "alone";
  document.getElementById("own").textContent = `own script ran, ${found}`;
</script>
"""

with DAG("pages", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
    recommend = PersonalizeCreateBatchInferenceJobOperator(
        task_id="recommend",
        solution_arn=f"{ACCOUNT}:solution/user-personalization",
        role_arn="arn:aws:iam::123456789012:role/personalize-local",
        input_uri="s3://personalize-local/pages/in/",
        output_uri="s3://personalize-local/pages/out/",
        num_results=2,
    )
    check = PersonalizeOutputCheckOperator(
        task_id="check",
        sql_conn_id="postgres_default",
        table="shown",
        catalog_sql="SELECT item_id, title FROM shown_items",
        loaded={"lines": 1, "rejects": 0, "job_arn": "{{ ti.xcom_pull(task_ids='recommend') }}"},
        warn_checks={"rows": {"geq_to": 100}},
    )

    @dag.task
    def emails() -> str:
        """Publish a page into which somebody's title has brought a script."""
        from airflow_provider_personalize.operators.reports import publish_page

        page = TEMPLATE.replace("{foreign}", FOREIGN)
        uri = "s3://personalize-local/pages/emails.html"
        return publish_page(page, uri, title=f"Emails {FOREIGN}", template=TEMPLATE)

    recommend >> check >> emails()
