"""Typed settings: a class whose fields are the settings that the configuration can contain.

    @settings
    class Settings:
        locations: dict[str, str]
        minimum: int = 1
        unknown: Literal["fail", "skip"] = "fail"

        def __post_init__(self):
            if not self.locations:
                raise ValueError("locations is empty")

The class becomes a dataclass. The operator sees the name of a setting that is missing, unknown or of another type.
"""

import dataclasses
import typing
from typing import TypeVar

from .roles import mark

C = TypeVar("C", bound=type)


@typing.dataclass_transform(field_specifiers=(dataclasses.field,)) if hasattr(typing, "dataclass_transform") else lambda f: f
def settings(cls: C) -> C:
    """Marks the class of the plugin's settings and turns it into a dataclass."""
    return mark("settings", cls if dataclasses.is_dataclass(cls) else dataclasses.dataclass(cls))
