"""Inventory levels in the manner of Shopify in, one `stock.<location>` facet of a product out: the twin of `oms-stock` in Python,
which passes the same cases.

The product is the `sku` of the body or, as the shop's webhooks carry none, what the settings name for the inventory item, or the
item's number. Numbers of items and locations are only ever names here, never counted with. The version is `updated_at`, or else
the event's time, as milliseconds since 1970.
"""

import re
from dataclasses import field
from typing import Literal, Optional

from weir import Change, Event, Failure, mapper, settings, version_from_time


@settings
class Settings:
    """What the configuration may say."""

    #: Number of a location → its name in the facet: `24826418` → `berlin`.
    locations: dict[str, str]
    #: Number of an inventory item → the product's key.
    items: dict[str, str] = field(default_factory=dict)
    #: What becomes of a level at a location that has no name here: the event fails and is kept, or it maps to nothing.
    unknown: Literal["fail", "skip"] = "fail"

    def __post_init__(self):
        if not self.locations:
            raise ValueError(
                'locations is empty, so that no level would become anything; name them, for example { "24826418": "berlin" }'
            )
        for location, name in self.locations.items():
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise ValueError(
                    f"locations names {location} `{name}`, but a name becomes part of a facet (`stock.berlin`) and is made of "
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
    """None where the item is not stocked, or no longer: a disconnection says so by its topic and has no number at all."""
    if "available" in level:
        available = level["available"]
        if available is None or type(available) is int:
            return available
        raise Failure("broken-json", f"`available` of inventory item {item} is no whole number: {available!r}")
    if event.attribute("x-shopify-topic") == "inventory_levels/disconnect":
        return None
    raise Failure("missing-field", f"the level of inventory item {item} has no `available`")
