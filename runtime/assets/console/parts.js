// Parts that several views have: loading, lists in pages, values of others.
import { Problem } from "./api.js";
import { el, keyed, other } from "./dom.js";
import { lines } from "./plain.js";
import { bytes } from "./words.js";

const SHOWN_MAX = 64 << 10;
const LINES_MAX = 2000;

/** Shows what `load` returns, or why it could not be loaded. */
export async function loaded(into, signal, load, show) {
  into.setAttribute("aria-busy", "true");
  try {
    const data = await load();
    if (!signal?.aborted) into.replaceChildren(...[show(data)].flat().filter(Boolean));
  } catch (error) {
    if (signal?.aborted) return;
    if (!(error instanceof Problem)) throw error;
    into.replaceChildren(el("p", { class: "problem" }, other(error.message)));
  } finally {
    into.removeAttribute("aria-busy");
  }
}

/** A long text of others, as lines; what is too long for a page is offered as a file. */
export function value(text, name = "value.txt") {
  let shown = text.length > SHOWN_MAX ? text.slice(0, SHOWN_MAX) : text;
  const all = shown.split("\n");
  if (all.length > LINES_MAX) shown = all.slice(0, LINES_MAX).join("\n");
  const block = el("pre", { tabindex: "0", "aria-label": name }, el("bdi", { class: "other" }, lines(shown)));
  if (shown.length === text.length) return block;
  const save = () => {
    const anchor = el("a", { href: URL.createObjectURL(new Blob([text])), download: name });
    anchor.click();
    URL.revokeObjectURL(anchor.href);
  };
  return el("div", {}, block, el("p", {}, `The first ${bytes(shown.length)} of ${bytes(text.length)}. `, el("button", { type: "button", class: "quiet", onclick: save }, "Save all of it")));
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
      note.textContent = items.length ? (next ? `The first ${items.length}.` : "") : empty;
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
