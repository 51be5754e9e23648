/**
 * Weir's kit for plugins in TypeScript: what `plugin.ts` imports.
 *
 * A plugin exports plain functions named after what they do, `eventFilter`, `mapper`, `entityFilter` or `renderer`, and
 * perhaps `settings`. Each is called with one item. An exception fails that item alone, with its message and place.
 */
import { parse, write } from "./json";
import type { Field } from "./settings";
import type * as wit from "./wit";

export { log } from "./log";
export { boolean, choice, Field, type Infer, list, map, number, object, optional, text } from "./settings";

/** Whether an event is to be mapped. */
export type EventFilter<Settings = unknown> = (event: Event, settings: Settings) => boolean;
/** What changes by an event; an empty list: nothing, the event counts as filtered. */
export type Mapper<Settings = unknown> = (event: Event, settings: Settings) => Change[];
/** Whether a channel gets an entity. */
export type EntityFilter<Settings = unknown> = (entity: Entity, settings: Settings) => boolean;
/** What a target gets of an entity; null: not for this channel. */
export type Renderer<Settings = unknown> = (entity: Entity, settings: Settings) => Rendering | null;

/** Why an item fails: thrown by an author who knows. The code is stable and for machines, the message for people. */
export class Failure extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
    this.name = "Failure";
  }
}

/** What a source sent: the CloudEvents envelope and the data, untouched. */
export class Event {
  /** The sender's identifier of the event; with `origin` it is unique. */
  readonly id: string;
  /** CloudEvents `source`: who raised the event. */
  readonly origin: string;
  /** CloudEvents `type`. */
  readonly type: string;
  readonly subject: string | null;
  /** RFC 3339, as the sender wrote it. */
  readonly time: string | null;
  /** Media type of the data. */
  readonly contentType: string | null;
  /** CloudEvents extensions, and the HTTP headers that the source lets through; names in lower case. */
  readonly attributes: readonly (readonly [string, string])[];
  private readonly data: wit.Payload;

  constructor(given: wit.Event) {
    this.id = given.id;
    this.origin = given.origin;
    this.type = given.eventType;
    this.subject = given.subject ?? null;
    this.time = given.time ?? null;
    this.contentType = given.contentType ?? null;
    this.attributes = given.attributes;
    this.data = given.data;
  }

  /** An event of this data and nothing else, for tests. */
  static of(data: string | Uint8Array, rest: Partial<wit.Event> = {}): Event {
    const none = { id: "", origin: "", eventType: "", subject: null, time: null, contentType: null, attributes: [] };
    return new Event({ ...none, ...rest, data: payload(data) });
  }

  /**
   * The data from JSON, of this shape if one is given. A whole number that JavaScript cannot hold exactly is a bigint. Fails with
   * `broken-json`, or with `not-text`.
   */
  json<T = any>(shape?: Field<T>): T {
    return parse(this.text(), "broken-json", "the event's data", shape);
  }

  /** The data as text. Fails with `not-text` if it is not UTF-8. */
  text(): string {
    if (this.data.tag === "text") return this.data.val;
    throw new Failure("not-text", `the event's data, ${this.data.val.length} bytes, is not text in UTF-8`);
  }

  /** The data where it is not text; text is `text()`, and null here. */
  bytes(): Uint8Array | null {
    return this.data.tag === "binary" ? this.data.val : null;
  }

  /** An attribute by its name in lower case. */
  attribute(name: string): string | null {
    return this.attributes.find(([of]) => of === name)?.[1] ?? null;
  }
}

/** An entity as it is now, with the facets that the channel subscribes to. */
export class Entity {
  /** For example `product`. */
  readonly type: string;
  readonly key: string;
  /** The names of its facets, in order. */
  readonly names: readonly string[];
  private readonly values: readonly wit.Facet[];

  constructor(given: wit.Entity) {
    this.type = given.entityType;
    this.key = given.key;
    this.values = given.facets;
    this.names = given.facets.map((facet) => facet.name);
  }

  /** An entity of these facets, for tests. */
  static of(type: string, key: string, facets: Record<string, unknown>): Entity {
    const written = Object.entries(facets).map(([name, value]) => ({ name, value: write(value, name) }));
    return new Entity({ entityType: type, key, facets: written.sort((a, b) => (a.name < b.name ? -1 : 1)) });
  }

  /** The JSON text of a facet, as it was written. */
  raw(name: string): string | undefined {
    return this.values.find((facet) => facet.name === name)?.value;
  }

  /** The value of a facet; undefined if the entity has none of this name. Fails with `wrong-facet` if it is of another shape. */
  facet<T = any>(name: string, shape?: Field<T>): T | undefined {
    const value = this.raw(name);
    return value === undefined ? undefined : parse(value, "wrong-facet", `the facet ${name}`, shape);
  }

  /** The facets of a family with the rest of their names: with `stock.`, those of `stock.*`, each with its place. */
  family<T = any>(prefix: string, shape?: Field<T>): [string, T][] {
    const of = this.values.filter((facet) => facet.name.startsWith(prefix));
    return of.map(({ name, value }) => [name.slice(prefix.length), parse(value, "wrong-facet", `the facet ${name}`, shape)]);
  }
}

/** One facet of one entity has a new value, or is gone. */
export class Change {
  private constructor(private readonly given: wit.Change) {}

  /** The facet has this value from now on. Fails with `not-json` if the value has no JSON form, such as NaN. */
  static facet(type: string, key: string, facet: string, value: unknown): Change {
    const json = write(value, `${facet} of ${key}`);
    return new Change({ entityType: type, key, facet, value: json, version: null, lane: null });
  }

  /** The facet is gone. An entity without facets is gone itself. */
  static delete(type: string, key: string, facet: string): Change {
    return new Change({ entityType: type, key, facet, value: null, version: null, lane: null });
  }

  /**
   * The owner's own version of the facet, which must rise; null: what arrives last wins. See `versionFromTime`. Above 2^53 a
   * version can only be one that a double holds; any other fails with `bad-version` rather than being rounded.
   */
  version(version: number | bigint | null | undefined): Change {
    return new Change({ ...this.given, version: version == null ? null : exactVersion(version) });
  }

  /** The lane in which it waits instead of the facet's configured one. */
  lane(lane: "urgent" | "normal" | "bulk"): Change {
    return new Change({ ...this.given, lane });
  }

  /** As the host takes it. */
  toWit(): wit.Change {
    return this.given;
  }
}

/** What is delivered for one entity. */
export class Rendering {
  private constructor(private readonly given: wit.Rendering) {}

  /** JSON, `application/json`. Fails with `not-json` if the value has no JSON form. */
  static json(value: unknown): Rendering {
    return Rendering.of("application/json", write(value, "the rendering"));
  }

  /** Text or bytes of this media type. */
  static of(contentType: string, body: string | Uint8Array): Rendering {
    return new Rendering({ key: null, contentType, body: payload(body) });
  }

  /** What the target calls it, if that is not the entity's key: a document id, `{key}` in a URL. */
  key(key: string): Rendering {
    return new Rendering({ ...this.given, key });
  }

  /** Another media type, such as `application/ld+json`. */
  contentType(contentType: string): Rendering {
    return new Rendering({ ...this.given, contentType });
  }

  /** As the host takes it. */
  toWit(): wit.Rendering {
    return this.given;
  }
}

const TIME = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)$/;

/**
 * Milliseconds since 1970, for `Change.version`, of an RFC 3339 time with an offset. Finer fractions are cut off. Fails with
 * `not-a-time` for anything else, and for times before 1970.
 */
export function versionFromTime(time: string): number {
  const version = TIME.test(time) ? Date.parse(time.toUpperCase().replace(" ", "T").replace(/(\.\d{3})\d+/, "$1")) : NaN;
  if (version >= 0) return version;
  throw new Failure("not-a-time", `\`${time}\` is not a time since 1970 with an offset, such as 2026-11-23T10:00:00Z`);
}

const VERSION_MAX = 2n ** 64n - 1n;

/** The host takes a double here and makes it whole, at most 2^64 - 1, which is what 2^64 becomes. */
function exactVersion(version: number | bigint): number {
  if (typeof version === "number" && Number.isSafeInteger(version) && version >= 0) return version;
  const whole = typeof version === "bigint" || Number.isInteger(version) ? BigInt(version) : -1n;
  const double = Number(whole);
  if (whole === VERSION_MAX || (whole >= 0n && whole < VERSION_MAX && BigInt(double) === whole)) return double;
  const why = whole < 0n || whole > VERSION_MAX ? "is not a whole number from 0 to 2^64 - 1" : "cannot be passed on exactly from JavaScript";
  throw new Failure("bad-version", `the version ${version} ${why}`);
}

function payload(body: string | Uint8Array): wit.Payload {
  return typeof body === "string" ? { tag: "text", val: body } : { tag: "binary", val: body };
}
