"""Tells all that a plugin of a channel is given; `tests/conformance/README.md` says how."""

from weir import Entity, Failure, Rendering, entity_filter, renderer


@entity_filter
def accept(entity: Entity, settings: dict) -> bool:
    return "drop" not in entity.names


@renderer
def render(entity: Entity, settings: dict) -> Rendering | None:
    if "none" in entity.names:
        return None
    if fail := entity.facet("fail"):
        raise Failure(fail["code"], fail["message"])
    if (numbers := entity.facet("bytes")) is not None:
        return Rendering.of("application/octet-stream", bytes(numbers))
    if (text := entity.facet("text")) is not None:
        rendering = Rendering.of("text/plain", text)
        key = entity.facet("key")
        return rendering if key is None else rendering.key(key)
    facets = [[name, entity.raw(name)] for name in entity.names]
    return Rendering.json({"type": entity.type, "key": entity.key, "facets": facets})
