"""
Queries only read, whatever their text says: a session that cannot write, and one statement that gives rows.

Neither is enough by itself. In a read-only session, a second statement could end the transaction and begin one that
writes; and some single statements (``COPY … TO PROGRAM``, ``SELECT … INTO OUTFILE``) write although it is read-only.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.sql.drivers import driver_of

#: What a statement that gives rows, and nothing else, can begin with.
_FIRST_WORDS = frozenset({"select", "with", "values", "table", "from", "("})
#: Words that no query has outside quotes, for databases of which nothing better is known.
_WRITING_WORDS = frozenset({"into", "delete", "update", "merge"})
#: mysqlclient's MYSQL_OPTION_MULTI_STATEMENTS_OFF, which it gives no name.
_MULTI_STATEMENTS_OFF = 1

# Databases take what is not ASCII for letters, also spaces that Python knows; possessive, so that reading is linear.
_LETTER = r"A-Za-z_\x80-\U0010ffff"
_SPACE = r"[ \t\n\r\f\v]"
_PLAIN = r"'(?:[^']|'')*+'"
_ESCAPING = r"'(?:[^'\\]|\\.|'')*+'"
_DOUBLE = r'"(?:[^"]|"")*+"'
_DOUBLE_ESCAPING = r'"(?:[^"\\]|\\.|"")*+"'
_BACKTICKS = r"`[^`]*+`"
_BRACKETS = r"\[[^\]]*+\]"
_NUMBER = r"(?:0[xX][0-9A-Fa-f]++|[0-9][0-9_]*+(?:\.[0-9]*+)?(?:[eE][+-]?[0-9]++)?)"
_DOLLARS = rf"\$(?P<tag>(?:[{_LETTER}][{_LETTER}0-9]*+)?)\$.*?\$(?P=tag)\$"
# PostgreSQL goes on with a string that begins again in another line.
_NEXT_LINE = rf"(?:[ \t\f\v]|--[^\r\n]*+)*+[\r\n](?:{_SPACE}|--[^\r\n]*+[\r\n])*+"
_E_STRING = rf"[eE]{_ESCAPING}(?>{_NEXT_LINE}{_ESCAPING})*+"


class _Dialect(NamedTuple):
    """How a database tells strings and comments from the rest; ``forbidden`` words are never in a query."""

    quoted: tuple[str, ...]
    comment: str = "--"
    nested_comments: bool = False
    forbidden: frozenset[str] = frozenset()


@cache
def _tokens(quoted: tuple[str, ...], comment: str) -> re.Pattern[str]:
    # To compile all of them takes longer than to import the rest of a DAG file's operators.
    return re.compile(
        rf"(?P<space>{_SPACE}++|(?:{comment})[^\r\n]*+)|(?P<comment>/\*)|(?P<end>;)|(?P<quoted>{'|'.join(quoted)})"
        rf"|(?P<open>['\"`]|\$\$)|(?P<number>\$?{_NUMBER})|(?P<word>[{_LETTER}][{_LETTER}0-9$]*+)|(?P<other>.)",
        re.DOTALL,
    )


_POSTGRES = _Dialect((_E_STRING, _PLAIN, _DOUBLE, _DOLLARS), nested_comments=True)
#: With standard_conforming_strings=off.
_POSTGRES_ESCAPING = _Dialect((_ESCAPING, _DOUBLE, _DOLLARS), nested_comments=True)
# Python's driver takes one statement and no more, and query_only keeps it from writing.
_SQLITE = _Dialect((_PLAIN, _DOUBLE, _BACKTICKS, _BRACKETS))
_ANY = _Dialect((_PLAIN, _DOUBLE, _BACKTICKS), forbidden=_WRITING_WORDS)
#: What databases read differently, so that none of it may be beside a semicolon where the database is not known.
_AMBIGUOUS = re.compile(r"[\\`#$\[]|/\*(?:(?!\*/).)*/\*", re.DOTALL)


def read_only(connection: Any) -> None:
    """
    Let a connection only read from now on, as far as its database can.

    Call it before anything else is done on the connection. It begins a transaction on DuckDB alone, which knows no
    other way. On PostgreSQL, a connection that was set to commit each statement by itself no longer does.

    :param connection: The connection, of any driver.
    """
    match driver_of(connection):
        case "psycopg":
            connection.autocommit = False
            connection.read_only = True
        case "psycopg2":
            connection.set_session(readonly=True, autocommit=False)
        case "MySQLdb" | "pymysql" | "mysql.connector" as driver:
            if driver == "MySQLdb":
                connection.set_server_option(_MULTI_STATEMENTS_OFF)
            cursor = connection.cursor()
            # Of the session: whatever transaction begins, by itself or in a procedure, is read-only.
            cursor.execute("SET SESSION TRANSACTION READ ONLY")
            cursor.close()
        case "sqlite3":
            connection.execute("PRAGMA query_only = ON").close()
        case "duckdb":
            connection.execute("BEGIN TRANSACTION READ ONLY")


def single_statement(sql: str, connection: Any, *, parameter: str = "sql") -> str:
    """
    Make sure that a text is one query, and return it without the semicolon and the comments that may follow it.

    What is returned can also stand in brackets, as in ``SELECT count(*) FROM (…) AS asked``.

    :param sql: The text.
    :param connection: The connection that it is meant for: databases differ in what is a string or a comment.
    :param parameter: What the text is called in errors.
    :raises InvalidRequestError: if it is not exactly one statement, or does something else than give rows.
    """
    dialect = _dialect(connection)
    try:
        start, end, words = _read(sql, dialect, parameter)
    except InvalidRequestError:
        if dialect is not _ANY or ";" in sql.rstrip("; \t\r\n"):
            raise
        # With strings of another kind, as 'it\'s'; where there is no semicolon, there is one statement all the same.
        start, end, words = 0, len(sql.rstrip("; \t\r\n")), re.findall(r"\A\s*(\(|\w+)", sql.lower()) or [""]
    if dialect is _ANY and ";" in sql[start:end] and _AMBIGUOUS.search(sql[start:end]):
        raise InvalidRequestError(
            f"{parameter}: expected a query that holds no semicolon, got {_cut(sql[start:end])!r}: it cannot be "
            "told for this database whether that is inside a string. Put such texts into parameters."
        )
    if words[0] not in _FIRST_WORDS:
        raise InvalidRequestError(
            f"{parameter}: expected one query (SELECT, WITH … SELECT, VALUES or TABLE), got {_cut(sql[start:end])!r}. "
            "A query only reads here: put settings into the connection, and do what writes in a task of its own."
        )
    if found := sorted(dialect.forbidden.intersection(words)):
        raise InvalidRequestError(
            f"{parameter}: expected a query that only reads, got the word {found[0].upper()} in it. Do what writes "
            "in a task of its own; the name of a column or table that is such a word has to be quoted."
        )
    return sql[start:end]


def _dialect(connection: Any) -> _Dialect:
    match driver_of(connection):
        case "psycopg" | "psycopg2":
            escaping = connection.info.parameter_status("standard_conforming_strings") == "off"
        case "MySQLdb" | "pymysql" | "mysql.connector":
            return _mysql_dialect(connection)
        case "sqlite3":
            return _SQLITE
        case "duckdb":
            escaping = False
        case _:
            return _ANY
    return _POSTGRES_ESCAPING if escaping else _POSTGRES


def _mysql_dialect(connection: Any) -> _Dialect:
    cursor = connection.cursor()
    cursor.execute("SELECT @@sql_mode")
    row = cursor.fetchone()
    cursor.close()
    [mode] = row.values() if isinstance(row, dict) else row
    modes = str(mode.decode() if isinstance(mode, (bytes, bytearray)) else mode).split(",")
    escaping = "NO_BACKSLASH_ESCAPES" not in modes
    return _Dialect(
        (
            _ESCAPING if escaping else _PLAIN,
            _DOUBLE_ESCAPING if escaping and "ANSI_QUOTES" not in modes else _DOUBLE,
            _BACKTICKS,
        ),
        comment=r"\#|--(?=[\x00-\x20]|\Z)",
        # SELECT … INTO OUTFILE writes a file of the server, also in a transaction that only reads.
        forbidden=frozenset({"into", "!"}),
    )


def _read(sql: str, dialect: _Dialect, parameter: str) -> tuple[int, int, list[str]]:
    """Return where the one statement of a text begins and ends, and its words outside strings and comments."""
    start: int | None = None
    end = position = 0
    ended = False
    words: list[str] = []
    tokens = _tokens(dialect.quoted, dialect.comment)
    while position < len(sql):
        found = tokens.match(sql, position)
        assert found  # noqa: S101 (its last alternative takes any character)
        here, position = position, found.end()
        match found.lastgroup:
            case "space":
                continue
            case "comment":
                if "!" in dialect.forbidden and re.compile("M?!").match(sql, position):
                    raise InvalidRequestError(
                        f"{parameter}: expected no comment that MySQL executes, got {_cut(sql[here:])!r}. Write "
                        "what is in it as plain SQL."
                    )
                position = _after_comment(sql, here, dialect.nested_comments, parameter)
                continue
            case "end":
                ended = start is not None
                continue
            case "open":
                raise _unclosed("quotes", sql[here:], parameter)
        if ended:
            raise InvalidRequestError(
                f"{parameter}: expected one statement, got another one behind it: {_cut(sql[here:])!r}. A query runs "
                "alone and only reads: put settings into the connection, and do what writes in a task of its own."
            )
        if start is None:
            start = here
        if found.lastgroup == "word" or not words:
            words.append(found[0].lower())
        end = position
    if start is None:
        raise InvalidRequestError(f"{parameter}: expected a query, got {_cut(sql)!r}, where there is none.")
    return start, end, words


def _after_comment(sql: str, start: int, nested: bool, parameter: str) -> int:
    depth = 0
    for found in re.compile(r"/\*|\*/").finditer(sql, start):
        depth += -1 if found[0] == "*/" else nested or not depth
        if not depth:
            return found.end()
    raise _unclosed("comments", sql[start:], parameter)


def _unclosed(what: str, text: str, parameter: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{parameter}: expected a query whose {what} are closed, got one where they are not, from {_cut(text)!r} on."
    )


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"
