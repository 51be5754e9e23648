"""The decorators that state what a plugin's functions do."""

from typing import Callable, TypeVar

from .items import Entity, Event
from .results import Change, Rendering

F = TypeVar("F", bound=Callable)

#: The function of each role, and the class of settings under `settings`.
marked: "dict[str, Callable]" = {}


def event_filter(function: "Callable[[Event, F], bool]"):
    """Decides whether an event is mapped: `def f(event, settings) -> bool`."""
    return mark("event_filter", function)


def mapper(function: "Callable[[Event, F], list[Change]]"):
    """Turns an event into changes: `def f(event, settings) -> list[Change]`. Without changes, the event counts as filtered."""
    return mark("mapper", function)


def entity_filter(function: "Callable[[Entity, F], bool]"):
    """Decides whether a channel gets an entity: `def f(entity, settings) -> bool`."""
    return mark("entity_filter", function)


def renderer(function: "Callable[[Entity, F], Rendering | None]"):
    """Turns an entity into a rendering: `def f(entity, settings) -> Rendering | None`. None: not for this channel."""
    return mark("renderer", function)


def mark(role: str, function):
    """Registers the function of a role. Each role has at most one."""
    if role in marked:
        raise TypeError(f"two functions are marked @{role}: {marked[role].__name__} and {function.__name__}")
    marked[role] = function
    return function
