"""Snowflake: COPY INTO of Parquet files."""

from __future__ import annotations

from typing import ClassVar

from airflow_provider_personalize.targets.sql.base import STAGE
from airflow_provider_personalize.targets.sql.staged import StagedTarget, literal


class SnowflakeTarget(StagedTarget):
    """
    Load into Snowflake, through Airflow's ``SnowflakeHook``.

    What this cannot promise: it was never run on the service itself. CREATE TABLE commits by itself there, so a load
    that fails may leave a table behind that it has created, empty. Two tries of one ``append`` at the same moment may
    both add their rows, since Snowflake has no lock that would keep them apart.
    """

    ddl_commits: ClassVar[bool] = True

    def copy_statement(self, uri: str) -> str:
        """Return Snowflake's COPY: by the storage integration, or with the credentials of the AWS connection."""
        assert self.staging is not None  # noqa: S101 (write() has looked)
        if role := self.staging.role:
            authorization = f"STORAGE_INTEGRATION = {self.table.quote(role)}"
        else:
            keys = self.staging.credentials()
            parts = [f"AWS_KEY_ID = {literal(keys.access_key)}", f"AWS_SECRET_KEY = {literal(keys.secret_key)}"]
            parts += [f"AWS_TOKEN = {literal(keys.token)}"] if keys.token else []
            authorization = f"CREDENTIALS = ({' '.join(parts)})"
        return (
            f"COPY INTO {STAGE} FROM {literal(uri)} {authorization} FILE_FORMAT = (TYPE = PARQUET) "
            "MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE"
        )
