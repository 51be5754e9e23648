// One source: what came in, and the events that a plugin failed on.
import { button } from "./act.js";
import { ask, route } from "./api.js";
import { el, exchange, facts, other } from "./dom.js";
import { jobs, redrive } from "./jobs.js";
import { arrivalRate, live } from "./live.js";
import { pages, shown } from "./parts.js";
import { tryOut } from "./try.js";
import { count, duration, rate, several, when } from "./words.js";

const MANY = 1000;

export function source({ root, parameters, signal, go }) {
  const name = parameters.get("name") ?? "";
  const figures = el("div");
  const many = el("span", { class: "actions" });
  const code = el("input", { id: "code", type: "search", value: parameters.get("code") ?? "", onchange: () => go({ view: "source", name, code: code.value }) });
  const which = () => (code.value ? { code: code.value } : { all: true });
  const list = pages({
    signal, key: (it) => String(it.sequence), empty: "None.",
    load: (after) => ask("GET", ["sources", name, "quarantine"], { code: code.value, after, limit: 20, cut: true }, { signal }),
    make: (it) => el("li", {}, quarantined(it, name, () => list.again())),
  });
  const running = jobs((job) => job.source === name);
  root.append(el("h1", {}, "Source ", other(name)), figures, running.node, el("section", {}, el("h2", {}, "Quarantine"), el("p", { class: "only" }, el("label", { for: "code" }, "Only with the code "), code), many, list.node), tryOut(name, signal));
  let kept = -1;
  function update() {
    running.update();
    const row = live.sources.get(name);
    if (!row) return figures.replaceChildren(el("p", {}, "There is no source of this name."));
    const made = facts([
      ["State", row.silent ? "▲ silent" : "● sends"], ["Last event", when(row.last_event)], ["Rate", rate(arrivalRate(name))],
      ["Silent after", row.quiet_seconds && duration(row.quiet_seconds)], ["Owner", other(row.owner)], ["Plugins", row.plugins?.length ? other(row.plugins.join(", ")) : "none: changes as they are"],
      ["Senders", row.verify === "none" ? "not verified" : `verified: ${row.verify}`],
      ["Events since the start", ["accepted", "filtered", "quarantined", "repeated"].map((it) => `${it} ${count(row[`events.${it}`])}`).join(", ")],
      ["Changes since the start", ["committed", "unchanged", "stale"].map((it) => `${it} ${count(row[`changes.${it}`])}`).join(", ")],
    ]);
    if (made.textContent !== figures.textContent) figures.replaceChildren(made);
    const number = Number(row.quarantined ?? 0);
    if (number === kept) return;
    if (kept >= 0) list.again();
    kept = number;
    const what = code.value ? `events with the code ${code.value}` : several(number, "event");
    const buttons = number ? [
      button(`Redrive ${what}`, { run: async () => {
        const said = await redrive(["sources", name, "quarantine"], which());
        list.again();
        return said;
      } }),
      button(`Drop ${what}`, { quiet: true, name: number >= MANY ? name : undefined, sure: "Their changes are lost, unless their sender sends them again.", run: async () => {
        const answer = await ask("DELETE", ["sources", name, "quarantine"], which());
        list.again();
        return `${several(answer.dropped, "event")} dropped.`;
      } }),
    ] : [];
    exchange(many, buttons.filter(Boolean));
  }
  return { update };
}

function quarantined(it, name, again) {
  const event = it.event;
  const one = (method, path, said) => async () => {
    await ask(method, ["sources", name, "quarantine", ...path], { sequence: String(it.sequence) });
    again();
    return said;
  };
  return el("details", {}, el("summary", {}, other(it.code), ": ", other(it.detail), " ", el("small", {}, `sequence ${it.sequence}, `, when(it.time), Number(it.count) > 1 ? `, ${it.count} times` : "")),
    facts([["Plugin", it.plugin && other(it.plugin)], ["Id", event.id && other(event.id)], ["Type", event.type && other(event.type)], ["From", event.source && other(event.source)], ["Media type", event.content_type && other(event.content_type)], ["Kept as", it.body && "the body of a request, which could not be read"]]),
    shown(it.text ?? event.data ?? event.data_base64 ?? "", it.text === undefined ? event.cut : undefined, "event", route(["sources", name, "quarantine"], { sequence: it.sequence, data: true })),
    el("span", { class: "actions" },
      button("Redrive this event", { quiet: true, run: one("POST", ["redrive"], "It was given to the plugins again.") }),
      button("Drop this event", { quiet: true, sure: "Its changes are lost, unless its sender sends it again.", run: one("DELETE", [], "It is dropped.") })));
}
