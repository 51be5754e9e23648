// Maps inventory levels of a system similar to Shopify to a `stock.<location>` facet of a product.
//
// This is `oms-stock` in TypeScript, and passes the same cases. The key of the product is the `sku` of the body; the shop's own
// webhooks have none, so it is otherwise the key that the settings give for the inventory item, or the item's number. Numbers
// of items and locations serve only as names. The version is `updated_at`, or else the event's time, in milliseconds since
// 1970.
import { Change, choice, type Event, Failure, type Infer, map, object, text, versionFromTime } from "./weir";

export const settings = object({
  // Number of a location → its name in the facet: `24826418` → `berlin`.
  locations: map(text).check(namesOfLocations),
  // Number of an inventory item → the product's key.
  items: map(text).or({}),
  // How to handle a level at a location that has no name here: the event fails and is quarantined, or maps to nothing.
  unknown: choice("fail", "skip").or("fail"),
});
type Settings = Infer<typeof settings>;

/** One inventory level. A number that a double cannot hold exactly is a bigint. */
interface Level {
  inventory_item_id?: number | bigint | string | null;
  location_id?: number | bigint | string | null;
  sku?: string | null;
  /** Null: the item is not stocked there. */
  available?: number | null;
  updated_at?: string | null;
}

export function mapper(event: Event, settings: Settings): Change[] {
  const level = event.json<Level>();
  const item = level.inventory_item_id;
  if (item == null) throw new Failure("missing-field", "the event has no `inventory_item_id`: is this webhook one of inventory levels?");
  if (level.location_id == null) throw new Failure("missing-field", `the level of inventory item ${item} has no \`location_id\``);
  const location = settings.locations[String(level.location_id)];
  if (location === undefined) {
    if (settings.unknown === "skip") return [];
    const where = `inventory item ${item} has stock at location ${level.location_id}, which the setting \`locations\` does not name`;
    throw new Failure("unknown-location", `${where}; name it, or set \`unknown\` to "skip"`);
  }
  const key = level.sku || settings.items[String(item)] || String(item);
  const available = availableIn(level, event, String(item));
  const facet = `stock.${location}`;
  const change = available === null ? Change.delete("product", key, facet) : Change.facet("product", key, facet, { available });
  const time = level.updated_at ?? event.time;
  return [change.version(time === null ? null : versionFromTime(time))];
}

/** Returns null if the item is not stocked, or not any more. A disconnection is recognised by its topic. */
function availableIn(level: Level, event: Event, item: string): number | null {
  const { available } = level;
  if (available === null || Number.isInteger(available)) return available as number | null;
  if (available !== undefined) throw new Failure("broken-json", `\`available\` of inventory item ${item} is not a whole number: ${available}`);
  if (event.attribute("x-shopify-topic") === "inventory_levels/disconnect") return null;
  throw new Failure("missing-field", `the level of inventory item ${item} has no \`available\``);
}

function namesOfLocations(locations: Record<string, string>): string | undefined {
  if (Object.keys(locations).length === 0) return 'it is empty, so no level could be mapped; name the locations, for example { "24826418": "berlin" }';
  const wrong = Object.entries(locations).find(([, name]) => !/^[A-Za-z0-9_-]+$/.test(name));
  return wrong && `${wrong[0]} is named \`${wrong[1]}\`, but a name becomes part of a facet (\`stock.berlin\`) and may have only letters, digits, \`-\` and \`_\``;
}
