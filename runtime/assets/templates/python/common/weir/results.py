"""The values that a plugin returns: changes and renderings."""

import datetime
import json
import re
from typing import Any, Optional

from .failure import Failure

_VERSION_MAX = 2**64 - 1


class Change:
    """A new value of one facet of one entity, or the deletion of that facet."""

    __slots__ = ("entity_type", "key", "facet_name", "value", "version_number", "lane_name")

    def __init__(self, entity_type: str, key: str, facet_name: str, value: Optional[str]):
        self.entity_type = entity_type
        self.key = key
        self.facet_name = facet_name
        #: JSON text. None deletes the facet.
        self.value = value
        self.version_number: Optional[int] = None
        self.lane_name: Optional[str] = None

    @staticmethod
    def facet(entity_type: str, key: str, facet: str, value: Any) -> "Change":
        """Sets the facet to a value. Fails with `not-json` if the value has no JSON form, such as NaN."""
        return Change(entity_type, key, facet, write(value, f"{facet} of {key}"))

    @staticmethod
    def delete(entity_type: str, key: str, facet: str) -> "Change":
        """Deletes the facet. An entity without facets is deleted itself."""
        return Change(entity_type, key, facet, None)

    def version(self, version: Optional[int]) -> "Change":
        """Sets the owner's version of the facet, which must rise. Without it (None), the change that arrives last wins.

        `version_from_time` makes a version of a time.
        """
        if version is not None and (type(version) is not int or not 0 <= version <= _VERSION_MAX):
            raise Failure("bad-version", f"the version {version!r} is not a whole number from 0 to 2^64 - 1")
        self.version_number = version
        return self

    def lane(self, lane: str) -> "Change":
        """Sets the lane, `urgent`, `normal` or `bulk`, instead of the facet's configured one."""
        self.lane_name = lane
        return self


class Rendering:
    """The content that a channel delivers for one entity."""

    __slots__ = ("body", "media_type", "target_key")

    def __init__(self, body: "str | bytes", media_type: str):
        self.body = body
        self.media_type = media_type
        self.target_key: Optional[str] = None

    @staticmethod
    def json(value: Any) -> "Rendering":
        """A JSON body, `application/json`. Fails with `not-json` if the value has no JSON form."""
        return Rendering(write(value, "the rendering"), "application/json")

    @staticmethod
    def of(content_type: str, body: "str | bytes") -> "Rendering":
        """A body of text or bytes with a media type."""
        return Rendering(body, content_type)

    def key(self, key: str) -> "Rendering":
        """Sets the name of the entity at the target, a document id or `{key}` in a URL. The default is the entity's key."""
        self.target_key = key
        return self

    def content_type(self, content_type: str) -> "Rendering":
        """Sets another media type, such as `application/ld+json`."""
        self.media_type = content_type
        return self


def version_from_time(time: str) -> int:
    """Converts an RFC 3339 time with an offset to milliseconds since 1970, for `Change.version`. Finer fractions are cut off.

    Fails with `not-a-time` for any other text, and for times before 1970.
    """
    if _TIME.fullmatch(time):
        try:
            since = datetime.datetime.fromisoformat(time.upper().replace("Z", "+00:00")) - _EPOCH
        except ValueError:
            since = -_MILLISECOND
        if since >= datetime.timedelta(0):
            return since // _MILLISECOND
    raise Failure("not-a-time", f"`{time}` is not a time since 1970 with an offset, such as 2026-11-23T10:00:00Z")


_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)", re.ASCII)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_MILLISECOND = datetime.timedelta(milliseconds=1)

_plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_escaped = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode


def write(value: Any, what: str) -> str:
    """Writes a value as JSON text. Fails with `not-json` if it has no JSON form; the message starts with `what`."""
    try:
        text = _plain(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            # Half a character (a lone surrogate) is not valid UTF-8, but can be passed on as an escape.
            text = _escaped(value)
        return text
    except (TypeError, ValueError, RecursionError) as error:
        raise Failure("not-json", f"{what} cannot be written as JSON: {error}") from None
