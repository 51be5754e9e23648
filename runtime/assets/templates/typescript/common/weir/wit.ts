/** The interface `wit/plugin.wit` in TypeScript: made from it, so change nothing here. */

export type Result<T, E> = { tag: "ok"; val: T } | { tag: "err"; val: E };

/** Text where it is valid UTF-8 (JSON, XML, EDIFACT, CSV), bytes where it is not. */
export type Payload = { tag: "text"; val: string } | { tag: "binary"; val: Uint8Array };

/** What a source sent: the CloudEvents envelope and the data, untouched. */
export interface Event {
  /** The sender's identifier of the event; with `origin` it is unique. */
  id: string;
  /** CloudEvents `source`: who raised the event. A source of Weir is something else: where events come in. */
  origin: string;
  /** CloudEvents `type`. */
  eventType: string;
  subject: string | null;
  /** RFC 3339, as the sender wrote it. */
  time: string | null;
  /** Media type of `data`. */
  contentType: string | null;
  /** CloudEvents extensions, and the HTTP headers that the source lets through; names in lower case. */
  attributes: [string, string][];
  data: Payload;
}

/** One facet of one entity has a new value, or, with none, is gone. */
export interface Change {
  /** For example `product`; it must be configured under `[entities]`. */
  entityType: string;
  key: string;
  /** For example `price.de-retail`; the source's owner must be the one who writes it. */
  facet: string;
  /** JSON text. None: the facet is deleted. */
  value: string | null;
  /** The owner's own version of this facet, rising; an older one than the stored is dropped as stale. */
  version: number | null;
  /** `urgent`, `normal` or `bulk`; none: the facet's configured lane. */
  lane: string | null;
}

/** A facet as a channel may see it: no sequence and no version, so that a rendering depends on the state alone. */
export interface Facet {
  name: string;
  /** JSON text. */
  value: string;
}

/** An entity as it is now, with the facets that the channel subscribes to, ordered by name. */
export interface Entity {
  entityType: string;
  key: string;
  facets: Facet[];
}

/** What is delivered for one entity. */
export interface Rendering {
  /** What the target calls it (a document id, `{key}` in a URL); none: the entity's key. */
  key: string | null;
  /** Media type of `body`; none: `application/json`. */
  contentType: string | null;
  body: Payload;
}

/** Why one item failed. `code` is for machines and stable (`missing-field`), `message` for people. */
export interface Failure {
  code: string;
  message: string;
}

/** Called once after an instance is made, with the settings (a JSON object) of its place in the configuration. */
export interface Settings {
  /** An error refuses the configuration; its text is shown to the operator. */
  configure(settings: string): void;
}

export type Level = "debug" | "info" | "warn" | "error";

/** The one thing a plugin may call: lines for the operator, up to a byte budget a batch. */
export interface Log {
  write(level: Level, message: string): void;
}

/** Drops events before they are mapped. */
export interface EventFilter {
  /** One answer an event, in the same order: true lets it pass. */
  accept(events: Event[]): Result<boolean, Failure>[];
}

/** Turns an event into changes. */
export interface Mapper {
  /** One answer an event, in the same order. No change at all: the event counts as filtered. */
  transform(events: Event[]): Result<Change[], Failure>[];
}

/** Decides which entities a channel gets. */
export interface EntityFilter {
  /** One answer an entity, in the same order. False: not for this channel; withdrawn, if it was there. */
  accept(entities: Entity[]): Result<boolean, Failure>[];
}

/** Turns an entity into what a target gets. */
export interface Renderer {
  /** One answer an entity, in the same order. None: not for this channel; withdrawn, if it was there. */
  render(entities: Entity[]): (Result<Rendering | null, Failure>)[];
}
