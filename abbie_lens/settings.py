"""Settings as dataclasses of plain JSON types: a list where a tuple belongs, and nothing of another type."""

from __future__ import annotations

import dataclasses
import math
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from abbie_lens.errors import ConfigError


def check_types(settings: Any, where: str) -> None:
    """Hold each field of a frozen dataclass to its annotation, turning JSON's lists into tuples.

    Annotations may be bool, int, float, str, unions with None, and tuples of these. `where` begins the message.
    Errors: ConfigError naming the field, its value and what is allowed.
    """
    kinds = get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value, kind = getattr(settings, field.name), kinds[field.name]
        if isinstance(value, list):
            value = tuple(value)
            object.__setattr__(settings, field.name, value)
        if not fits(value, kind):
            raise ConfigError(f"{where}{field.name}={value!r}: expected {describe(kind)}.")


def fits(value: object, kind: Any) -> bool:
    """Whether a value is of the annotated type; an int is a float, a bool is no number, a float is finite."""
    if isinstance(kind, UnionType):
        return any(fits(value, k) for k in get_args(kind))
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        if not isinstance(value, tuple):
            return False
        if inner[-1] is Ellipsis:
            return all(fits(v, inner[0]) for v in value)
        return len(value) == len(inner) and all(map(fits, value, inner))
    if kind is float:
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        )
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def describe(kind: Any) -> str:
    """The annotated type in words."""
    if isinstance(kind, UnionType):
        return " or ".join(map(describe, get_args(kind)))
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        if inner[-1] is Ellipsis:
            return f"a list, each {describe(inner[0])}"
        return f"a list of {len(inner)}: " + ", ".join(map(describe, inner))
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}
    return names.get(kind, "null" if kind is NoneType else kind.__name__)
