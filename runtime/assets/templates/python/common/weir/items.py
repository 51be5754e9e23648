"""The values that a plugin receives: events and entities."""

import csv
import io
import json
import xml.etree.ElementTree as ElementTree
from typing import Any, Iterator, Optional

from .failure import Failure
from .shapes import read


class Event:
    """An event from a source system: the CloudEvents envelope and the data, unchanged.

    `id` is the sender's identifier, unique together with `origin` (CloudEvents `source`); `type` is CloudEvents `type`;
    `subject`, `time` (RFC 3339, as the sender wrote it) and `content_type` can be None. `attributes` has the CloudEvents
    extensions and the HTTP headers that the source passes on, with names in lower case. `data` is text, or bytes if it is
    not UTF-8.
    """

    __slots__ = ("id", "origin", "type", "subject", "time", "content_type", "attributes", "data")

    def __init__(
        self,
        data: "str | bytes",
        id: str = "",
        origin: str = "",
        type: str = "",
        subject: Optional[str] = None,
        time: Optional[str] = None,
        content_type: Optional[str] = None,
        attributes: "list[tuple[str, str]] | tuple" = (),
    ):
        self.id = id
        self.origin = origin
        self.type = type
        self.subject = subject
        self.time = time
        self.content_type = content_type
        self.attributes = attributes
        self.data = data

    def text(self) -> str:
        """The data as text. Fails with `not-text` if it is not UTF-8."""
        if isinstance(self.data, str):
            return self.data
        raise Failure("not-text", f"the event's data, {len(self.data)} bytes, is not UTF-8 text")

    def bytes(self) -> bytes:
        """The data as bytes, whether it is text or not."""
        return self.data.encode() if isinstance(self.data, str) else self.data

    def json(self, cls: Optional[type] = None) -> Any:
        """Reads the data as JSON, into a dataclass if one is given. Whole numbers are exact. Fails with `broken-json`."""
        return parse(self.text(), "broken-json", "the event's data", cls)

    def xml(self) -> ElementTree.Element:
        """Reads the data as XML. Fails with `broken-xml`."""
        try:
            return ElementTree.fromstring(self.text())
        except ElementTree.ParseError as error:
            raise Failure("broken-xml", f"the event's data is not XML: {error}") from None

    def csv(self, delimiter: str = ",") -> "Iterator[dict[str, str]]":
        """Reads the data as CSV, row by row; the first row has the names. Fails with `broken-csv` during the iteration."""
        rows = csv.DictReader(io.StringIO(self.text(), newline=""), delimiter=delimiter, strict=True)
        try:
            yield from rows
        except csv.Error as error:
            raise Failure("broken-csv", f"the event's data, line {rows.line_num}: {error}") from None

    def attribute(self, name: str) -> Optional[str]:
        """Returns an attribute by its name in lower case, or None."""
        return next((value for attribute, value in self.attributes if attribute == name), None)


class Entity:
    """The current state of an entity, with the facets that the channel subscribes to."""

    __slots__ = ("type", "key", "_values")

    def __init__(self, type: str, key: str, values: "dict[str, str]"):
        """`values` has the JSON text of each facet by its name."""
        self.type = type
        self.key = key
        self._values = values

    @property
    def names(self) -> "list[str]":
        """The names of the facets, in order."""
        return list(self._values)

    def raw(self, name: str) -> Optional[str]:
        """Returns the JSON text of a facet, as it was written, or None."""
        return self._values.get(name)

    def facet(self, name: str, cls: Optional[type] = None) -> Any:
        """Returns the value of a facet, as a dataclass if one is given, or None if the entity has no such facet.

        Fails with `wrong-facet` if the value does not fit.
        """
        value = self._values.get(name)
        return None if value is None else parse(value, "wrong-facet", f"the facet {name}", cls)

    def family(self, prefix: str, cls: Optional[type] = None) -> "dict[str, Any]":
        """Returns the facets of a family by the rest of their names: for `stock.`, `stock.berlin` by `berlin`."""
        return {name[len(prefix) :]: self.facet(name, cls) for name in self._values if name.startswith(prefix)}


def parse(text: str, code: str, what: str, cls: Optional[type] = None) -> Any:
    """Reads a value from JSON, strictly: Python's own reader would also accept NaN."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Failure(code, f"{what} is not JSON: {error}") from None
    if cls is None:
        return value
    try:
        return read(cls, value, strict=False)
    except ValueError as error:
        raise Failure(code, f"{what} does not have the expected form: {error}") from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")
