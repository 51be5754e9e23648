// Inventory levels in the manner of Shopify in, one `stock.<location>` facet of a product out: the twin of `oms-stock` in TypeScript,
// which passes the same cases.
//
// The product is the `sku` of the body or, as the shop's webhooks carry none, what the settings name for the inventory item, or
// the item's number. Numbers of items and locations are only ever names here, never counted with. The version is `updated_at`, or
// else the event's time, as milliseconds since 1970.
import { Change, choice, type Event, Failure, type Infer, map, object, text, versionFromTime } from "./weir";

export const settings = object({
  // Number of a location → its name in the facet: `24826418` → `berlin`.
  locations: map(text).check(namesOfLocations),
  // Number of an inventory item → the product's key.
  items: map(text).or({}),
  // What becomes of a level at a location that has no name here: the event fails and is kept, or it maps to nothing.
  unknown: choice("fail", "skip").or("fail"),
});
type Settings = Infer<typeof settings>;

/** One inventory level. The numbers may outgrow what a double can hold, and are bigints then. */
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

/** Null where the item is not stocked, or no longer: a disconnection says so by its topic and has no number at all. */
function availableIn(level: Level, event: Event, item: string): number | null {
  const { available } = level;
  if (available === null || Number.isInteger(available)) return available as number | null;
  if (available !== undefined) throw new Failure("broken-json", `\`available\` of inventory item ${item} is no whole number: ${available}`);
  if (event.attribute("x-shopify-topic") === "inventory_levels/disconnect") return null;
  throw new Failure("missing-field", `the level of inventory item ${item} has no \`available\``);
}

function namesOfLocations(locations: Record<string, string>): string | undefined {
  if (Object.keys(locations).length === 0) return 'it is empty, so that no level would become anything; name them, for example { "24826418": "berlin" }';
  const wrong = Object.entries(locations).find(([, name]) => !/^[A-Za-z0-9_-]+$/.test(name));
  return wrong && `${wrong[0]} is named \`${wrong[1]}\`, but a name becomes part of a facet (\`stock.berlin\`) and is made of letters, digits, \`-\` and \`_\``;
}
