/** The interface `wit/plugin.wit` in TypeScript: made from it, so change nothing here. */

export type Result<T, E> = { tag: "ok"; val: T } | { tag: "err"; val: E };

/** Text if the data is valid UTF-8 (JSON, XML, EDIFACT, CSV), otherwise bytes. */
export type Payload = { tag: "text"; val: string } | { tag: "binary"; val: Uint8Array };

/** An event from a source system: the CloudEvents envelope and the data, unchanged. */
export interface Event {
  /** The sender's identifier of the event. It is unique together with `origin`. */
  id: string;
  /** CloudEvents `source`: the system that raised the event. This is not the Weir source,
   * which is the endpoint that received it. */
  origin: string;
  /** CloudEvents `type`. */
  eventType: string;
  /** CloudEvents `subject`. */
  subject: string | null;
  /** RFC 3339, as the sender wrote it. */
  time: string | null;
  /** Media type of `data`. */
  contentType: string | null;
  /** CloudEvents extensions, and the HTTP headers that the source passes on; names are in
   * lower case. */
  attributes: [string, string][];
  /** The body of the event. */
  data: Payload;
}

/** A new value of one facet of one entity, or the deletion of that facet. */
export interface Change {
  /** For example `product`. The type must be configured under `[entities]`. */
  entityType: string;
  /** The key of the entity within its type, for example `4711`. */
  key: string;
  /** For example `price.de-retail`. The facet must belong to the owner that the source writes
   * for. */
  facet: string;
  /** JSON text. If it is absent, the facet is deleted. */
  value: string | null;
  /** The owner's own version of this facet, which must rise. A change with a lower version
   * than the stored one is dropped as stale. */
  version: number | null;
  /** `urgent`, `normal` or `bulk`. If it is absent, the facet's configured lane is used. */
  lane: string | null;
}

/** A facet as a channel sees it. It carries no sequence and no version, so that a rendering
 * depends on the state alone. */
export interface Facet {
  /** For example `price.de-retail`. */
  name: string;
  /** JSON text. */
  value: string;
}

/** The current state of an entity, with the facets that the channel subscribes to, ordered by
 * name. */
export interface Entity {
  /** For example `product`. */
  entityType: string;
  /** The key of the entity within its type, for example `4711`. */
  key: string;
  /** The facets that the channel subscribes to, ordered by name. */
  facets: Facet[];
}

/** The content that a channel delivers for one entity. */
export interface Rendering {
  /** The name of the entity at the target: a document id, `{key}` in a URL. If it is absent,
   * the entity's key is used. */
  key: string | null;
  /** Media type of `body`, at most 256 bytes. If it is absent, `application/json` is used. */
  contentType: string | null;
  /** The content itself. */
  body: Payload;
}

/** The reason why one item failed. */
export interface Failure {
  /** For machines, and stable: `missing-field`. */
  code: string;
  /** For people. */
  message: string;
}

/** Configures the instance. Weir calls it once, before anything else. */
export interface Settings {
  /** Receives the settings, a JSON object, of the place in the configuration that uses the
   * plugin. If it returns an error, Weir rejects the configuration and shows the error to the
   * operator. */
  configure(settings: string): void;
}

export type Level = "debug" | "info" | "warn" | "error";

/** The only function that a plugin can call. It writes lines for the operator, up to a limit of
 * bytes for each batch. */
export interface Log {
  write(level: Level, message: string): void;
}

/** Drops events before they are mapped. */
export interface EventFilter {
  /** Returns one result for each event, in the same order: true lets the event pass, false
   * drops it. */
  accept(events: Event[]): Result<boolean, Failure>[];
}

/** Turns an event into changes. */
export interface Mapper {
  /** Returns one result for each event, in the same order. An event with an empty list of
   * changes counts as filtered. */
  transform(events: Event[]): Result<Change[], Failure>[];
}

/** Decides which entities a channel receives. */
export interface EntityFilter {
  /** Returns one result for each entity, in the same order. False means that the entity is not
   * for this channel; if it was delivered before, Weir withdraws it. */
  accept(entities: Entity[]): Result<boolean, Failure>[];
}

/** Turns an entity into the content that is delivered. */
export interface Renderer {
  /** Returns one result for each entity, in the same order. No rendering means that the entity
   * is not for this channel; if it was delivered before, Weir withdraws it. */
  render(entities: Entity[]): (Result<Rendering | null, Failure>)[];
}
