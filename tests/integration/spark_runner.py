"""
Runs the application for Spark again and again in one session, in an environment that has PySpark and nothing else.
What it imports besides is looked for in the session's folder.

Each line of the standard input is a request, JSON: ``{"run": [arguments], "others": [statements]}`` or
``{"sql": statement}``. Each is answered by a line of JSON: ``{"said": …}`` or ``{"rows": …}``, or else
``{"error": …}``. Of the others' statements, one is executed each time before the application moves a table on to what
it has written.
"""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

APPLICATION = str(Path(__file__).parents[2] / "airflow_provider_personalize" / "spark" / "personalize_output.py")


def settings(folder: str) -> dict[str, str]:
    """Return Spark's settings: small, quiet, and with a catalog of Iceberg that is a folder."""
    import snowpark_connect_deps_iceberg as iceberg

    [jar] = (Path(iceberg.__file__).parent / "jars").glob("iceberg-spark-runtime-3.5_2.12-*.jar")
    return {
        "spark.master": "local[2]",
        "spark.ui.enabled": "false",
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        # For data as small as this, planning anew and many tasks are what takes the time.
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.adaptive.enabled": "false",
        "spark.default.parallelism": "1",
        "spark.sql.session.timeZone": "UTC",
        "spark.local.dir": f"{folder}/local",
        "spark.sql.warehouse.dir": f"{folder}/warehouse",
        "spark.jars": str(jar),
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.catalog.lake": "org.apache.iceberg.spark.SparkCatalog",
        "spark.sql.catalog.lake.type": "hadoop",
        "spark.sql.catalog.lake.warehouse": f"{folder}/lake",
        # Small splits, so that a small object has many.
        "spark.sql.files.maxPartitionBytes": "200000",
        "spark.sql.files.openCostInBytes": "1",
    }


def run(arguments: Sequence[str]) -> Any:
    """Run the application as spark-submit does, and return what it has printed."""
    before, printed = sys.argv, io.StringIO()
    sys.argv = [APPLICATION, *arguments]
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_path(APPLICATION, run_name="__main__")
    finally:
        sys.argv = before
    return printed.getvalue()


@contextlib.contextmanager
def interrupted_by(statements: Iterable[str]) -> Iterator[None]:
    """Let somebody else commit to a table while the application writes to a branch of it."""
    from pyspark.sql import SparkSession

    execute, waiting = SparkSession.sql, list(statements)

    def sql(session: SparkSession, statement: str, *args: Any, **options: Any) -> Any:
        if waiting and "fast_forward" in statement:
            execute(session, waiting.pop(0))
        return execute(session, statement, *args, **options)

    SparkSession.sql = sql
    try:
        yield
    finally:
        SparkSession.sql = execute


def main() -> None:
    """Answer requests until there are no more."""
    from pyspark.sql import SparkSession

    # What tests put in the place of boto3, which a cluster has.
    sys.path.append(sys.argv[1])
    builder = SparkSession.builder
    for name, value in settings(sys.argv[1]).items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    for text in sys.stdin:
        request = json.loads(text)
        try:
            if "run" in request:
                with interrupted_by(request["others"]):
                    answer = {"said": run(request["run"])}
            else:
                answer = {"rows": [list(row) for row in spark.sql(request["sql"]).collect()]}
        except SystemExit as error:
            answer = {"error": f"SystemExit: {error.code}"}
        except Exception as error:  # noqa: BLE001
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer, default=str), flush=True)


if __name__ == "__main__":
    main()
