"""What a plugin does: the marks on its functions."""

from typing import Callable, TypeVar

from .answers import Change, Rendering
from .items import Entity, Event

F = TypeVar("F", bound=Callable)

#: The functions by their roles, and the class of settings as `settings`.
marked: "dict[str, Callable]" = {}


def event_filter(function: "Callable[[Event, F], bool]"):
    """Whether an event is to be mapped: `def f(event, settings) -> bool`."""
    return mark("event_filter", function)


def mapper(function: "Callable[[Event, F], list[Change]]"):
    """What changes by an event: `def f(event, settings) -> list[Change]`. Nothing: the event counts as filtered."""
    return mark("mapper", function)


def entity_filter(function: "Callable[[Entity, F], bool]"):
    """Whether a channel gets an entity: `def f(entity, settings) -> bool`."""
    return mark("entity_filter", function)


def renderer(function: "Callable[[Entity, F], Rendering | None]"):
    """What a target gets of an entity: `def f(entity, settings) -> Rendering | None`. None: not for this channel."""
    return mark("renderer", function)


def mark(role: str, function):
    """Remembers what does the role; there is one for each."""
    if role in marked:
        raise TypeError(f"two functions are marked @{role}: {marked[role].__name__} and {function.__name__}")
    marked[role] = function
    return function
