"""Weir's kit for plugins in Python: what plugin.py imports.

A plugin is one function, or a filter and another one, marked with what it does, and perhaps a class of settings:

    @settings
    class Settings:
        currency: str = "EUR"

    @mapper
    def transform(event: Event, settings: Settings) -> list[Change]:
        ...

It is called with one item. An exception fails that item alone, with its message and place. The function stays a plain one, which
a test can call. Import at the top of a file: when the plugin runs, there are no files to import from any more.
"""

from . import log
from .answers import Change, Rendering, version_from_time
from .failure import Failure
from .items import Entity, Event
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
