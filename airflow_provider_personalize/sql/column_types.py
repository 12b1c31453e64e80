"""
Values that a driver hands over as the server writes them, and what they stand for.

Drivers know the arrays of the built-in types, each of them others. What a column holds is therefore asked of the
server: an array is what ``pg_type`` calls one, whatever it is an array of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from airflow_provider_personalize.input.values import InexactFloat
from airflow_provider_personalize.sql.drivers import driver_of

#: Makes a value of what the driver gives.
Conversion = Callable[[Any], Any]

_REAL, _BPCHAR = 700, 1042
#: MySQL's flag of a column that is a set, and its type FLOAT.
_SET_FLAG, _FLOAT = 2048, 4
#: From here on, single precision does not hold every whole number; and MySQL writes only six digits of one.
_SINGLE_INEXACT, _SIX_DIGITS = 2.0**24, 1e6
# Followed through domains, of the array's elements: their name, category and the type below them.
_TYPES = """
    WITH RECURSIVE below AS (
        SELECT t.oid AS found, t.typcategory = 'A' AS is_array, coalesce(e.typdelim, t.typdelim) AS delimiter,
            coalesce(e.oid, t.oid) AS oid, coalesce(e.typbasetype, t.typbasetype) AS base
        FROM pg_catalog.pg_type t
        LEFT JOIN pg_catalog.pg_type e ON t.typcategory = 'A' AND e.oid = t.typelem
        WHERE t.oid IN (SELECT unnest(string_to_array(%s, ','))::oid)
        UNION ALL
        SELECT b.found, b.is_array, b.delimiter, t.oid, t.typbasetype
        FROM below b JOIN pg_catalog.pg_type t ON t.oid = b.base
    )
    SELECT b.found::bigint, b.is_array, b.delimiter::text, b.oid::bigint, t.typcategory::text
    FROM below b JOIN pg_catalog.pg_type t ON t.oid = b.oid WHERE b.base = 0
"""
#: Types that every driver knows, and that are no arrays: bool, bigint, smallint, integer, text, real, double precision,
#: varchar, numeric, uuid, json and jsonb.
_KNOWN = frozenset({16, 20, 21, 23, 25, 114, 700, 701, 1043, 1700, 2950, 3802})


def postgres_conversions(cursor: Any | None, types: Sequence[int]) -> dict[int, Conversion]:
    """
    Return what has to be done to the values of which columns.

    :param cursor: A cursor that gives rows as tuples, to ask about types; None where the server has but its own.
    :param types: The columns' types, as the query's description has them.
    """
    conversions = _known_conversions(types)
    asked = set(types) - _KNOWN
    if not asked or cursor is None:
        return conversions
    cursor.execute(_TYPES, (",".join(map(str, sorted(asked))),))
    for oid, is_array, delimiter, element, category in cursor.fetchall():
        convert = _conversion(is_array, delimiter, element, category)
        if convert:
            conversions |= {index: convert for index, kind in enumerate(types) if kind == oid}
    return conversions


def _known_conversions(types: Sequence[int]) -> dict[int, Conversion]:
    known: dict[int, Conversion] = {_REAL: _single, _BPCHAR: _without_padding}
    return {index: known[kind] for index, kind in enumerate(types) if kind in known}


def other_conversions(cursor: Any) -> dict[int, Conversion]:
    """
    Return what has to be done to which columns of other databases: MySQL's sets come as one text, ``a,b``, Redshift's
    CHAR comes with its padding, and single precision as any number.

    :param cursor: A cursor that has executed the query, of any driver.
    """
    flags: Sequence[int] = ()
    match driver_of(cursor):
        case "MySQLdb":
            flags = cursor.description_flags or ()
        case "pymysql":
            flags = [field.flags for field in cursor._result.fields]
        case "mysql.connector":
            flags = [column[7] for column in cursor.description or ()]
        case "duckdb":
            types = [str(column[1]) for column in cursor.description or ()]
            # Also lists of them, of any length or one: FLOAT[], FLOAT[3].
            return {index: _single for index, kind in enumerate(types) if kind.partition("[")[0] == "FLOAT"}
        case "redshift_connector":
            return _known_conversions([column[1] for column in cursor.description or ()])
        case _:
            return {}
    conversions: dict[int, Conversion] = {index: _set for index, flag in enumerate(flags) if flag & _SET_FLAG}
    return conversions | {index: _six_digits for index, column in enumerate(cursor.description) if column[1] == _FLOAT}


def _single(value: Any) -> Any:
    """Mark what single precision may have changed: a number, the text of one in an array, or a list of them."""
    if isinstance(value, list | tuple):
        return list(map(_single, value))
    return _marked(float(value) if isinstance(value, str) else value, _SINGLE_INEXACT)


def _six_digits(value: Any) -> Any:
    return _marked(value, _SIX_DIGITS)


def _marked(value: Any, limit: float) -> Any:
    return InexactFloat(value) if isinstance(value, float) and abs(value) >= limit else value


def _set(value: Any) -> Any:
    if isinstance(value, str):
        # No member of a set has a comma.
        return value.split(",") if value else []
    return sorted(value) if isinstance(value, (set, frozenset)) else value


def _conversion(is_array: bool, delimiter: str, element: int, category: str) -> Conversion | None:
    read: Conversion = str
    if element == _BPCHAR:
        read = _without_padding
    elif category == "B":
        read = "t".__eq__
    elif element == _REAL:
        read = _single
    elif category == "N":
        read = _number
    if is_array:
        return lambda value: _array(value, delimiter, read)
    return _without_padding if element == _BPCHAR else None


def _without_padding(value: Any) -> Any:
    # What char(n) is padded with means nothing, says SQL.
    return value.rstrip(" ") if isinstance(value, str) else value


def _number(text: str) -> Any:
    try:
        return Decimal(text)
    except ArithmeticError:
        return text  # As money.


def _array(value: Any, delimiter: str, read: Conversion) -> Any:
    if isinstance(value, str):
        return read_array(value, delimiter, read)
    if isinstance(value, list) and read in {_without_padding, _single}:
        return list(map(read, value))
    return value


def read_array(text: str, delimiter: str = ",", read: Conversion = str) -> list[Any]:
    """
    Read an array as PostgreSQL writes it.

    :param text: The array, as ``{a,"b c",NULL}``; or as ``int2vector`` is written, ``1 2``.
    :param delimiter: What stands between the elements, as ``pg_type`` has it.
    :param read: Makes an element of its text.
    :return: Its elements; those of an array of arrays are lists.
    """
    # An array that does not begin at 1 says so: [0:1]={a,b}.
    start = text.find("{") if text.startswith("[") else 0
    if not text.startswith("{", start):
        return list(map(read, text.split()))
    between = re.escape(delimiter)
    token = rf'"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<sign>[{{}}{between}])|(?:[^{{}}{between}\\]|\\.)++'
    found: list[Any] = []
    lists: list[list[Any]] = [found]
    for match in re.compile(token, re.DOTALL).finditer(text, start):
        if match["quoted"] is not None:
            lists[-1].append(read(re.sub(r"\\(.)", r"\1", match["quoted"], flags=re.DOTALL)))
        elif match["sign"] == "{":
            lists[-1].append([])
            lists.append(lists[-1][-1])
        elif match["sign"] == "}":
            lists.pop()
        elif not match["sign"]:
            lists[-1].append(None if match[0] == "NULL" else read(match[0]))
    elements: list[Any] = found[0]
    return elements
