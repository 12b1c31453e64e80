"""What of this package's extras a target needs."""

from __future__ import annotations

from importlib import import_module

from airflow_provider_personalize.exceptions import InvalidRequestError


def need(extra: str, *modules: str) -> None:
    """
    Make sure that the modules can be imported which an extra of this package installs.

    :param extra: The extra.
    :param modules: The modules.
    :raises InvalidRequestError: if one cannot.
    """
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise InvalidRequestError(
                f"Expected the package {module} on this worker, but it does not import ({error}). "
                f"Install what this needs: pip install 'airflow-provider-personalize[{extra}]'."
            ) from error
