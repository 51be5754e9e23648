"""Tells all that a plugin of a source is given; `tests/conformance/README.md` says how."""

import struct

from weir import Change, Event, Failure, event_filter, mapper


@event_filter
def accept(event: Event, settings: dict) -> bool:
    return event.attribute("drop") != "true"


@mapper
def transform(event: Event, settings: dict) -> list[Change]:
    match event.type:
        case "tell":
            return [change("event", tell(event))]
        case "echo":
            return [change("data", event.text())]
        case "numbers":
            return [change("bits", [struct.pack(">d", number).hex() for number in event.json()])]
        case "versions":
            return [change(f"n{index}", index).version(int(version)) for index, version in enumerate(event.json())]
        case "lanes":
            named = [change("lane", None).lane(lane) for lane in ("urgent", "normal", "bulk")]
            return [*named, change("lane", None), Change.delete("echo", "echo", "lane")]
        case "many":
            return [change("n", index) for index in range(event.json())]
        case "fail":
            failure = event.json()
            raise Failure(failure["code"], failure["message"])
        case "none":
            return []
        case other:
            raise Failure("unknown-type", f"no event is of the type {other}")


def change(facet: str, value: object) -> Change:
    return Change.facet("echo", "echo", facet, value)


def tell(event: Event) -> dict:
    told = {
        "id": event.id,
        "origin": event.origin,
        "type": event.type,
        "subject": event.subject,
        "time": event.time,
        "content_type": event.content_type,
        "attributes": event.attributes,
    }
    if isinstance(event.data, str):
        return {**told, "text": event.data}
    return {**told, "bytes": list(event.data)}
