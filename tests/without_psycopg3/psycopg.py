"""Stands before psycopg 3 with ``--psycopg2``, for the tests and the processes that they start."""

raise ModuleNotFoundError("psycopg is out of reach with --psycopg2", name="psycopg")
