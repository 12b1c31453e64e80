"""
Check a request against botocore's own model of the service.

botocore checks few of the model's constraints before it sends a request; the service checks all of them, and so does
this module: required members, types, lengths, ranges, patterns, enumerations, and the sizes of lists and maps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape

from airflow_provider_personalize.local.errors import ApiError

_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "timestamp": (int, float),
}
#: Unicode classes of the model's patterns, which are Java's, in Python's notation (inside square brackets).
_JAVA_CLASSES = {
    r"\p{L}\p{Z}\p{N}": r"\w \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
    r"\p{ASCII}": r"[\x00-\x7f]",
}


@cache
def service_model() -> ServiceModel:
    """Load the model of the API version that this package speaks."""
    return ServiceModel(Loader().load_service_model("personalize", "service-2"), "personalize")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    for java, python in _JAVA_CLASSES.items():
        pattern = pattern.replace(java, python)
    return re.compile(pattern)


def check_request(operation: str, request: Any) -> dict[str, Any]:
    """
    Return the request if the model allows it.

    :param operation: The API operation, as ``CreateBatchInferenceJob``.
    :param request: The decoded body.
    :raises ApiError: ``SerializationException`` for a value of the wrong type, ``InvalidInputException`` that names
        every other broken constraint.
    """
    shape = service_model().operation_model(operation).input_shape
    broken = list(_broken_constraints(shape, request, "")) if shape else []
    if broken:
        count = f"{len(broken)} validation error{'s' if len(broken) > 1 else ''} detected: "
        raise ApiError("InvalidInputException", count + "; ".join(broken))
    return dict(request)


def _broken_constraints(shape: Shape, value: Any, path: str) -> Iterator[str]:
    # Assumption: the wording, which is that of AWS's other JSON services.
    kind = shape.type_name
    if not isinstance(value, _JSON_TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        raise ApiError(
            "SerializationException", f"Expected a {kind} at {path or 'the top'}, got {type(value).__name__}."
        )
    metadata = shape.metadata
    shown = "" if metadata.get("sensitive") else f" '{value}'"

    def failed(constraint: str) -> str:
        return f"Value{shown} at '{path}' failed to satisfy constraint: Member must {constraint}"

    if kind in ("integer", "long", "float", "double"):
        size, noun = value, "have value"
    elif kind in ("string", "list", "map"):
        size, noun = len(value), "have length"
    else:
        size, noun = None, ""
    if size is not None and "min" in metadata and size < metadata["min"]:
        yield failed(f"{noun} greater than or equal to {metadata['min']}")
    if size is not None and "max" in metadata and size > metadata["max"]:
        yield failed(f"{noun} less than or equal to {metadata['max']}")
    if "enum" in metadata and value not in metadata["enum"]:
        yield failed(f"satisfy enum value set: [{', '.join(metadata['enum'])}]")
    if "pattern" in metadata and not _compiled(metadata["pattern"]).fullmatch(value):
        yield failed(f"satisfy regular expression pattern: {metadata['pattern']}")

    if kind == "structure":
        for name in metadata.get("required", ()):
            if value.get(name) is None:
                where = f"{path}.{name}" if path else name
                yield f"Value null at '{where}' failed to satisfy constraint: Member must not be null"
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield from _broken_constraints(member, value[name], f"{path}.{name}" if path else name)
    elif kind == "list":
        for number, member in enumerate(value, start=1):
            yield from _broken_constraints(shape.member, member, f"{path}.{number}.member")
    elif kind == "map":
        for key, member in value.items():
            yield from _broken_constraints(shape.key, key, f"{path}.key")
            yield from _broken_constraints(shape.value, member, f"{path}.{key}")
