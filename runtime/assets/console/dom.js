// Elements, and changing them in place: what has the focus stays, and nothing is announced again.
import { plain } from "./plain.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) set(node, name, value);
  node.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return node;
}

/** Sets an attribute, a listener (`onclick`), or takes the attribute away. */
export function set(node, name, value) {
  if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
  else if (value == null || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value === true ? "" : value))
    node.setAttribute(name, value === true ? "" : value);
}

/** An element of HTML. Children that are texts are ours; those of others go through `other`. */
export const el = (name, attributes = {}, ...children) =>
  fill(document.createElement(name), attributes, children);

/** An element of SVG. */
export const svg = (name, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, name), attributes, children);

/** A text that somebody else wrote: as it is, with what browsers would obey made visible. */
export const other = (text) => el("bdi", { class: "other" }, plain(text));

/** Changes the text of a node in place. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const rows = new WeakMap();

/**
 * Keeps one child of `parent` for each item, in order: made once, patched afterwards, removed when its key
 * is gone.
 */
export function keyed(parent, items, key, make, patch) {
  keepingFocus(parent, () => arrange(parent, items, key, make, patch));
}

/** Exchanges the children of a node. */
export function exchange(parent, children) {
  keepingFocus(parent, () => parent.replaceChildren(...children));
}

/** What is moved loses the focus, and with what is removed a keyboard would begin at the top again. */
function keepingFocus(parent, change) {
  const focus = parent.contains(document.activeElement) ? document.activeElement : null;
  change();
  if (!focus || focus === document.activeElement) return;
  const next = focus.isConnected ? focus : (parent.querySelector("a, button, summary") ?? document.getElementById("main"));
  next.focus({ preventScroll: true });
}

function arrange(parent, items, key, make, patch) {
  const before = rows.get(parent) ?? new Map();
  const now = new Map();
  let at = parent.firstChild;
  for (const item of items) {
    const name = key(item);
    const node = before.get(name) ?? make(item);
    now.set(name, node);
    patch?.(node, item);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  for (const [name, node] of before) if (!now.has(name)) node.remove();
  rows.set(parent, now);
}

/** A link to a view of this page; everything that it shows is in the query. */
export function link(view, parameters, ...children) {
  const query = new URLSearchParams({ view, ...parameters });
  return el("a", { href: `?${query}` }, ...children);
}

/** A name and what it is, as rows of a description list. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value != null && value !== "");
  return el("dl", { class: "facts" }, shown.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}
