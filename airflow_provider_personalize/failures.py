"""
How an error that leaves a task tells Airflow whether a retry can help.

The package's errors derive from nothing of Airflow's. One that no retry can mend becomes of a type that is both its own
and Airflow's, so that Airflow does not retry, and whoever catches it still finds its type and its values.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, Protocol, TypeVar, cast

from airflow_provider_personalize.compat import AirflowFailException, AirflowNotFoundException
from airflow_provider_personalize.error_base import PersonalizeError, restore_error
from airflow_provider_personalize.exceptions import InvalidRequestError

Method = TypeVar("Method", bound=Callable[..., Any])


class Teller(Protocol):
    """What has methods that :func:`told_to_airflow` wraps."""

    def as_airflow_error(self, error: PersonalizeError) -> PersonalizeError:
        """Make an error one that Airflow understands."""


def final(error: PersonalizeError, airflow_type: type[Exception] = AirflowFailException) -> PersonalizeError:
    """
    Make an error one that Airflow does not retry: the same error, of its own type and of Airflow's.

    :param error: The error.
    :param airflow_type: Airflow's type: ``AirflowFailException`` or ``AirflowSensorTimeout``.
    """
    if isinstance(error, airflow_type):
        return error
    return _restore_final(type(error), airflow_type, error.args, error.__dict__)


def told_to_airflow(method: Method) -> Method:
    """Let the errors that leave an operator's method pass through its ``as_airflow_error``."""

    @wraps(method)
    def told(self: Teller, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            ours = error if isinstance(error, PersonalizeError) else _refusal(error)
            told = ours and self.as_airflow_error(ours)
            if told is None or told is error:
                raise
            # One traceback, the first one's: the error is the same, only of another type.
            raise told.with_traceback(error.__traceback__) from error.__cause__

    return cast(Method, told)


def _refusal(error: Exception) -> PersonalizeError | None:
    """Return the error for a connection that Airflow does not know, or for a refusal of AWS; None otherwise."""
    if isinstance(error, AirflowNotFoundException):
        return InvalidRequestError(f"{str(error).rstrip('.')}. Define it in Airflow, or name another one.")
    from airflow_provider_personalize.aws_errors import AWS_ERRORS, as_personalize_error, is_transient

    if not isinstance(error, AWS_ERRORS) or is_transient(error):
        return None
    return as_personalize_error(error, operation=getattr(error, "operation_name", "the AWS client"))


@cache
def _final_type(error_type: type[PersonalizeError], airflow_type: type[Exception]) -> type[PersonalizeError]:
    def reduce(self: PersonalizeError) -> tuple[Any, ...]:
        return _restore_final, (error_type, airflow_type, self.args, self.__dict__.copy())

    names = {"__module__": error_type.__module__, "__doc__": error_type.__doc__, "__reduce__": reduce}
    return type(error_type.__name__, (error_type, airflow_type), names)


def _restore_final(
    error_type: type[PersonalizeError], airflow_type: type[Exception], args: tuple[Any, ...], state: dict[str, Any]
) -> PersonalizeError:
    # The type checker takes the hash of an error's type for that of an error.
    return restore_error(_final_type(error_type, airflow_type), args, state)  # type: ignore[arg-type]
