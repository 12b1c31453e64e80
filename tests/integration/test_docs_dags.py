"""The DAGs of the README and of the tutorial do what the pages say, on the stand-in and a real PostgreSQL."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from example_dags.demo.data import fill
from tests.integration.test_example_dags import run_dag

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("page", "table", "column"),
    [("README.md", "recommendations", "item_id"), ("docs/tutorial.md", "my_similar_items", "related_item_id")],
)
def test_the_dag_of_a_page_runs(
    page, table, column, postgres, airflow_connection, airflow_db, local, tmp_path, monkeypatch
):
    airflow_connection("warehouse", postgres.uri)
    airflow_connection("postgres_default", postgres.uri)
    airflow_connection("aws_default", "aws://")
    fill(postgres)
    postgres.execute("DELETE FROM items WHERE item_id NOT IN (SELECT item_id FROM items ORDER BY item_id LIMIT 300)")
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    try:
        import airflow.sdk  # noqa: F401
    except ImportError:
        code = code.replace("from airflow.sdk import", "from airflow import")
    # The README's bucket and role are a reader's own.
    code = code.replace("my-bucket", "personalize-local").replace('role/personalize"', 'role/personalize-local"')
    path = tmp_path / "page.py"
    path.write_text(code, encoding="utf-8")

    monkeypatch.setattr("airflow.settings.DAGS_FOLDER", str(tmp_path))

    run = run_dag(path, datetime(2026, 3, 1, 2, tzinfo=UTC))

    assert run.state == "success"
    [(rows, results)] = postgres.execute(f"SELECT count(*), count(DISTINCT {column}) FROM {table}")
    assert rows > 1_000
    assert results > 10
    if page == "README.md":
        assert postgres.execute("SELECT DISTINCT run_date FROM recommendations") == [("2026-03-01",)]
