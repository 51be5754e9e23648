/** Connects Weir with the author's functions: handles batches, settings and exceptions. Not for authors. */
import { Change, Entity, type EntityFilter, Event, type EventFilter, Failure, Field, type Mapper, Rendering, type Renderer } from "./index";
import { attach, log } from "./log";
import { wake } from "./sandbox";
import type * as wit from "./wit";

/** The exports that `plugin.ts` can have. */
export interface Plugin {
  settings?: Field<any>;
  eventFilter?: EventFilter<any>;
  mapper?: Mapper<any>;
  entityFilter?: EntityFilter<any>;
  renderer?: Renderer<any>;
}

/** The exports that the component can have. Its world determines which of the roles are used. */
interface Exports {
  settings: wit.Settings;
  eventFilter: wit.EventFilter;
  mapper: wit.Mapper;
  entityFilter: wit.EntityFilter;
  renderer: wit.Renderer;
}

/** Builds the exports of the component. */
export function serve(plugin: Plugin, write: wit.Log["write"]): Exports {
  attach(write);
  wake();
  let settings: unknown;

  /** Returns one result for each item, in the same order. An exception fails only its own item. */
  function each<Raw, Item, Given, Output>(name: string, open: (raw: Raw) => Item, call: ((item: Item, settings: any) => Given) | undefined, close: (given: Given) => Output) {
    return (items: Raw[]): wit.Result<Output, wit.Failure>[] =>
      items.map((raw) => {
        try {
          if (!call) throw new Failure("no-such-role", `plugin.ts exports no ${name}`);
          return { tag: "ok", val: close(call(open(raw), settings)) };
        } catch (error) {
          return { tag: "err", val: failed(error) };
        }
      });
  }

  return {
    settings: {
      configure(json: string): void {
        try {
          settings = read(plugin, JSON.parse(json));
        } catch (error) {
          // The interface expects a text here, which the host shows.
          throw error instanceof Error ? error.message : String(error);
        }
      },
    },
    eventFilter: { accept: each("eventFilter", event, plugin.eventFilter, yesOrNo) },
    mapper: { transform: each("mapper", event, plugin.mapper, changes) },
    entityFilter: { accept: each("entityFilter", entity, plugin.entityFilter, yesOrNo) },
    renderer: { render: each("renderer", entity, plugin.renderer, rendering) },
  };
}

/** Reads the settings. Only a source's plugin rejects unknown ones: a channel's plugin also gets the columns of the row. */
function read(plugin: Plugin, given: Record<string, unknown>): unknown {
  const { settings } = plugin;
  if (!settings) return given;
  const ofSource = plugin.eventFilter || plugin.mapper;
  const unknown = ofSource && settings.members && Object.keys(given).find((name) => !settings.members?.includes(name));
  if (unknown) throw new Error(`unknown setting \`${unknown}\`; known settings: ${settings.members?.join(", ")}`);
  return settings.read(given, "");
}

const event = (raw: wit.Event) => new Event(raw);
const entity = (raw: wit.Entity) => new Entity(raw);

function yesOrNo(given: boolean): boolean {
  if (typeof given === "boolean") return given;
  throw wrong("true or false", given);
}

function changes(given: Change[]): wit.Change[] {
  if (!Array.isArray(given)) throw wrong("a list of changes", given);
  return given.map((change) => {
    if (!(change instanceof Change)) throw wrong("a list of changes", change);
    const raw = change.toWit();
    for (const text of [raw.entityType, raw.key, raw.facet, raw.lane ?? ""]) whole(text);
    return raw;
  });
}

function rendering(given: Rendering | null): wit.Rendering | null {
  if (given === null || given === undefined) return null;
  if (!(given instanceof Rendering)) throw wrong("a rendering or null", given);
  const raw = given.toWit();
  for (const text of [raw.key ?? "", raw.contentType ?? "", raw.body.tag === "text" ? raw.body.val : ""]) whole(text);
  return raw;
}

/** Checks a text. Half a character (a lone surrogate) would be changed when it is passed to Weir. */
function whole(text: unknown): void {
  if (typeof text !== "string") throw new Failure("wrong-answer", `a name is ${typeof text}, not text: ${String(text)}`);
  if (!text.isWellFormed()) throw new Failure("wrong-answer", `a name or text contains half a character: ${JSON.stringify(text.slice(0, 100))}`);
}

function wrong(what: string, given: unknown): Failure {
  const promise = given instanceof Promise ? "a promise: a plugin's functions cannot be async" : String(given);
  return new Failure("wrong-answer", `the plugin should return ${what}, but returned ${promise}`);
}

/** Passes on an author's failure; any other exception becomes a failure with its place. */
function failed(error: unknown): wit.Failure {
  if (error instanceof Failure) return { code: String(error.code).toWellFormed(), message: error.message.toWellFormed() };
  const trace = error instanceof Error ? places(error.stack ?? "") : [];
  const text = `${String(error)}${trace.length > 0 ? ` (${trace[0]})` : ""}`.toWellFormed();
  log.error(trace.length > 1 ? `${text}, from ${trace.slice(1).join(", ")}` : text);
  return { code: "exception", message: text };
}

/** The places in the author's files that a stack contains, innermost first. */
function places(stack: string): string[] {
  // The build adds a table with the source line of each line of the bundle.
  const lines = (globalThis as { weirLines?: readonly string[] }).weirLines ?? [];
  const found = [...stack.matchAll(/:(\d+):\d+\)/g)].map(([, line]) => lines[Number(line) - 1]);
  return [...new Set(found.filter((place) => place !== undefined && place !== ""))].slice(0, 5) as string[];
}
