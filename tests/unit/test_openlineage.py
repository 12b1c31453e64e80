"""What operators tell OpenLineage when they are asked; the events of real tasks are looked at in tests/integration."""

from __future__ import annotations

import pytest

pytest.importorskip("airflow.providers.openlineage", reason="datasets are classes of OpenLineage's")

from airflow_provider_personalize.lineage import Amount, LoadLineage, job_lineage, load_lineage
from airflow_provider_personalize.transfers.sql_to_personalize import SqlToPersonalizeInputOperator


@pytest.mark.parametrize(
    ("uri", "namespace", "name"),
    [
        ("s3://shop/in/", "s3://shop", "in"),
        ("s3://shop/in", "s3://shop", "in"),
        ("s3://shop/a/b/users.json", "s3://shop", "a/b/users.json"),
        ("s3://shop/a b/\u00e9#?%20/", "s3://shop", "a b/\u00e9#?%20"),
        ("s3://shop/", "s3://shop", "/"),
        ("s3://shop", "s3://shop", "/"),
    ],
)
def test_places_on_s3_are_named_by_the_specification(uri, namespace, name):
    lineage = job_lineage(uri, uri)
    assert [(found.namespace, found.name) for found in lineage.inputs + lineage.outputs] == [(namespace, name)] * 2


@pytest.mark.parametrize("uri", ["file:///data/out%20put/", "file:///data/out%20put"])
def test_files_are_named_by_their_path(uri):
    [source] = load_lineage("none", LoadLineage(source_uri=uri, read=Amount(3, 120, 2))).inputs
    assert (source.namespace, source.name) == ("file", "/data/out put")
    statistics = source.inputFacets["inputStatistics"]
    assert (statistics.rowCount, statistics.size, statistics.fileCount) == (3, 120, 2)


def test_a_load_that_failed_at_once_tells_nothing():
    lineage = load_lineage("none", LoadLineage())
    assert (lineage.inputs, lineage.outputs) == ([], [])


def test_a_database_out_of_reach_leaves_what_is_known(caplog):
    operator = SqlToPersonalizeInputOperator(
        task_id="prepare", sql="SELECT user_id FROM users", sql_conn_id="no_such_connection", s3_uri="s3://shop/in"
    )
    lineage = operator.get_openlineage_facets_on_start()
    assert lineage.inputs == []
    assert [(found.namespace, found.name) for found in lineage.outputs] == [("s3://shop", "in")]
    assert "no_such_connection could not be asked" in caplog.text
