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

function plain(key: string, value: unknown): unknown {
  if (typeof value === "number" && !Number.isFinite(value)) throw new Error(`${key || "it"} is ${value}`);
  // JSON.rawJSON writes the number exactly; the compiler's types do not know it yet.
  return typeof value === "bigint" ? (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(String(value)) : value;
}
