"""
The DAG whose lineage is looked at.

As a program, this file runs it once, and writes how each task ended to the file that it is given.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from airflow_provider_personalize.operators.batch import PersonalizeCreateBatchInferenceJobOperator
from airflow_provider_personalize.transfers.personalize_to_sql import PersonalizeToSqlOperator
from airflow_provider_personalize.transfers.sql_to_personalize import SqlToPersonalizeInputOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

FOLDER = "s3://personalize-local/lineage"
USERS = "SELECT s.user_id FROM subscribers s JOIN visits v ON v.visitor = s.user_id"

with DAG("lineage", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
    prepare = SqlToPersonalizeInputOperator(
        task_id="prepare", sql=USERS, sql_conn_id="warehouse", s3_uri=f"{FOLDER}/in/", aws_conn_id=None
    )
    prepare_untold = SqlToPersonalizeInputOperator(
        task_id="prepare_untold",
        sql="SELECT 'u1' AS user_id",
        sql_conn_id="lite",
        s3_uri=f"{FOLDER}/untold",
        aws_conn_id=None,
    )
    jobs = [
        PersonalizeCreateBatchInferenceJobOperator(
            task_id=name,
            solution_arn=os.environ.get("LINEAGE_SOLUTION"),
            role_arn="arn:aws:iam::123456789012:role/personalize",
            input_uri=prepare.output,
            output_uri=f"{FOLDER}/{name}/",
            num_results=5,
            poll_interval=0.1,
            wait_for_completion=True,
            deferrable=name == "deferred",
            aws_conn_id=None,
        )
        for name in ("sync", "deferred")
    ]
    load = PersonalizeToSqlOperator(
        task_id="load", job_arn=jobs[0].output, sql_conn_id="warehouse", table="Recommendations", aws_conn_id=None
    )
    # The output under the prefix is there by then, and read without asking for the job.
    append = [
        PersonalizeToSqlOperator(
            task_id=name,
            output_uri=f"{FOLDER}/deferred/",
            sql_conn_id="warehouse",
            schema="archive",
            table="recs",
            write_mode="append",
            extra_columns={"night": 1},
            aws_conn_id=None,
        )
        for name in ("append", "append_again")
    ]
    fail = PersonalizeToSqlOperator(
        task_id="fail",
        output_uri=f"{FOLDER}/deferred/",
        sql_conn_id="warehouse",
        table="narrow",
        aws_conn_id=None,
    )
    jobs[1] >> append[0] >> append[1] >> fail

if __name__ == "__main__":
    run = dag.test()
    Path(sys.argv[1]).write_text(json.dumps({ti.task_id: str(ti.state) for ti in run.get_task_instances()}))
