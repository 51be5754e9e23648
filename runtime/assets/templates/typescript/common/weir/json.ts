/** JSON without silent losses: whole numbers stay exact, and a value without a JSON form fails instead of becoming null. */
import { Failure } from "./index";
import type { Field } from "./settings";

/** A double can be too short only for a number with at least this many digits. */
const LONG = 16;
const WHOLE = /^-?\d+$/;

/** Reads JSON, into a shape if one is given; whole numbers beyond 2^53 become bigints. `code` and `what` are for the failure. */
export function parse(text: string, code: string, what: string, shape?: Field<any>): any {
  let value: unknown;
  try {
    value = hasLongNumber(text) ? JSON.parse(text, exact as (key: string, value: unknown) => unknown) : JSON.parse(text);
  } catch (error) {
    throw new Failure(code, `${what} is not JSON: ${error instanceof Error ? error.message : error}`);
  }
  if (!shape) return value;
  try {
    return shape.read(value, "");
  } catch (error) {
    throw new Failure(code, `${what} does not have the expected form: ${error instanceof Error ? error.message : error}`);
  }
}

/** Whether there are LONG digits in a row. It looks at every 16th letter and its neighbours; a regular expression would take half the time of a mapping. */
function hasLongNumber(text: string): boolean {
  for (let at = LONG - 1; at < text.length; at += LONG) {
    let code = text.charCodeAt(at);
    if (code < 48 || code > 57) continue;
    let first = at;
    while ((code = text.charCodeAt(first - 1)) >= 48 && code <= 57) first--;
    while ((code = text.charCodeAt(at + 1)) >= 48 && code <= 57) at++;
    if (at - first + 1 >= LONG) return true;
  }
  return false;
}

function exact(_: string, value: unknown, context: { source?: string }): unknown {
  const long = typeof value === "number" && !Number.isSafeInteger(value) && WHOLE.test(context?.source ?? "");
  return long ? BigInt(context.source as string) : value;
}

/** Writes a value as JSON. Fails with `not-json` if it has no JSON form; the message starts with `what`. */
export function write(value: unknown, what: string): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value, plain);
  } catch (error) {
    throw new Failure("not-json", `${what} cannot be written as JSON: ${error instanceof Error ? error.message : error}`);
  }
  if (text === undefined) throw new Failure("not-json", `${what} cannot be written as JSON: it is ${typeof value}`);
  return text;
}

/** Called for each member, with the object or list that holds it. */
function plain(this: any, key: string, value: unknown): unknown {
  const lost = lostIn(this, key, value);
  if (lost) throw new Error(`${Array.isArray(this) ? `[${key}]` : key || "it"} is ${lost}`);
  // JSON.rawJSON writes the number exactly; the compiler's types do not know it yet.
  return typeof value === "bigint" ? (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(String(value)) : value;
}

/** Says what a value is if JSON.stringify would write it as `null` or `{}`, or leave it out. */
function lostIn(holder: any, key: string, value: unknown): string | undefined {
  switch (typeof value) {
    case "number":
      return Number.isFinite(value) ? undefined : String(value);
    case "function":
    case "symbol":
      return `a ${typeof value}`;
    case "undefined":
      return Array.isArray(holder) ? "undefined" : undefined;
    case "object":
      if (value === null) return holder[key] === null ? undefined : "not a valid time";
      return Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype ? undefined : without(value);
    default:
      return undefined;
  }
}

/** Objects of a class of their own are written with their members; those of the language hold more than members. */
function without(value: object): string | undefined {
  const kind = Object.prototype.toString.call(value).slice(8, -1);
  if (["Object", "Number", "String", "Boolean", "BigInt"].includes(kind)) return undefined;
  const help = { Map: ": write Object.fromEntries(map)", Set: ": write [...set]" }[kind] ?? "";
  return `a ${kind}, which has no JSON form${help}`;
}
