"""A load in four parts, one of which waits for its worker to be killed, once, for tests/system/test_celery.py."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow_provider_personalize.targets.parquet_parts import ParquetTarget
from airflow_provider_personalize.transfers.personalize_to_iceberg import PersonalizeToIcebergOperator
from airflow_provider_personalize.transfers.personalize_to_parquet import PersonalizeToParquetOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

FOLDER = Path(os.environ.get("LAKE_FOLDER", "/nowhere"))


class HeldOperator(PersonalizeToParquetOperator):
    """The first time, part 1 has written all its rows, and goes no further: its worker is killed then."""

    def execute(self, context):
        mark = FOLDER / "held"
        if self.part == 1 and not mark.exists():

            def hold(*_):
                mark.write_text(str(os.getpid()))
                threading.Event().wait()

            # This process runs this task and nothing else.
            ParquetTarget.publish = hold
        return super().execute(context)


DEFAULTS = {"retries": 2, "retry_delay": timedelta(seconds=1)}

with DAG("lake", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), default_args=DEFAULTS):
    export = HeldOperator.partial(
        task_id="export",
        output_uri=f"{FOLDER.as_uri()}/output/",
        target_uri=f"{FOLDER.as_uri()}/lake/",
        extra_columns={"run_date": "2026-11-22"},
        parts=4,
        aws_conn_id=None,
    ).expand(part=[0, 1, 2, 3])
    PersonalizeToIcebergOperator(
        task_id="publish",
        loads=export.output,
        iceberg_conn_id="lake",
        table="lake.recommendations",
        write_mode="replace_slice",
        max_reject_rate=0.1,
        aws_conn_id=None,
    )
