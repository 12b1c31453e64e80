"""
A stand-in for Amazon Personalize and S3 on this machine, with real training and real recommendations.

``personalize-local`` starts it from a shell (:mod:`~airflow_provider_personalize.local.cli`),
:class:`~airflow_provider_personalize.local.server.LocalPersonalize` from Python. It needs the extra ``local``. Nothing
outside this package imports it.

What the stand-in decides by itself, because no public text says what the service does, is marked in the code with a
comment that begins with ``Assumption:``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_personalize.local.server import LocalPersonalize

__all__ = ["LocalPersonalize"]


def __getattr__(name: str) -> Any:
    # Imported late, so that the command can say which extra is missing.
    if name == "LocalPersonalize":
        from airflow_provider_personalize.local.server import LocalPersonalize

        return LocalPersonalize
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
