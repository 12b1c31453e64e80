"""
The Avro schemas of datasets: what the service takes, and a schema for the columns that a query has.

This module is pure: it imports neither Airflow nor boto3.

.. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/how-it-works-dataset-schema.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.service.names import folded

DatasetType = Literal["INTERACTIONS", "ITEMS", "USERS"]
DATASET_TYPES: tuple[DatasetType, ...] = get_args(DatasetType)

NAMESPACE = "com.amazonaws.personalize.schema"
MAX_SCHEMA_LENGTH = 20_000
#: The reserved fields that the service lets be null; whether the others may be is told nowhere.
_MAY_BE_NULL = frozenset({"EVENT_VALUE", "IMPRESSION", "RECOMMENDATION_ID", "EVENT_ATTRIBUTION_SOURCE"})
#: The primitive types that a field may have, beside null in a union.
FIELD_TYPES = ("string", "int", "long", "float", "double", "boolean")
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class _Rules:
    """What a dataset of one type has to have, may have, and how much of it."""

    record: str
    required: Mapping[str, str]
    reserved: Mapping[str, tuple[str, ...]]
    max_metadata: int
    needs_metadata: bool


_RULES: Mapping[str, _Rules] = {
    "INTERACTIONS": _Rules(
        record="Interactions",
        required={"USER_ID": "string", "ITEM_ID": "string", "TIMESTAMP": "long"},
        reserved={
            "EVENT_TYPE": ("string",),
            "EVENT_VALUE": ("float", "double"),
            "IMPRESSION": ("string",),
            "RECOMMENDATION_ID": ("string",),
            "EVENT_ATTRIBUTION_SOURCE": ("string",),
        },
        max_metadata=5,
        needs_metadata=False,
    ),
    "ITEMS": _Rules(
        record="Items",
        required={"ITEM_ID": "string"},
        reserved={"CREATION_TIMESTAMP": ("long",)},
        max_metadata=100,
        needs_metadata=True,
    ),
    "USERS": _Rules(
        record="Users",
        required={"USER_ID": "string"},
        reserved={},
        max_metadata=25,
        needs_metadata=True,
    ),
}


@dataclass(frozen=True)
class Field:
    """
    One field of a schema.

    :param name: Its name, as the CSV's header has it.
    :param type: One of :data:`FIELD_TYPES`.
    :param nullable: Whether a value may be missing.
    :param categorical: Whether its text is one or several categories, joined by ``|``.
    :param textual: Whether its text is prose.
    """

    name: str
    type: str
    nullable: bool = False
    categorical: bool = False
    textual: bool = False

    @property
    def is_id(self) -> bool:
        """Whether it identifies a user or an item."""
        return self.name in {"USER_ID", "ITEM_ID"}

    @property
    def is_timestamp(self) -> bool:
        """Whether it is a moment, in seconds since the epoch."""
        return self.name in {"TIMESTAMP", "CREATION_TIMESTAMP"}

    def as_avro(self) -> dict[str, Any]:
        """Return the field as Avro has it."""
        avro: dict[str, Any] = {"name": self.name, "type": [self.type, "null"] if self.nullable else self.type}
        if self.categorical:
            avro["categorical"] = True
        if self.textual:
            avro["textual"] = True
        return avro


@dataclass(frozen=True)
class DatasetSchema:
    """
    A schema that the service takes.

    :param dataset_type: ``INTERACTIONS``, ``ITEMS`` or ``USERS``.
    :param fields: Its fields, in order.
    """

    dataset_type: DatasetType
    fields: tuple[Field, ...]

    def as_avro(self) -> dict[str, Any]:
        """Return the schema as Avro has it, the dict that ``json.dumps`` turns into what CreateSchema takes."""
        return {
            "type": "record",
            "name": _RULES[self.dataset_type].record,
            "namespace": NAMESPACE,
            "fields": [field.as_avro() for field in self.fields],
            "version": "1.0",
        }


def check_dataset_type(value: object, *, parameter: str = "dataset_type") -> DatasetType:
    """
    Return a dataset's type in upper case.

    :raises InvalidRequestError: if the service has no such type.
    """
    for known in DATASET_TYPES:
        if str(value).upper() == known:
            return known
    raise InvalidRequestError(f"{parameter}: expected one of {', '.join(DATASET_TYPES)}, got {value!r}.")


def read_schema(
    schema: Mapping[str, Any] | str, dataset_type: str | None = None, *, is_taken: bool = False
) -> DatasetSchema:
    """
    Read an Avro schema, and make sure that the service would take it.

    :param schema: The schema, as a dict or as JSON.
    :param dataset_type: The type of the dataset that it is for; by default, the type that its name or its fields tell.
    :param is_taken: Whether the service has taken it already, as it may others than those that are known here (those of
        domains, say): then nothing but its fields has to be understood.
    :raises InvalidRequestError: with everything that is wrong.
    """
    avro = _parsed(schema)
    text = schema if isinstance(schema, str) else json.dumps(schema)
    problems: list[str] = []
    fields = _fields(avro.get("fields"), problems)
    kind = check_dataset_type(dataset_type) if dataset_type else _type_of(avro, fields)
    if not is_taken:
        problems += [*_frame_problems(avro, text), *_field_problems(kind, fields)]
    if problems:
        found = "\n".join(f"  {problem}" for problem in problems)
        raise InvalidRequestError(f"schema: the service would refuse this schema for {kind}:\n{found}")
    return DatasetSchema(kind, tuple(fields))


def _frame_problems(avro: Mapping[str, Any], text: str) -> Iterator[str]:
    """Say what is wrong with a schema, its fields apart."""
    if len(text) > MAX_SCHEMA_LENGTH:
        yield f"expected at most {MAX_SCHEMA_LENGTH:,} characters, got {len(text):,}"
    if avro.get("type") != "record":
        yield f'expected "type": "record", got {avro.get("type")!r}'
    if avro.get("namespace") != NAMESPACE:
        yield f'expected "namespace": "{NAMESPACE}", got {avro.get("namespace")!r}'


def _parsed(schema: Mapping[str, Any] | str) -> Mapping[str, Any]:
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError) as error:
            raise InvalidRequestError(
                f"schema: expected an Avro schema as JSON, got text that is not: {error}."
            ) from None
    if not isinstance(schema, Mapping):
        raise InvalidRequestError(f"schema: expected an Avro schema as a dict or as JSON, got {schema!r}.")
    return schema


def _fields(found: object, problems: list[str]) -> list[Field]:
    if not isinstance(found, list) or not found:
        problems.append(f'expected "fields": [...] with at least one field, got {found!r}')
        return []
    fields: dict[str, Field] = {}
    for number, one in enumerate(found):
        try:
            field = _field(one, number)
            if field.name in fields:
                raise ValueError(f"{field.name}: expected each field once, got it twice")  # noqa: TRY301
            fields[field.name] = field
        except ValueError as error:
            problems.append(str(error))
    return list(fields.values())


def _field(avro: object, number: int) -> Field:
    if not isinstance(avro, Mapping) or not _FIELD_NAME.fullmatch(str(avro.get("name", ""))):
        raise ValueError(f"fields[{number}]: expected a field with a name of letters, digits and _, got {avro!r}")
    name, types = str(avro["name"]), avro.get("type")
    listed = types if isinstance(types, list) else [types]
    plain = [kind for kind in listed if kind != "null"]
    if len(plain) != 1 or plain[0] not in FIELD_TYPES or listed.count("null") > 1:
        raise ValueError(
            f"{name}: expected one of the types {', '.join(FIELD_TYPES)}, or a list of one of them and null (a record "
            f"is flat), got {types!r}"
        )
    return Field(
        name,
        plain[0],
        nullable="null" in listed,
        categorical=avro.get("categorical") is True,
        textual=avro.get("textual") is True,
    )


def _type_of(avro: Mapping[str, Any], fields: Iterable[Field]) -> DatasetType:
    for kind in DATASET_TYPES:
        if str(avro.get("name", "")).upper() == kind:
            return kind
    names = {field.name for field in fields}
    if {"USER_ID", "ITEM_ID"} <= names:
        return "INTERACTIONS"
    return "ITEMS" if "ITEM_ID" in names else "USERS"


def _field_problems(kind: DatasetType, fields: list[Field]) -> Iterator[str]:
    """Say what is wrong with the fields, for a dataset of a type."""
    rules = _RULES[kind]
    named = {field.name: field for field in fields}
    for name, type_ in rules.required.items():
        field = named.get(name)
        if field is None:
            yield f"{name}: {kind} needs this field, of type {type_}"
        elif field.type != type_ or field.nullable:
            yield f"{name}: expected the type {type_}, without null, got {field.as_avro()['type']!r}"
    for name, types in rules.reserved.items():
        if (field := named.get(name)) and field.type not in types:
            yield f"{name}: expected the type {' or '.join(types)}, got {field.type!r}"
    known = (*rules.required, *rules.reserved)
    metadata = [field for field in fields if field.name not in known]
    if rules.needs_metadata and not metadata:
        yield f"{kind} needs at least one field beside {', '.join(known)}"
    if len(metadata) > rules.max_metadata:
        yield f"expected at most {rules.max_metadata} metadata fields, got {len(metadata)}"
    for field in fields:
        yield from _mark_problems(kind, field, is_metadata=field.name not in known)


def _mark_problems(kind: DatasetType, field: Field, *, is_metadata: bool) -> Iterator[str]:
    """Say what is wrong with how a field is marked, as categorical or as textual."""
    if field.categorical and field.textual:
        yield f'{field.name}: expected "categorical" or "textual", got both'
    if (field.categorical or field.textual) and field.type != "string":
        yield f'{field.name}: "categorical" and "textual" are for text, got the type {field.type}'
    if is_metadata and field.type == "string" and not (field.categorical or field.textual):
        yield (
            f'{field.name}: text is metadata only with "categorical": true (one category, or several joined by |)'
            + (' or "textual": true (prose)' if kind == "ITEMS" else "")
        )
    if field.textual and kind != "ITEMS":
        yield f'{field.name}: "textual" is for ITEMS alone'


def make_schema(
    columns: Mapping[str, str],
    dataset_type: str,
    *,
    nullable: Collection[str] | None = None,
    categorical: Collection[str] = (),
    textual: Collection[str] = (),
) -> DatasetSchema:
    """
    Return a schema for the columns of a query.

    :param columns: The columns and their Avro types, as ``{"user_id": "string", "ts": "long"}``.
    :param dataset_type: The type of the dataset.
    :param nullable: The columns that may hold NULL; by default, all that the service lets.
    :param categorical: The columns whose text is categories.
    :param textual: The columns whose text is prose.
    :raises InvalidRequestError: with everything that is wrong, a column of text that is neither included.
    """
    kind = check_dataset_type(dataset_type)
    rules = _RULES[kind]
    known = {folded(name): name for name in (*rules.required, *rules.reserved)}
    marks = {
        mark: {folded(name) for name in names}
        for mark, names in (("nullable", nullable or ()), ("categorical", categorical), ("textual", textual))
    }
    here = {folded(name) for name in columns}
    for mark, names in marks.items():
        if unknown := sorted(names - here):
            raise InvalidRequestError(
                f"{mark}: expected columns of the query ({', '.join(columns)}), got {', '.join(unknown)}."
            )
    fields = []
    for column, type_ in columns.items():
        name = known.get(folded(column)) or field_name(column)
        if name in rules.required:
            fields.append(Field(name, rules.required[name]))
        elif name in rules.reserved:
            types = rules.reserved[name]
            is_nullable = name in _MAY_BE_NULL if nullable is None else folded(column) in marks["nullable"]
            fields.append(Field(name, type_ if type_ in types else types[0], nullable=is_nullable))
        else:
            flags = {mark: folded(column) in names for mark, names in marks.items()}
            fields.append(Field(name, type_, **flags | ({"nullable": True} if nullable is None else {})))
    return read_schema(DatasetSchema(kind, tuple(fields)).as_avro(), kind)


def field_name(column: str) -> str:
    """Return a field's name for a column: ``releaseYear`` and ``release year`` become ``RELEASE_YEAR``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column)
    return re.sub(r"[^A-Za-z0-9_]", "_", words).upper()
