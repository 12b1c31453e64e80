"""Schemas that the service would take are read as they are, and every other one is refused with all that is wrong."""

from __future__ import annotations

import json

import pytest

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.service.schemas import NAMESPACE, Field, check_dataset_type, make_schema, read_schema

INTERACTIONS = [
    {"name": "USER_ID", "type": "string"},
    {"name": "ITEM_ID", "type": "string"},
    {"name": "TIMESTAMP", "type": "long"},
]


def avro(fields, **others):
    return {
        "type": "record",
        "name": "Interactions",
        "namespace": NAMESPACE,
        "fields": fields,
        "version": "1.0",
    } | others


def problems_of(schema, dataset_type=None):
    with pytest.raises(InvalidRequestError) as caught:
        read_schema(schema, dataset_type)
    return str(caught.value)


@pytest.mark.parametrize("form", [dict, json.dumps])
def test_a_schema_of_awss_own_samples_is_read(form):
    given = avro(
        [
            *INTERACTIONS,
            {"name": "EVENT_TYPE", "type": "string"},
            {"name": "EVENT_VALUE", "type": ["null", "float"]},
            {"name": "DEVICE", "type": ["string", "null"], "categorical": True},
        ]
    )
    read = read_schema(form(given))
    assert read.dataset_type == "INTERACTIONS"
    assert read.fields[3:] == (
        Field("EVENT_TYPE", "string"),
        Field("EVENT_VALUE", "float", nullable=True),
        Field("DEVICE", "string", nullable=True, categorical=True),
    )
    assert read_schema(read.as_avro()) == read


@pytest.mark.parametrize(
    ("name", "fields", "dataset_type"),
    [
        ("Items", [{"name": "ITEM_ID", "type": "string"}, {"name": "PRICE", "type": "float"}], "ITEMS"),
        ("Users", [{"name": "USER_ID", "type": "string"}, {"name": "AGE", "type": "int"}], "USERS"),
        ("mine", [{"name": "ITEM_ID", "type": "string"}, {"name": "PRICE", "type": "float"}], "ITEMS"),
        ("mine", INTERACTIONS, "INTERACTIONS"),
    ],
)
def test_the_type_is_told_by_the_records_name_or_its_fields(name, fields, dataset_type):
    assert read_schema(avro(fields, name=name)).dataset_type == dataset_type


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("not json", "schema: expected an Avro schema as JSON"),
        ("[1]", "expected an Avro schema as a dict or as JSON, got [1]"),
        (avro(INTERACTIONS, namespace="com.example"), 'expected "namespace": "com.amazonaws.personalize.schema"'),
        (avro(INTERACTIONS, type="enum"), 'expected "type": "record", got \'enum\''),
        (avro([]), 'expected "fields": [...] with at least one field'),
        (avro(INTERACTIONS[1:]), "USER_ID: INTERACTIONS needs this field, of type string"),
        (avro([*INTERACTIONS, INTERACTIONS[0]]), "USER_ID: expected each field once, got it twice"),
        (
            avro([*INTERACTIONS[:2], {"name": "TIMESTAMP", "type": "string"}]),
            "TIMESTAMP: expected the type long, without null, got 'string'",
        ),
        (
            avro([{"name": "USER_ID", "type": ["string", "null"]}, *INTERACTIONS[1:]]),
            "USER_ID: expected the type string, without null, got ['string', 'null']",
        ),
        (
            avro([*INTERACTIONS, {"name": "X", "type": {"type": "record", "name": "Y", "fields": []}}]),
            "X: expected one of the types string, int, long, float, double, boolean",
        ),
        (avro([*INTERACTIONS, {"name": "X", "type": {"type": "array", "items": "string"}}]), "a record is flat"),
        (avro([*INTERACTIONS, {"name": "X", "type": ["string", "int"]}]), "X: expected one of the types"),
        (avro([*INTERACTIONS, {"name": "X", "type": "null"}]), "X: expected one of the types"),
        (avro([*INTERACTIONS, {"name": "two words", "type": "int"}]), "fields[3]: expected a field with a name"),
        (avro([*INTERACTIONS, "X"]), "fields[3]: expected a field with a name"),
        (avro([*INTERACTIONS, {"name": "X", "type": "string"}]), 'X: text is metadata only with "categorical": true'),
        (
            avro([*INTERACTIONS, {"name": "X", "type": "string", "textual": True}]),
            'X: "textual" is for ITEMS alone',
        ),
        (
            avro([*INTERACTIONS, {"name": "EVENT_VALUE", "type": "string"}]),
            "EVENT_VALUE: expected the type float or double, got 'string'",
        ),
        (
            avro([*INTERACTIONS, *({"name": f"X{n}", "type": "int"} for n in range(6))]),
            "expected at most 5 metadata fields, got 6",
        ),
        (avro([{"name": "ITEM_ID", "type": "string"}], name="Items"), "ITEMS needs at least one field beside ITEM_ID"),
        (avro([{"name": "USER_ID", "type": "string"}], name="Users"), "USERS needs at least one field beside USER_ID"),
        (avro(INTERACTIONS, doc="x" * 20_000), "expected at most 20,000 characters"),
    ],
)
def test_what_the_service_would_refuse(schema, said):
    assert said in problems_of(schema)


def test_everything_that_is_wrong_is_said_at_once():
    fields = [{"name": "USER_ID", "type": "int"}, {"name": "X", "type": "string"}]
    said = problems_of(avro(fields, namespace=""), "INTERACTIONS")
    assert said.startswith("schema: the service would refuse this schema for INTERACTIONS:")
    for part in (
        "namespace",
        "USER_ID: expected the type string",
        "ITEM_ID: INTERACTIONS needs",
        "X: text is metadata",
    ):
        assert part in said


def test_dataset_types():
    assert check_dataset_type("items") == "ITEMS"
    with pytest.raises(InvalidRequestError, match="expected one of INTERACTIONS, ITEMS, USERS, got 'ACTIONS'"):
        check_dataset_type("ACTIONS")


def test_a_schema_for_columns():
    columns = {"itemId": "long", "price": "double", "Genres": "string", "releaseYear": "int", "about it": "string"}
    made = make_schema(columns, "items", nullable=["price"], categorical=["genres"], textual=["ABOUT_IT"])
    assert made.as_avro() == {
        "type": "record",
        "name": "Items",
        "namespace": NAMESPACE,
        "fields": [
            {"name": "ITEM_ID", "type": "string"},
            {"name": "PRICE", "type": ["double", "null"]},
            {"name": "GENRES", "type": "string", "categorical": True},
            {"name": "RELEASE_YEAR", "type": "int"},
            {"name": "ABOUT_IT", "type": "string", "textual": True},
        ],
        "version": "1.0",
    }


def test_reserved_fields_keep_the_types_that_they_have_to_have():
    columns = {"user_id": "long", "item_id": "string", "timestamp": "int", "event_type": "string", "event_value": "int"}
    made = make_schema(columns, "INTERACTIONS", nullable=list(columns))
    assert [field.as_avro()["type"] for field in made.fields] == [
        "string", "string", "long", ["string", "null"], ["float", "null"]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "marks", "said"),
    [
        ({"item_id": "string", "genre": "string"}, {}, 'GENRE: text is metadata only with "categorical": true'),
        ({"item_id": "string", "price": "float"}, {"categorical": ["genre"]}, "categorical: expected columns of the"),
        ({"item_id": "string", "price": "float"}, {"textual": ["price"]}, "are for text, got the type float"),
        ({"item_id": "string", "Item_Id": "string", "x": "int"}, {}, "ITEM_ID: expected each field once"),
        ({"name": "string"}, {"textual": ["name"]}, "ITEM_ID: ITEMS needs this field"),
    ],
)
def test_columns_that_make_no_schema(columns, marks, said):
    with pytest.raises(InvalidRequestError) as caught:
        make_schema(columns, "ITEMS", **marks)
    assert said in str(caught.value)


def test_json_that_is_nested_too_deeply_is_no_schema():
    with pytest.raises(InvalidRequestError, match="expected an Avro schema as JSON, got text that is not"):
        read_schema("[" * 100_000)
