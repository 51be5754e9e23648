"""Weir's kit for plugins in Python, which plugin.py imports.

A plugin is one function with a decorator that states its kind. A mapper or renderer can have a filter as a second
function, and a plugin can have a class of settings:

    @settings
    class Settings:
        currency: str = "EUR"

    @mapper
    def transform(event: Event, settings: Settings) -> list[Change]:
        ...

The function is called with one item. An exception fails only that item, with the exception's message and place. The
decorator leaves the function unchanged, so a test can call it. Import at the top of the file: a running plugin has no
files to import from.
"""

from . import log
from .failure import Failure
from .items import Entity, Event
from .results import Change, Rendering, version_from_time
from .roles import entity_filter, event_filter, mapper, renderer
from .settings import settings

__all__ = [
    "Change",
    "Entity",
    "Event",
    "Failure",
    "Rendering",
    "entity_filter",
    "event_filter",
    "log",
    "mapper",
    "renderer",
    "settings",
    "version_from_time",
]
