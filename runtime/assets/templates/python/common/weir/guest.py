"""Connects Weir with the author's functions: handles batches, settings and exceptions. Not for authors.

The classes are named after the interfaces of `wit/plugin.wit`; the plugin's world determines which of them are used.
"""

import json
import traceback
from typing import Any, Callable

from componentize_py_types import Err, Ok
from wit_world.imports import log as host
from wit_world.imports import types as wit

from . import log, sandbox
from .failure import Failure
from .items import Entity, Event
from .results import Change, Rendering
from .roles import marked
from .shapes import read

log.sink = lambda level, message: host.write(host.Level[level], _printable(message))

_settings: Any = None


class Settings:
    """The settings of this instance."""

    def configure(self, text: str) -> None:
        """Reads and stores the settings; the operator sees an error."""
        global _settings
        sandbox.wake()
        try:
            given = json.loads(text)
            cls = marked.get("settings")
            # The settings of a channel's plugin also contain the columns of the channel's row.
            strict = "event_filter" in marked or "mapper" in marked
            _settings = given if cls is None else read(cls, given, strict)
        except (Exception, SystemExit) as error:
            raise Err(str(error) or type(error).__name__) from None


class EventFilter:
    """Drops events."""

    def accept(self, events: "list[wit.Event]"):
        """Returns one result for each event."""
        return _each("event_filter", events, _event, _yes_or_no)


class Mapper:
    """Maps events."""

    def transform(self, events: "list[wit.Event]"):
        """Returns one result for each event."""
        return _each("mapper", events, _event, _changes)


class EntityFilter:
    """Drops entities."""

    def accept(self, entities: "list[wit.Entity]"):
        """Returns one result for each entity."""
        return _each("entity_filter", entities, _entity, _yes_or_no)


class Renderer:
    """Renders entities."""

    def render(self, entities: "list[wit.Entity]"):
        """Returns one result for each entity."""
        return _each("renderer", entities, _entity, _rendering)


def _each(role: str, raws: list, open: Callable, close: Callable) -> list:
    """Returns one result for each item, in the same order. An exception fails only its own item."""
    function = marked[role]
    results = []
    for raw in raws:
        try:
            results.append(Ok(close(function(open(raw), _settings))))
        except (Exception, SystemExit) as error:
            results.append(Err(_failed(error)))
    return results


def _event(raw: wit.Event) -> Event:
    return Event(raw.data.value, raw.id, raw.origin, raw.event_type, raw.subject, raw.time, raw.content_type, raw.attributes)


def _entity(raw: wit.Entity) -> Entity:
    return Entity(raw.entity_type, raw.key, {facet.name: facet.value for facet in raw.facets})


def _yes_or_no(given: Any) -> bool:
    if given is True or given is False:
        return given
    raise _wrong("True or False", given)


def _changes(given: Any) -> "list[wit.Change]":
    if not isinstance(given, (list, tuple)) or not all(isinstance(change, Change) for change in given):
        raise _wrong("a list of changes", given)
    return [
        wit.Change(
            _whole(change.entity_type),
            _whole(change.key),
            _whole(change.facet_name),
            change.value,
            change.version_number,
            None if change.lane_name is None else _whole(change.lane_name),
        )
        for change in given
    ]


def _rendering(given: Any) -> "wit.Rendering | None":
    if given is None:
        return None
    if not isinstance(given, Rendering):
        raise _wrong("a rendering or None", given)
    binary = isinstance(given.body, (bytes, bytearray))
    body = wit.Payload_Binary(bytes(given.body)) if binary else wit.Payload_Text(_whole(given.body))
    return wit.Rendering(None if given.target_key is None else _whole(given.target_key), _whole(given.media_type), body)


def _whole(text: Any) -> str:
    """Checks a text. Half a character, or another type, would end the whole batch when it is passed to Weir."""
    if not isinstance(text, str):
        raise Failure("wrong-answer", f"a name is not text: {text!r}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Failure("wrong-answer", f"a name or text contains half a character: {text[:100]!a}") from None
    return text


def _wrong(what: str, given: Any) -> Failure:
    return Failure("wrong-answer", f"the plugin should return {what}, but returned {given!r:.200}")


def _failed(error: BaseException) -> wit.Failure:
    """Passes on an author's failure; any other exception becomes a failure with its place."""
    if isinstance(error, Failure):
        return wit.Failure(_printable(error.code), _printable(error.message))
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    ours = [(code, line) for code, line in reversed(frames) if "/weir/" not in code.co_filename]
    places = [f"{code.co_filename.rsplit('/', 1)[-1]}:{line} in {code.co_name}" for code, line in ours]
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, SystemExit):
        message += ": a plugin is a function and cannot end its process; return a result, or raise weir.Failure"
    message += f" ({places[0]})" if places else ""
    log.error(message + (f", from {', '.join(places[1:6])}" if len(places) > 1 else ""))
    return wit.Failure("exception", _printable(message))


def _printable(text: Any) -> str:
    return str(text).encode(errors="replace").decode()


# The plugin is imported before this module, so all that it uses is there.
sandbox.complete()
