"""Reads JSON into dataclasses. An error names the place of a value that is missing or has another type."""

import dataclasses
import json
import types
import typing
from typing import Any


def read(cls: type, given: Any, strict: bool, place: str = "") -> Any:
    """Reads a JSON object into a dataclass. Raises a ValueError that names the first value that does not fit.

    With `strict`, unknown names do not fit either.
    """
    if not isinstance(given, dict):
        raise ValueError(f"{place or 'it'} should be an object, but is {_shown(given)}")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    unknown = next((name for name in given if name not in fields), None)
    if strict and unknown is not None:
        raise ValueError(f"unknown setting `{_at(place, unknown)}`; known settings: {', '.join(fields)}")
    hints = typing.get_type_hints(cls)
    for name, field in fields.items():
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in given and not optional:
            raise ValueError(f"`{_at(place, name)}` is missing")
    known = {name: _value(hints[name], given[name], strict, _at(place, name)) for name in fields if name in given}
    return cls(**known)


def _value(cls: Any, given: Any, strict: bool, place: str) -> Any:
    origin, arguments = typing.get_origin(cls), typing.get_args(cls)
    if cls is Any:
        return given
    if origin is typing.Literal:
        if not any(given == choice and type(given) is type(choice) for choice in arguments):
            raise ValueError(f"{place} should be {' or '.join(map(_shown, arguments))}, but is {_shown(given)}")
        return given
    if origin in (typing.Union, types.UnionType):
        if given is None and type(None) in arguments:
            return None
        rest = [argument for argument in arguments if argument is not type(None)]
        for choice in rest[:-1]:
            try:
                return _value(choice, given, strict, place)
            except ValueError:
                continue
        return _value(rest[-1], given, strict, place)
    if dataclasses.is_dataclass(cls):
        return read(cls, given, strict, place)
    if cls is list or origin is list:
        _expect(isinstance(given, list), "a list", given, place)
        return [_value((arguments or (Any,))[0], each, strict, f"{place}[{n}]") for n, each in enumerate(given)]
    if cls is dict or origin is dict:
        _expect(isinstance(given, dict), "an object", given, place)
        return {name: _value((arguments or (str, Any))[1], each, strict, _at(place, name)) for name, each in given.items()}
    if cls is float:
        _expect(isinstance(given, (int, float)) and not isinstance(given, bool), "a number", given, place)
        return float(given)
    names = {str: "text", int: "a whole number", bool: "true or false"}
    if cls not in names:
        raise TypeError(f"{place} has a type that JSON cannot be read into: {cls}")
    _expect(type(given) is cls, names[cls], given, place)
    return given


def _expect(fits: bool, what: str, given: Any, place: str) -> None:
    if not fits:
        raise ValueError(f"{place} should be {what}, but is {_shown(given)}")


def _at(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _shown(given: Any) -> str:
    return json.dumps(given, ensure_ascii=False)[:200]
