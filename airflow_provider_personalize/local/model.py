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

_NUMBERS = ("integer", "long", "float", "double")
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
#: Character classes of the model's patterns, which are Java's, in Python's notation.
_JAVA_CLASSES = {
    r"\p{L}\p{Z}\p{N}": r"\w \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
    r"\p{ASCII}": r"[\x00-\x7f]",
}


@cache
def service_model(service: str = "personalize") -> ServiceModel:
    """Load the model of the API version that this package speaks."""
    return ServiceModel(Loader().load_service_model(service, "service-2"), service)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    for java, python in _JAVA_CLASSES.items():
        pattern = pattern.replace(java, python)
    return re.compile(pattern)


def check_request(operation: str, request: Any, service: str = "personalize") -> dict[str, Any]:
    """
    Return the request if the model allows it.

    :param operation: The API operation, as ``CreateBatchInferenceJob``.
    :param request: The decoded body.
    :param service: The service whose operation it is.
    :raises ApiError: ``SerializationException`` for a value of the wrong type, ``TooManyTagsException``, or
        ``InvalidInputException`` that names every other broken constraint.
    """
    shape = service_model(service).operation_model(operation).input_shape
    broken = list(_broken(shape, request, "")) if shape else []
    if broken:
        count = f"{len(broken)} validation error{'s' if len(broken) > 1 else ''} detected: "
        raise ApiError("InvalidInputException", count + "; ".join(broken))
    return dict(request)


def _broken(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """Name the constraints that a value breaks, and those that its members break."""
    _check_type(shape, value, path)
    # Assumption: the wording, which is that of AWS's other JSON services.
    shown = "" if shape.metadata.get("sensitive") else f" '{value}'"
    for constraint in _broken_constraints(shape, value):
        yield f"Value{shown} at '{path}' failed to satisfy constraint: Member must {constraint}"
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            where = f"{path}.{name}" if path else name
            if value.get(name) is not None:
                yield from _broken(member, value[name], where)
            elif name in shape.required_members:
                yield f"Value null at '{where}' failed to satisfy constraint: Member must not be null"
    elif shape.type_name == "list":
        for number, member in enumerate(value, start=1):
            yield from _broken(shape.member, member, f"{path}.{number}.member")
    elif shape.type_name == "map":
        for key, member in value.items():
            yield from _broken(shape.key, key, f"{path}.key")
            yield from _broken(shape.value, member, f"{path}.{key}")


def _check_type(shape: Shape, value: Any, path: str) -> None:
    kind = shape.type_name
    if not isinstance(value, _JSON_TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        raise ApiError(
            "SerializationException", f"Expected a {kind} at {path or 'the top'}, got {type(value).__name__}."
        )


def _broken_constraints(shape: Shape, value: Any) -> Iterator[str]:
    metadata = shape.metadata
    if shape.type_name in (*_NUMBERS, "string", "list", "map"):
        size, noun = (value, "value") if shape.type_name in _NUMBERS else (len(value), "length")
        if size < metadata.get("min", size):
            yield f"have {noun} greater than or equal to {metadata['min']}"
        if size > metadata.get("max", size):
            if shape.name == "Tags":
                raise ApiError("TooManyTagsException", f"Expected at most {metadata['max']} tags, got {size}.")
            yield f"have {noun} less than or equal to {metadata['max']}"
    if "enum" in metadata and value not in metadata["enum"]:
        yield f"satisfy enum value set: [{', '.join(metadata['enum'])}]"
    if "pattern" in metadata and not _compiled(metadata["pattern"]).fullmatch(value):
        yield f"satisfy regular expression pattern: {metadata['pattern']}"
