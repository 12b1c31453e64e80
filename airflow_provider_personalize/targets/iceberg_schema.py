"""Whether an Iceberg table can take a load's files, and what one looks like that is made for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_personalize.exceptions import TableMismatchError

if TYPE_CHECKING:
    from pyiceberg.partitioning import PartitionSpec
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.types import IcebergType


def mismatch(name: str, reason: str) -> TableMismatchError:
    """Return the error that says why a table cannot take the files."""
    return TableMismatchError(table=name, reason=reason)


def iceberg_types(kind: str) -> tuple[IcebergType, ...]:
    """Return the types of Iceberg that hold one of this package's as it is; the first is that of a new column."""
    from pyiceberg import types

    return {
        "text": (types.StringType(),),
        "integer": (types.IntegerType(), types.LongType()),
        "bigint": (types.LongType(),),
        "double": (types.DoubleType(),),
        "boolean": (types.BooleanType(),),
        "date": (types.DateType(),),
        "timestamp": (types.TimestampType(),),
        "timestamptz": (types.TimestamptzType(),),
    }[kind]


def new_schema(columns: Mapping[str, str]) -> Schema:
    """Return the schema of a table for these columns, given with their types."""
    from pyiceberg.schema import Schema
    from pyiceberg.types import NestedField

    return Schema(
        *(
            NestedField(field_id=number, name=name, field_type=iceberg_types(kind)[0], required=False)
            for number, (name, kind) in enumerate(columns.items(), 1)
        )
    )


def new_spec(schema: Schema, extra: Mapping[str, Any]) -> PartitionSpec:
    """
    Return the partitions of a table with this schema: one for each combination of the extra columns' values.

    pyiceberg rounds doubles in what it notes of a partition, so these make none.
    """
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.transforms import IdentityTransform
    from pyiceberg.types import DoubleType

    return PartitionSpec(
        *(
            PartitionField(schema.find_field(name).field_id, 1_000 + number, IdentityTransform(), name)
            for number, name in enumerate(extra)
            if not isinstance(schema.find_type(name), DoubleType)
        )
    )


def check_table(table: Table, name: str, columns: Mapping[str, str], extra: Mapping[str, Any]) -> None:
    """
    Make sure that a table can take the files.

    :param table: The table.
    :param name: Its name, for the error.
    :param columns: The files' columns with their types.
    :param extra: The columns that have one value in all rows.
    :raises TableMismatchError: if it cannot.
    """
    found = {field.name: field for field in table.schema().fields}
    problems = []
    for column, kind in columns.items():
        allowed = iceberg_types(kind)
        expected = " or ".join(map(str, allowed))
        if column not in found:
            problems.append(f"expected a column {column} of type {expected}, got none")
        elif found[column].field_type not in allowed:
            problems.append(f"expected the column {column} to be of type {expected}, got {found[column].field_type}")
        elif found[column].required:
            problems.append(
                f"expected the column {column} to be optional, as it is in the files, got one that is required"
            )
    problems += [
        f"expected columns that may be left out beside those of the rows, got {column}, which is required"
        for column, field in found.items()
        if field.required and column not in columns
    ]
    for part in table.spec().fields:
        source = str(table.schema().find_column_name(part.source_id))
        if source not in extra or not part.transform.preserves_order or columns[source] == "double":
            usable = ", ".join(name for name in extra if columns[name] != "double") or "there are none"
            problems.append(
                f"expected partitions by columns of extra_columns that are no doubles ({usable}), got one by "
                f"{part.transform}({source}), which a file of the load may have rows of more than one of"
            )
    if problems:
        raise mismatch(
            name,
            f"{'; '.join(problems)}. Change the table, or extra_columns and column_names of the tasks that wrote the "
            "files, or load into another table, which is created where it is missing.",
        )
