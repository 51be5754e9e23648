// JSON in which numbers stay as they were written: `JSON.parse` makes 9.9 of 9.90, and rounds sequences.

/** A number as written. */
export class Written {
  constructor(text) {
    this.text = text;
  }
  toString() {
    return this.text;
  }
  valueOf() {
    return Number(this.text);
  }
}

const TOKEN = /[ \t\r\n]*(?:([{}[\],:])|("[^"\\]*(?:\\.[^"\\]*)*")|(-?\d[\d.eE+-]*)|(true|false|null))/y;
const DEPTH_MAX = 500;

/** Reads a text of JSON. */
export function read(text) {
  const token = new RegExp(TOKEN);
  let mark, leaf;
  const next = () => {
    const found = token.exec(text);
    if (!found) throw new SyntaxError("this is not JSON");
    [, mark] = found;
    if (found[2]) leaf = JSON.parse(found[2]);
    else if (found[3]) leaf = new Written(found[3]);
    else if (found[4]) leaf = JSON.parse(found[4]);
  };
  const value = (depth) => {
    if (depth > DEPTH_MAX) throw new SyntaxError("this JSON is nested too deeply");
    if (!mark) return leaf;
    const ends = mark === "{" ? "}" : "]";
    const isObject = mark === "{";
    const all = isObject ? Object.create(null) : [];
    for (next(); mark !== ends; ) {
      if (isObject) {
        const name = leaf;
        next();
        next();
        all[name] = value(depth + 1);
      } else all.push(value(depth + 1));
      next();
      if (mark === ",") next();
    }
    mark = undefined;
    leaf = all;
    return all;
  };
  next();
  return value(0);
}

/** Writes it for people, indented; numbers as they were written. */
export function write(value, indent = "") {
  if (value instanceof Written) return value.text;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const inner = indent + "  ";
  const parts = Array.isArray(value)
    ? value.map((item) => inner + write(item, inner))
    : Object.entries(value).map(([name, item]) => `${inner}${JSON.stringify(name)}: ${write(item, inner)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return parts.length ? `${open}\n${parts.join(",\n")}\n${indent}${close}` : open + close;
}
