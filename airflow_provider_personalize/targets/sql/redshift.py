"""Redshift: COPY of Parquet files."""

from __future__ import annotations

from airflow_provider_personalize.targets.sql.base import STAGE
from airflow_provider_personalize.targets.sql.staged import StagedTarget, literal


class RedshiftTarget(StagedTarget):
    """
    Load into Redshift, through Airflow's ``RedshiftSQLHook``.

    What this cannot promise: it was never run on the service itself. Redshift keeps two loads of one table apart by an
    error for one of them, whose retry gets through.
    """

    def copy_statement(self, uri: str) -> str:
        """Return Redshift's COPY: by the role, or with the credentials of the AWS connection."""
        assert self.staging is not None  # noqa: S101 (write() has looked)
        if role := self.staging.role:
            authorization = "IAM_ROLE default" if role == "default" else f"IAM_ROLE {literal(role)}"
        else:
            keys = self.staging.credentials()
            parts = [f"aws_access_key_id={keys.access_key}", f"aws_secret_access_key={keys.secret_key}"]
            parts += [f"token={keys.token}"] if keys.token else []
            authorization = f"CREDENTIALS {literal(';'.join(parts))}"
        return f"COPY {STAGE} FROM {literal(uri)} {authorization} FORMAT AS PARQUET"
