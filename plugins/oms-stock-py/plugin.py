"""Maps inventory levels of a system similar to Shopify to a `stock.<location>` facet of a product.

This is `oms-stock` in Python, and passes the same cases. The key of the product is the `sku` of the body; the shop's own
webhooks have none, so it is otherwise the key that the settings give for the inventory item, or the item's number.
Numbers of items and locations serve only as names. The version is `updated_at`, or else the event's time, in
milliseconds since 1970.
"""

import re
from dataclasses import field
from typing import Literal, Optional

from weir import Change, Event, Failure, mapper, settings, version_from_time


@settings
class Settings:
    """The settings; unknown ones are rejected."""

    #: Number of a location → its name in the facet: `24826418` → `berlin`.
    locations: dict[str, str]
    #: Number of an inventory item → the product's key.
    items: dict[str, str] = field(default_factory=dict)
    #: How to handle a level at a location that has no name here: the event fails and is quarantined, or maps to nothing.
    unknown: Literal["fail", "skip"] = "fail"

    def __post_init__(self):
        if not self.locations:
            raise ValueError(
                'locations is empty, so no level could be mapped; name the locations, for example { "24826418": "berlin" }'
            )
        for location, name in self.locations.items():
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise ValueError(
                    f"locations names {location} `{name}`, but a name becomes part of a facet (`stock.berlin`) and may have only "
                    "letters, digits, `-` and `_`"
                )


@mapper
def transform(event: Event, settings: Settings) -> list[Change]:
    level = event.json()
    item, location = level.get("inventory_item_id"), level.get("location_id")
    if item is None:
        raise Failure("missing-field", "the event has no `inventory_item_id`: is this webhook one of inventory levels?")
    if location is None:
        raise Failure("missing-field", f"the level of inventory item {item} has no `location_id`")
    place = settings.locations.get(str(location))
    if place is None:
        if settings.unknown == "skip":
            return []
        raise Failure(
            "unknown-location",
            f"inventory item {item} has stock at location {location}, which the setting `locations` does not name; "
            'name it, or set `unknown` to "skip"',
        )
    key = level.get("sku") or settings.items.get(str(item)) or str(item)
    available = available_in(level, event, item)
    if available is None:
        change = Change.delete("product", key, f"stock.{place}")
    else:
        change = Change.facet("product", key, f"stock.{place}", {"available": available})
    time = level.get("updated_at") or event.time
    return [change.version(time and version_from_time(time))]


def available_in(level: dict, event: Event, item: object) -> Optional[int]:
    """Returns None if the item is not stocked, or not any more. A disconnection is recognised by its topic."""
    if "available" in level:
        available = level["available"]
        if available is None or type(available) is int:
            return available
        raise Failure("broken-json", f"`available` of inventory item {item} is not a whole number: {available!r}")
    if event.attribute("x-shopify-topic") == "inventory_levels/disconnect":
        return None
    raise Failure("missing-field", f"the level of inventory item {item} has no `available`")
