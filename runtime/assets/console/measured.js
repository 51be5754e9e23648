// What is measured of one channel: how long changes take, what became of them, and what waits longest.
import { ask, Problem } from "./api.js";
import { el, facts, keyed, link, other } from "./dom.js";
import { Written } from "./json.js";
import { count, when } from "./words.js";

const LANES = ["urgent", "normal", "bulk"];
const SPANS = [["minute", "last minute"], ["hour", "last hour"], ["day", "last day"]];
/** How often it is read, in milliseconds. */
const READ_MS = 5000;

/** Reads what is known of one channel alone, from time to time: `again` when it may be time, `fields` as in the stream. */
export function reading(name, signal, then) {
  const known = { fields: {}, again };
  let read = 0;
  async function again() {
    if (Date.now() - read < READ_MS) return;
    read = Date.now();
    let view;
    try {
      view = await ask("GET", ["channels", name], {}, { signal });
    } catch (error) {
      if (signal.aborted || error instanceof Problem) return;
      throw error;
    }
    known.fields = Object.fromEntries(flat("", view));
    then(view);
  }
  return known;
}

/** Members of members, their names joined by a dot, and numbers as texts. */
function flat(prefix, value) {
  if (value instanceof Written) return [[prefix, value.text]];
  if (value === null || typeof value !== "object" || Array.isArray(value)) return [[prefix, value]];
  return Object.entries(value).flatMap(([name, it]) => flat(prefix ? `${prefix}.${name}` : name, it));
}

/** Shows what is measured. */
export function measured() {
  const [latencies, became, since] = [el("div"), el("div"), el("p", { class: "note" })];
  const waiting = el("ul", { class: "list" });
  const longest = el("section", { hidden: true }, el("h2", {}, "Owed for longest"), waiting);
  const node = el("div", {},
    el("div", { class: "pair" },
      el("section", {}, el("h2", {}, "From acceptance to delivery: p50 · p99 · longest"), latencies),
      el("section", {}, el("h2", {}, "What became of the changes"), became, since)),
    longest);
  function show(view) {
    latencies.replaceChildren(latency(view.latency));
    became.replaceChildren(facts(flow(view.flow)));
    since.replaceChildren("Since the start of Weir, ", when(view.flow.since));
    longest.hidden = !view.oldest?.length;
    keyed(waiting, view.oldest ?? [], (it) => it.key, (it) => el("li", {}, link("entity", { type: view.entity, key: it.key }, other(it.key)), el("span")), (row, it) =>
      row.lastChild.replaceChildren(other(it.state), it.last_error ? ": " : "", it.last_error ? other(it.last_error) : "", ", since ", when(it.since)));
  }
  return { node, show };
}

/** A number of milliseconds. */
const took = (ms) => (Number(ms) < 10000 ? `${count(ms)} ms` : `${count(Math.round(Number(ms) / 1000))} s`);

const figures = (it) => (Number(it.count) ? `${took(it.p50_ms)} · ${took(it.p99_ms)} · ${took(it.max_ms)} (n = ${count(it.count)})` : "–");

function latency(view) {
  const used = LANES.filter((lane) => Number(view[lane].day.count));
  if (!used.length) return el("p", { class: "note" }, "No change was delivered in the last day.");
  return facts(used.flatMap((lane) => SPANS.map(([span, words]) => [`${lane}, ${words}`, figures(view[lane][span])])));
}

const BECAME = [
  ["delivered", "Delivered"], ["withdrawn", "Withdrawn"], ["coalesced", "Superseded by newer changes"], ["suppressed", "Suppressed"],
  ["withheld", "Withheld"], ["refused", "Refused"], ["counted", "Counted"], ["owed", "Owed"],
];

function flow(view) {
  const words = (field, own) => (field === "coalesced" && view.estimate ? `${own}, about` : own);
  return [
    ["Changes", count(view.changes)],
    ...BECAME.filter(([field]) => Number(view[field])).map(([field, own]) => [words(field, own), count(view[field])]),
    ["Sent again after a failure", Number(view.retried) ? count(view.retried) : null],
    ["Sent without a change", Number(view.unasked) ? count(view.unasked) : null],
    ["Sent for each change", view.factor == null ? null : Number(view.factor).toFixed(2)],
  ];
}
