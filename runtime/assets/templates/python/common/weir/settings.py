"""Settings with types: a class whose fields the configuration may give.

    @settings
    class Settings:
        locations: dict[str, str]
        minimum: int = 1
        unknown: Literal["fail", "skip"] = "fail"

        def __post_init__(self):
            if not self.locations:
                raise ValueError("locations is empty")

It is a dataclass. What is missing, unknown or of another type is told to the operator by its name.
"""

import dataclasses
import typing
from typing import TypeVar

from .roles import mark

C = TypeVar("C", bound=type)


@typing.dataclass_transform(field_specifiers=(dataclasses.field,)) if hasattr(typing, "dataclass_transform") else lambda f: f
def settings(of: C) -> C:
    """Marks the class of the plugin's settings and makes a dataclass of it."""
    return mark("settings", of if dataclasses.is_dataclass(of) else dataclasses.dataclass(of))
