"""Addresses of objects and files: parsed to their parts, and printed again."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.uris import FileUri, S3Uri, parse_s3_uri, parse_uri, parse_uri_or_path


@pytest.mark.parametrize(
    "uri", ["", "bucket/key", "s3:/bucket/key", "https://bucket/key", "s3://", "s3:///key", "s3://b c/k", None]
)
def test_a_malformed_s3_uri_is_named_in_the_error(uri):
    with pytest.raises(InvalidRequestError, match="output_uri: expected an S3 URI"):
        parse_s3_uri(uri, parameter="output_uri")


def test_an_s3_path_has_at_most_256_characters():
    uri = "s3://bucket/" + "k" * 244
    assert str(parse_s3_uri(uri)) == uri
    with pytest.raises(InvalidRequestError, match="at most 256 characters"):
        parse_s3_uri(uri + "k")


@pytest.mark.parametrize(
    ("uri", "expected", "is_folder"),
    [
        ("s3://b/in/", S3Uri("b", "in/"), True),
        ("s3://b/in/users.json", S3Uri("b", "in/users.json"), False),
        ("s3://b/a b/\u00e9#?%20", S3Uri("b", "a b/\u00e9#?%20"), False),
        ("s3://b/", S3Uri("b", ""), True),
        ("file:///data/out/", FileUri(Path("/data/out"), True), True),
        ("file:///data/1.out", FileUri(Path("/data/1.out")), False),
        ("file:///a%20b/%C3%A9%23%3F%2520", FileUri(Path("/a b/\u00e9#?%20")), False),
    ],
)
def test_a_uri_is_what_it_was_after_parsing(uri, expected, is_folder):
    parsed = parse_uri(uri)
    assert (parsed, parsed.is_folder, str(parsed)) == (expected, is_folder, uri)


def test_a_file_uri_may_hold_what_begins_a_query_elsewhere():
    assert parse_uri("file:///data/a#1?b") == FileUri(Path("/data/a#1?b"))


@pytest.mark.parametrize(
    "value", ["", "/data/out/", "gs://shop/out/", "S3://shop/out/", "s3:/b", "file:", "file://host/data/", None, 5]
)
def test_what_is_no_uri_is_named_in_the_error(value):
    with pytest.raises(InvalidRequestError, match=r"output_uri: expected 's3://bucket/folder/'.*, got .*"):
        parse_uri(value, parameter="output_uri")


@pytest.mark.parametrize("value", ["page.html", "/reports/page.html", Path("page.html")])
def test_a_plain_path_is_a_file_where_paths_are_taken(value):
    assert parse_uri_or_path(value) == FileUri(Path(value))


@pytest.mark.parametrize("value", ["", "gs://shop/page.html", "https://host/page.html", "file://host/page.html", None])
def test_what_is_neither_uri_nor_path_is_named_in_the_error(value):
    with pytest.raises(InvalidRequestError, match="report_uri: expected a path, file:///folder/name"):
        parse_uri_or_path(value, parameter="report_uri")
