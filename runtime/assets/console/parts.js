// Parts that several views have: loading, lists in pages, values of others.
import { Problem } from "./api.js";
import { el, keyed, other } from "./dom.js";
import { lines } from "./plain.js";
import { live } from "./live.js";
import { bytes, moment } from "./words.js";

const LINES_MAX = 2000;

/** When what is shown was so. */
const asOf = () => `As of ${moment(live.now())}.`;

/** Shows what `load` returns and as of when it was so, or why it could not be loaded. */
export async function loaded(into, signal, load, show) {
  into.setAttribute("aria-busy", "true");
  try {
    const data = await load();
    if (!signal?.aborted) into.replaceChildren(el("p", { class: "note" }, asOf()), ...[show(data)].flat().filter(Boolean));
  } catch (error) {
    if (signal?.aborted) return;
    if (!(error instanceof Problem)) throw error;
    into.replaceChildren(el("p", { class: "problem" }, other(error.message)));
  } finally {
    into.removeAttribute("aria-busy");
  }
}

/** A text of others, as lines; of one that is too long the beginning. */
export function value(text, name = "value.txt") {
  return shown(text, null, name);
}

/**
 * The same for a value that Weir may have cut: then `text` is nothing, and `saved` the address of the whole. JSON
 * that is short in Weir may be long when it is indented, so lines are counted here.
 */
export function shown(text, cut, name, saved) {
  const whole = cut ? cut.start : text;
  const all = whole.split("\n");
  const short = all.length > LINES_MAX ? all.slice(0, LINES_MAX).join("\n") : whole;
  const block = el("pre", { tabindex: "0", "aria-label": name }, el("bdi", { class: "other" }, lines(short)));
  if (!cut && short.length === text.length) return block;
  const length = Number(cut ? cut.bytes : text.length);
  const note = el("p", {}, `The first ${bytes(short.length)} of ${bytes(length)}. `);
  if (saved) note.append(el("a", { href: saved, download: name }, "Save all of it"));
  return el("div", {}, block, note);
}

/** A list that is read page by page. `load(after)` returns `{items, next}`, `make(item)` an element. */
export function pages({ signal, load, key, make, empty, wrap = "ul" }) {
  const list = el(wrap, { class: "list" });
  const note = el("p", { class: "note" });
  const more = el("button", { type: "button", class: "quiet", hidden: true, onclick: () => read(next) }, "More");
  let items = [], next;
  async function read(after) {
    try {
      const page = await load(after);
      items = after ? [...items, ...page.items] : page.items;
      next = page.next;
      keyed(list, items, key, make);
      const some = items.length ? (next ? `The first ${items.length}. ` : "") : `${empty} `;
      note.textContent = some + asOf();
      more.hidden = !next;
    } catch (error) {
      if (signal?.aborted) return;
      if (!(error instanceof Problem)) throw error;
      note.replaceChildren(other(error.message));
    }
  }
  read();
  return { node: el("div", {}, list, note, more), again: () => read() };
}
