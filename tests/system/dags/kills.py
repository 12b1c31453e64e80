"""The tasks of ``tests/kills.py`` as DAGs, for tests/system/test_kills.py."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.kills import DAGS, task_of

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

for dag_id, cells in DAGS.items():
    with DAG(
        dag_id,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        default_args={"retries": 4, "retry_delay": timedelta(seconds=1)},
        params={"version": ""},
    ) as dag:
        for cell in cells:
            task_of(cell, "{{ params.version }}")
    globals()[dag_id] = dag
