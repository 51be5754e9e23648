// Trying an event out at a source: what each stage makes of it. Nothing is taken.
import { tell } from "./act.js";
import { ask, may, Problem } from "./api.js";
import { el, facts, link, other } from "./dom.js";
import { write } from "./json.js";
import { shown } from "./parts.js";
import { several } from "./words.js";

const TYPES = ["application/json", "application/cloudevents+json", "application/x-ndjson", "application/xml", "text/csv", "text/plain", "application/edifact"];
const SENDERS = { verified: "● verified", "not verified": "■ not verified: the request would be answered 401", "not checked": "○ not checked: a proof in the header Authorization cannot be given here" };
const RESULTS = { accepted: "● accepted", filtered: "○ filtered", quarantined: "■ quarantined" };
const GRAVE = { quarantined: 3 };

/** The form; what is in it stays in the page and is not part of its address. */
export function tryOut(name, signal) {
  if (!may("operate")) return "";
  const body = el("textarea", { id: "try-body", rows: 8, required: true, spellcheck: "false", autocomplete: "off" });
  const type = el("input", { id: "try-type", list: "try-types", value: TYPES[0], autocomplete: "off" });
  const headers = el("textarea", { id: "try-headers", rows: 2, spellcheck: "false", autocomplete: "off", placeholder: "X-Topic: orders/create" });
  const lane = el("select", { id: "try-lane" }, el("option", { value: "" }, "as configured"), ["urgent", "normal", "bulk"].map((it) => el("option", {}, it)));
  const result = el("div");
  async function run(event) {
    event.preventDefault();
    result.setAttribute("aria-busy", "true");
    try {
      const view = await ask("POST", ["sources", name, "preview"], { lane: lane.value }, { body: body.value, headers: read(headers.value, type.value), signal });
      result.replaceChildren(...outcome(view));
      tell(`${several(view.events.length, "event")} looked at; nothing was taken.`);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Problem)) throw error;
      result.replaceChildren(el("p", { class: "problem" }, "The request would not be taken: ", other(error.message)));
    } finally {
      result.removeAttribute("aria-busy");
    }
  }
  const label = (text, field) => el("p", {}, el("label", { for: field.id }, text), field);
  return el("section", {}, el("h2", {}, "Try an event"),
    el("details", {}, el("summary", {}, "See what would become of an event; nothing of it is kept"),
      el("form", { class: "try", onsubmit: run },
        label("Body ", body), label("Media type ", type), el("datalist", { id: "try-types" }, TYPES.map((it) => el("option", { value: it }))),
        label("More headers, one a line ", headers), label("Lane ", lane), el("button", {}, "Show what becomes of it")),
      result));
}

/** Headers of lines; those that would be the operator's own are left out. */
function read(text, type) {
  const headers = new Headers();
  for (const line of text.split("\n").filter((it) => it.trim())) {
    const [name, value] = [line.split(":", 1)[0].trim(), line.slice(line.indexOf(":") + 1).trim()];
    if (name.toLowerCase() === "authorization") continue;
    try {
      if (!line.includes(":")) throw new TypeError();
      headers.append(name, value);
    } catch {
      throw new Problem(0, "header", `“${line}” is not a header; write it as Name: value.`);
    }
  }
  if (type && !headers.has("content-type")) headers.set("content-type", type);
  return headers;
}

function outcome(view) {
  const { verify, result, detail } = view.sender;
  const sender = verify === "none" ? "○ this source verifies nobody" : [SENDERS[result] ?? result, ` (${verify})`, detail ? [": ", other(detail)] : ""].flat();
  return [
    facts([["Sender", sender], ["Events", several(view.events.length + Number(view.more_events), "event")]]),
    el("ol", { class: "list" }, view.events.map(one)),
    Number(view.more_events) ? el("p", { class: "note" }, `${several(view.more_events, "more event")} not looked at.`) : "",
  ].filter(Boolean);
}

function one(it) {
  return el("li", { class: `grave-${GRAVE[it.result] ?? 0}` },
    el("p", {}, el("strong", {}, RESULTS[it.result] ?? it.result), ` event ${it.index}`, it.event.id ? [", id ", other(it.event.id)] : "", it.event.type ? [", type ", other(it.event.type)] : "",
      it.code ? [": ", other(it.code), ": ", other(it.detail)] : ""),
    it.stages.length ? el("ol", { class: "stages" }, it.stages.map(stage)) : null,
    it.changes.length ? el("ul", { class: "list" }, it.changes.map(change)) : null,
    el("details", {}, el("summary", {}, "The event as plugins get it"), shown(it.event.data ?? it.event.data_base64 ?? "", it.event.cut, "event")));
}

function stage(it) {
  return el("li", {}, `${it.role} `, other(it.plugin), `: ${it.result}`, it.detail ? [": ", other(it.detail)] : "", el("small", {}, ` ${it.took_ms} ms`),
    it.log.length ? el("ul", { class: "log" }, it.log.map((line) => el("li", {}, `${line.level}: `, other(line.message)))) : null);
}

const STORE = { committed: "▲ committed: it is new", unchanged: "○ unchanged: it equals what is stored", stale: "○ stale: older than what is stored" };

function change(it) {
  const owing = it.channels.flatMap((name, index) => [index ? ", " : "", link("channel", { name }, other(name))]);
  return el("li", {}, el("details", {},
    el("summary", {}, other(it.type), " ", other(it.key), " ", el("strong", {}, other(it.facet)), it.deleted ? " (deleted)" : "", ": ", STORE[it.result] ?? "not taken, because of the reason above"),
    facts([["Version", it.version], ["Lane", it.lane], ["Would be owed by", it.result === "committed" ? (owing.length ? owing : "no channel") : null]]),
    it.deleted ? null : shown(it.value === undefined ? "" : write(it.value), it.cut, it.facet)));
}
