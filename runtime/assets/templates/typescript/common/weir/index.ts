/**
 * Weir's kit for plugins in TypeScript, which `plugin.ts` imports.
 *
 * A plugin exports plain functions named after their role, `eventFilter`, `mapper`, `entityFilter` or `renderer`, and
 * optionally `settings`. Each function is called with one item. An exception fails only that item, with the
 * exception's message and place.
 */
import { parse, write } from "./json";
import type { Field } from "./settings";
import type * as wit from "./wit";

export { log } from "./log";
export { boolean, choice, Field, type Infer, list, map, number, object, optional, text } from "./settings";

/** Decides whether an event is mapped. */
export type EventFilter<Settings = unknown> = (event: Event, settings: Settings) => boolean;
/** Turns an event into changes. An event with an empty list of changes counts as filtered. */
export type Mapper<Settings = unknown> = (event: Event, settings: Settings) => Change[];
/** Decides whether a channel gets an entity. */
export type EntityFilter<Settings = unknown> = (entity: Entity, settings: Settings) => boolean;
/** Turns an entity into a rendering. Null means that the entity is not for this channel. */
export type Renderer<Settings = unknown> = (entity: Entity, settings: Settings) => Rendering | null;

/** An exception that states why an item fails, with a stable code for machines and a message for people. */
export class Failure extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
    this.name = "Failure";
  }
}

/** An event from a source system: the CloudEvents envelope and the data, unchanged. */
export class Event {
  /** The sender's identifier of the event. It is unique together with `origin`. */
  readonly id: string;
  /** CloudEvents `source`: the system that raised the event. */
  readonly origin: string;
  /** CloudEvents `type`. */
  readonly type: string;
  readonly subject: string | null;
  /** RFC 3339, as the sender wrote it. */
  readonly time: string | null;
  /** Media type of the data. */
  readonly contentType: string | null;
  /** CloudEvents extensions, and the HTTP headers that the source passes on. Names are in lower case. */
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

  /** Makes an event for tests, with this data and, if given, other fields. */
  static of(data: string | Uint8Array, rest: Partial<wit.Event> = {}): Event {
    const none = { id: "", origin: "", eventType: "", subject: null, time: null, contentType: null, attributes: [] };
    return new Event({ ...none, ...rest, data: payload(data) });
  }

  /**
   * Reads the data as JSON, into a shape if one is given. A whole number that JavaScript cannot hold exactly becomes a
   * bigint. Fails with `broken-json` or `not-text`.
   */
  json<T = any>(shape?: Field<T>): T {
    return parse(this.text(), "broken-json", "the event's data", shape);
  }

  /** The data as text. Fails with `not-text` if it is not UTF-8. */
  text(): string {
    if (this.data.tag === "text") return this.data.val;
    throw new Failure("not-text", `the event's data, ${this.data.val.length} bytes, is not UTF-8 text`);
  }

  /** The data as bytes if it is not text; null if it is, in which case `text()` returns it. */
  bytes(): Uint8Array | null {
    return this.data.tag === "binary" ? this.data.val : null;
  }

  /** Returns an attribute by its name in lower case, or null. */
  attribute(name: string): string | null {
    return this.attributes.find(([attribute]) => attribute === name)?.[1] ?? null;
  }
}

/** The current state of an entity, with the facets that the channel subscribes to. */
export class Entity {
  /** For example `product`. */
  readonly type: string;
  readonly key: string;
  /** The names of the facets, in order. */
  readonly names: readonly string[];
  private readonly values: readonly wit.Facet[];

  constructor(given: wit.Entity) {
    this.type = given.entityType;
    this.key = given.key;
    this.values = given.facets;
    this.names = given.facets.map((facet) => facet.name);
  }

  /** Makes an entity with these facets, for tests. */
  static of(type: string, key: string, facets: Record<string, unknown>): Entity {
    const written = Object.entries(facets).map(([name, value]) => ({ name, value: write(value, name) }));
    return new Entity({ entityType: type, key, facets: written.sort((a, b) => (a.name < b.name ? -1 : 1)) });
  }

  /** Returns the JSON text of a facet, as it was written, or undefined. */
  raw(name: string): string | undefined {
    return this.values.find((facet) => facet.name === name)?.value;
  }

  /** Returns the value of a facet, or undefined if the entity has no such facet. Fails with `wrong-facet` if it does not fit. */
  facet<T = any>(name: string, shape?: Field<T>): T | undefined {
    const value = this.raw(name);
    return value === undefined ? undefined : parse(value, "wrong-facet", `the facet ${name}`, shape);
  }

  /** Returns the facets of a family with the rest of their names: for `stock.`, `stock.berlin` comes with `berlin`. */
  family<T = any>(prefix: string, shape?: Field<T>): [string, T][] {
    const members = this.values.filter((facet) => facet.name.startsWith(prefix));
    return members.map(({ name, value }) => [name.slice(prefix.length), parse(value, "wrong-facet", `the facet ${name}`, shape)]);
  }
}

/** A new value of one facet of one entity, or the deletion of that facet. */
export class Change {
  private constructor(private readonly given: wit.Change) {}

  /** Sets the facet to a value. Fails with `not-json` if the value has no JSON form, such as NaN. */
  static facet(type: string, key: string, facet: string, value: unknown): Change {
    const json = write(value, `${facet} of ${key}`);
    return new Change({ entityType: type, key, facet, value: json, version: null, lane: null });
  }

  /** Deletes the facet. An entity without facets is deleted itself. */
  static delete(type: string, key: string, facet: string): Change {
    return new Change({ entityType: type, key, facet, value: null, version: null, lane: null });
  }

  /**
   * Sets the owner's version of the facet, which must rise. Without it (null), the change that arrives last wins. See
   * `versionFromTime`. A version above 2^53 that a double cannot hold fails with `bad-version` and is not rounded.
   */
  version(version: number | bigint | null | undefined): Change {
    return new Change({ ...this.given, version: version == null ? null : exactVersion(version) });
  }

  /** Sets the lane, instead of the facet's configured one. */
  lane(lane: "urgent" | "normal" | "bulk"): Change {
    return new Change({ ...this.given, lane });
  }

  /** The value in the form that the host expects. */
  toWit(): wit.Change {
    return this.given;
  }
}

/** The content that a channel delivers for one entity. */
export class Rendering {
  private constructor(private readonly given: wit.Rendering) {}

  /** A JSON body, `application/json`. Fails with `not-json` if the value has no JSON form. */
  static json(value: unknown): Rendering {
    return Rendering.of("application/json", write(value, "the rendering"));
  }

  /** A body of text or bytes with a media type. */
  static of(contentType: string, body: string | Uint8Array): Rendering {
    return new Rendering({ key: null, contentType, body: payload(body) });
  }

  /** Sets the name of the entity at the target: a document id, `{key}` in a URL. The default is the entity's key. */
  key(key: string): Rendering {
    return new Rendering({ ...this.given, key });
  }

  /** Sets another media type, such as `application/ld+json`. */
  contentType(contentType: string): Rendering {
    return new Rendering({ ...this.given, contentType });
  }

  /** The value in the form that the host expects. */
  toWit(): wit.Rendering {
    return this.given;
  }
}

const TIME = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)$/;

/**
 * Converts an RFC 3339 time with an offset to milliseconds since 1970, for `Change.version`. Finer fractions are cut off.
 * Fails with `not-a-time` for any other text, and for times before 1970.
 */
export function versionFromTime(time: string): number {
  const version = TIME.test(time) ? Date.parse(time.toUpperCase().replace(" ", "T").replace(/(\.\d{3})\d+/, "$1")) : NaN;
  if (version >= 0) return version;
  throw new Failure("not-a-time", `\`${time}\` is not a time since 1970 with an offset, such as 2026-11-23T10:00:00Z`);
}

const VERSION_MAX = 2n ** 64n - 1n;

/** The host expects a double and converts it to a u64; 2^64 becomes 2^64 - 1. */
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
