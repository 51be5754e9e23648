"""What a plugin is given: events and entities."""

import csv
import io
import json
import xml.etree.ElementTree as ElementTree
from typing import Any, Iterator, Optional

from .failure import Failure
from .shapes import read


class Event:
    """What a source sent: the CloudEvents envelope and the data, untouched.

    `id` is the sender's identifier, unique with `origin` (CloudEvents `source`); `type` is CloudEvents `type`; `subject`,
    `time` (RFC 3339, as the sender wrote it) and `content_type` may be None. `attributes` has CloudEvents extensions and the HTTP
    headers that the source lets through, names in lower case. `data` is text, or bytes where it is not UTF-8.
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
        raise Failure("not-text", f"the event's data, {len(self.data)} bytes, is not text in UTF-8")

    def bytes(self) -> bytes:
        """The data as bytes, whether they are text or not."""
        return self.data.encode() if isinstance(self.data, str) else self.data

    def json(self, of: Optional[type] = None) -> Any:
        """The data from JSON, as this dataclass if one is given; whole numbers are exact. Fails with `broken-json`."""
        return parse(self.text(), "broken-json", "the event's data", of)

    def xml(self) -> ElementTree.Element:
        """The data from XML. Fails with `broken-xml`."""
        try:
            return ElementTree.fromstring(self.text())
        except ElementTree.ParseError as error:
            raise Failure("broken-xml", f"the event's data is no XML: {error}") from None

    def csv(self, delimiter: str = ",") -> "Iterator[dict[str, str]]":
        """The rows of CSV, each named by the first one. Fails with `broken-csv` while they are read."""
        rows = csv.DictReader(io.StringIO(self.text(), newline=""), delimiter=delimiter, strict=True)
        try:
            yield from rows
        except csv.Error as error:
            raise Failure("broken-csv", f"the event's data, line {rows.line_num}: {error}") from None

    def attribute(self, name: str) -> Optional[str]:
        """An attribute by its name in lower case."""
        return next((value for of, value in self.attributes if of == name), None)


class Entity:
    """An entity as it is now, with the facets that the channel subscribes to: `type`, `key`, and `names`, those of its facets in order."""

    __slots__ = ("type", "key", "_values")

    def __init__(self, type: str, key: str, values: "dict[str, str]"):
        """With the JSON texts of the facets by their names."""
        self.type = type
        self.key = key
        self._values = values

    @property
    def names(self) -> "list[str]":
        """The names of its facets, in order."""
        return list(self._values)

    def raw(self, name: str) -> Optional[str]:
        """The JSON text of a facet, as it was written."""
        return self._values.get(name)

    def facet(self, name: str, of: Optional[type] = None) -> Any:
        """The value of a facet, as this dataclass if one is given; None if the entity has no such facet. Fails with `wrong-facet`."""
        value = self._values.get(name)
        return None if value is None else parse(value, "wrong-facet", f"the facet {name}", of)

    def family(self, prefix: str, of: Optional[type] = None) -> "dict[str, Any]":
        """The facets of a family by the rest of their names: with `stock.`, those of `stock.*`, each by its place."""
        return {name[len(prefix) :]: self.facet(name, of) for name in self._values if name.startswith(prefix)}


def parse(text: str, code: str, what: str, of: Optional[type] = None) -> Any:
    """A value from JSON, and no more than JSON: Python's own reader would take NaN as well."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Failure(code, f"{what} is no JSON: {error}") from None
    if of is None:
        return value
    try:
        return read(of, value, strict=False)
    except ValueError as error:
        raise Failure(code, f"{what} is not of the expected form: {error}") from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
