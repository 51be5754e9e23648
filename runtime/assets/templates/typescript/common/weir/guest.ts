/** Between Weir and the author's functions: batches, settings read once, an exception's message. Not for authors. */
import { Change, Entity, type EntityFilter, Event, type EventFilter, Failure, Field, type Mapper, Rendering, type Renderer } from "./index";
import { attach, log } from "./log";
import { wake } from "./sandbox";
import type * as wit from "./wit";

/** What `plugin.ts` may export. */
export interface Plugin {
  settings?: Field<any>;
  eventFilter?: EventFilter<any>;
  mapper?: Mapper<any>;
  entityFilter?: EntityFilter<any>;
  renderer?: Renderer<any>;
}

/** What the component exports; of the roles, those that its world has. */
interface Exports {
  settings: wit.Settings;
  eventFilter: wit.EventFilter;
  mapper: wit.Mapper;
  entityFilter: wit.EntityFilter;
  renderer: wit.Renderer;
}

/** The exports of the component. */
export function serve(plugin: Plugin, write: wit.Log["write"]): Exports {
  attach(write);
  wake();
  let settings: unknown;

  /** One answer an item, in the same order; an exception is the answer for its item alone. */
  function each<Raw, Item, Given, Answer>(name: string, open: (raw: Raw) => Item, call: ((item: Item, settings: any) => Given) | undefined, close: (given: Given) => Answer) {
    return (items: Raw[]): wit.Result<Answer, wit.Failure>[] =>
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
          // The interface has a text here, and the host shows it.
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

/** A source's plugin refuses what it does not know; the settings of a channel's hold the columns of the channel's row as well. */
function read(plugin: Plugin, given: Record<string, unknown>): unknown {
  const { settings } = plugin;
  if (!settings) return given;
  const ofSource = plugin.eventFilter || plugin.mapper;
  const unknown = ofSource && settings.members && Object.keys(given).find((name) => !settings.members?.includes(name));
  if (unknown) throw new Error(`there is no setting \`${unknown}\`; there are ${settings.members?.join(", ")}`);
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

/** Half a character would not cross the border as what it is. */
function whole(text: unknown): void {
  if (typeof text !== "string") throw new Failure("wrong-answer", `a name is ${typeof text}, and not text: ${String(text)}`);
  if (!text.isWellFormed()) throw new Failure("wrong-answer", `a name or text has half a character in it: ${JSON.stringify(text.slice(0, 100))}`);
}

function wrong(what: string, given: unknown): Failure {
  const promise = given instanceof Promise ? "a promise: a plugin's functions cannot be async" : String(given);
  return new Failure("wrong-answer", `the plugin should give ${what}, and gave ${promise}`);
}

/** An author's failure is passed on; anything else is told with its place. */
function failed(error: unknown): wit.Failure {
  if (error instanceof Failure) return { code: String(error.code).toWellFormed(), message: error.message.toWellFormed() };
  const trace = error instanceof Error ? places(error.stack ?? "") : [];
  const said = `${String(error)}${trace.length > 0 ? ` (${trace[0]})` : ""}`.toWellFormed();
  log.error(trace.length > 1 ? `${said}, from ${trace.slice(1).join(", ")}` : said);
  return { code: "exception", message: said };
}

/** Where in the author's files it happened, innermost first. */
function places(stack: string): string[] {
  // The build tells which line of the source each line of the bundle comes from.
  const lines = (globalThis as { weirLines?: readonly string[] }).weirLines ?? [];
  const found = [...stack.matchAll(/:(\d+):\d+\)/g)].map(([, line]) => lines[Number(line) - 1]);
  return [...new Set(found.filter((place) => place !== undefined && place !== ""))].slice(0, 5) as string[];
}
