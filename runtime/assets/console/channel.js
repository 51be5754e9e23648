// One channel: how it stands, what can be done about it, and what its target does not take.
import { button, operate } from "./act.js";
import { ask, may } from "./api.js";
import { rendering } from "./entity.js";
import { chart, draw, freshnessLabel } from "./chart.js";
import { el, exchange, facts, link, other, say, set } from "./dom.js";
import { jobs, redrive } from "./jobs.js";
import { deliveryRate, live, owedAge } from "./live.js";
import { measured, reading } from "./measured.js";
import { loaded, pages } from "./parts.js";
import { release, standing, sweeping } from "./trouble.js";
import { bytes, count, duration, rate, several, when } from "./words.js";

const SLOTS = 360;
/** From so many entities on, an action that touches all of them asks for the channel's name. */
const MANY = 1000;

export function channel({ root, parameters, signal, go }) {
  const name = parameters.get("name") ?? "";
  const state = el("p", { class: "state-line" });
  const actions = el("div", { class: "actions" });
  const figures = el("div");
  const results = el("div");
  const running = jobs((job) => job.channel === name);
  const sweep = el("progress", { hidden: true, "aria-labelledby": "sweep-note" }), sweepNote = el("p", { id: "sweep-note", class: "note" });
  const about = el("div");
  const fresh = chart(720, 80), sent = chart(720, 80);
  const freshNote = el("p", { class: "note" }), sentNote = el("p", { class: "note" });
  root.append(el("h1", {}, "Channel ", other(name)), state, actions,
    sweep, sweepNote, running.node, el("div", { class: "pair" },
      el("section", {}, el("h2", {}, "Owed"), fresh, freshNote, figures),
      el("section", {}, el("h2", {}, "Delivered"), sent, sentNote, results)));
  const refused = refusals(name, parameters, signal, go);
  const owed = owedEntities(name, signal);
  const measures = measured();
  const detail = reading(name, signal, (view) => {
    measures.show(view);
    update();
  });
  root.append(refused.node, measures.node, owed.node, again(name), el("section", {}, el("h2", {}, "About it"), about));
  let offered = "", listed = "";

  function update() {
    detail.again();
    const known = live.channels.get(name);
    // What is live wins over what was read some seconds ago.
    const row = known && { ...detail.fields, ...known };
    if (!row) return say(state, `There is no channel of this name.`);
    const { word, shape, grave } = standing(row);
    set(state, "class", `state-line grave-${grave}`);
    const line = [`${shape} ${word}`, row.reason ? `: ${row.reason}` : ""].join("");
    if (state.textContent !== line) state.replaceChildren(other(line));
    // Buttons are made anew only if others are offered, so that the focus stays.
    const offer = [row.state, row.held, row.holding, row.held_feed].join();
    if (offer !== offered) exchange(actions, offers(name, row));
    offered = offer;
    show(figures, owedFacts(row));
    running.update();
    const past = live.history.get(name) ?? { ages: [], rates: [] };
    const aim = row.freshness_objective_seconds;
    draw(fresh, past.ages, SLOTS, aim, freshnessLabel(past.ages, aim), 720, 80);
    say(freshNote, freshnessLabel([...past.ages, owedAge(row)], aim));
    const now = rate(deliveryRate(name));
    draw(sent, past.rates, SLOTS, null, `Deliveries per second: now ${now}.`, 720, 80);
    say(sentNote, `Now ${now}. Both charts have the last hour, as far as this page has been open.`);
    show(results, resultFacts(row));
    show(about, aboutFacts(row));
    const changed = `${row.refused} ${row["owed.total"] > 0}`;
    if (listed !== changed) {
      if (listed) refused.again();
      owed.again();
    }
    listed = changed;
    const swept = sweeping(row);
    say(sweepNote, swept ?? "");
    sweep.hidden = !swept;
    set(sweep, "max", row["sweep.total"]);
    set(sweep, "value", swept && Number(row["sweep.total"]) - Number(row["sweep.left"]));
    refused.total(Number(row.refused ?? 0));
    measures.node.hidden = row.state === "retired";
  }
  return { update };
}

/** Exchanges facts if they say something else. */
function show(node, list) {
  const made = facts(list);
  if (node.textContent !== made.textContent) node.replaceChildren(made);
}

function offers(name, row) {
  const holding = Number(row.holding ?? 0);
  const all = several(holding, "entity", "entities");
  const named = holding >= MANY ? name : undefined;
  const held = Number(row.held ?? 0);
  if (row.state === "retired") return [button(`Forget ${name}`, {
    needs: "admin", name, sure: `Weir forgets what it delivered to ${name}. If the channel returns, it cannot withdraw any of ${all}.`,
    run: async () => {
      await ask("DELETE", ["channels", name]);
      return `${name} is forgotten.`;
    } })].filter(Boolean);
  const list = [
    row.state === "paused"
      ? button(`Resume ${name}`, { run: operate(name, "resume", `${name} delivers again.`) })
      : button(`Pause ${name}`, { run: operate(name, "pause", `${name} is paused. It goes on where it was when it is resumed.`) }),
    held || row.held_feed ? release(name, row) : null,
    row.state === "ahead" ? button(`Overwrite the target of ${name}`, { name, sure: `Everything is sent again, and what is newer at the target is lost.`, run: operate(name, "overwrite", "Everything is sent again.") }) : null,
    button(`Resync ${all}`, { quiet: true, name: named, sure: `Everything is sent to the target of ${name} again, deletions included.`, run: operate(name, "resync", `${name} sends everything again.`) }),
    button(`Rerender ${all}`, { quiet: true, name: named, sure: `Everything is rendered again, and what differs is sent.`, run: operate(name, "rerender", `${name} renders everything again.`) }),
    button(`Check ${name} for drift`, { quiet: true, run: async () => {
      const job = await ask("POST", ["channels", name, "drift"]);
      return `Job ${job.id} compares the target with what it should hold. Its result will be shown below.`;
    } }),
  ];
  return list.filter(Boolean);
}

const owedFacts = (row) => [
  ["Urgent", count(row["owed.urgent"])], ["Normal", count(row["owed.normal"])], ["Bulk", count(row["owed.bulk"])],
  ["Sweep", Number(row["sweep.left"]) ? `${count(row["sweep.left"])} to visit` : null],
  ["In flight", count(row.in_flight)], ["Parked", count(row.parked)],
  ["Held", Number(row.held) ? count(row.held) : null], ["Waiting on purpose", Number(row.waiting) ? count(row.waiting) : null],
  ["Oldest change", row.oldest_owed ? when(row.oldest_owed) : null],
];

const resultFacts = (row) =>
  ["delivered", "suppressed", "withdrawn", "withheld", "counted", "parked", "held", "refused"]
    .filter((result) => Number(row[`deliveries.${result}`] ?? 0))
    .map((result) => [`${result[0].toUpperCase()}${result.slice(1)} since the start`, count(row[`deliveries.${result}`])]);

function aboutFacts(row) {
  const list = (names) => (names?.length ? names.map((it, index) => [index ? ", " : "", other(it)]).flat() : null);
  const sweep = row["last_sweep.began"] && [
    row["last_sweep.ended"] ? "ended " : "running since ", when(row["last_sweep.ended"] ?? row["last_sweep.began"]),
    `; rendered ${count(row["last_sweep.rendered"])}, delivered ${count(row["last_sweep.delivered"])}, suppressed ${count(row["last_sweep.suppressed"])}`];
  const drift = row["last_drift.ended"] && [
    when(row["last_drift.ended"]), `; compared ${count(row["last_drift.compared"])}: missing ${count(row["last_drift.missing"])}, older ${count(row["last_drift.older"])}, different ${count(row["last_drift.different"])}, extra ${count(row["last_drift.extra"])}`];
  return [
    ["Entities", row.entity && other(row.entity)], ["Target", row.target && other(row.target)], ["Facets", list(row.facets)], ["Needs", list(row.needs)],
    ["Plugins", list(row.plugins) ?? "none: the facets as JSON"], ["Delivers", row.deliver === false ? "no: it renders and counts" : "yes"],
    ["Objective", row.freshness_objective_seconds ? duration(row.freshness_objective_seconds) : "none"],
    ["Held by its target", count(row.holding)],
    ["Target bears", row.target_bears_per_second ? `${rate(row.target_bears_per_second)}, as far as is known` : null],
    ["Last error", row["last_error.time"] ? [other(row["last_error.detail"]), ", ", when(row["last_error.time"])] : null],
    ["Last sweep", sweep], ["Last drift check", drift],
    ["Feed", row["feed.generation.number"] && `generation ${row["feed.generation.number"]}, ${several(row["feed.generation.records"], "record")}, ${bytes(Number(row["feed.generation.bytes"]))}`],
  ];
}

function refusals(name, parameters, signal, go) {
  const code = el("input", { id: "code", type: "search", value: parameters.get("code") ?? "", onchange: () => go({ view: "channel", name, code: code.value }) });
  const filter = () => (code.value ? { code: code.value } : {});
  const many = el("span", { class: "actions" });
  const list = pages({
    signal, key: (it) => `${it.type}/${it.key}/${it.sequence}`, empty: "None.",
    load: (after) => ask("GET", ["channels", name, "refused"], { ...filter(), after, limit: 50 }, { signal }),
    make: (it) => {
      const one = { key: it.key };
      const settle = async (method, path, word) => {
        await ask(method, path, one);
        list.again();
        return `${it.key} ${word}.`;
      };
      const payload = el("div");
      const look = el("button", { type: "button", class: "quiet", onclick: () =>
        loaded(payload, signal, () => ask("GET", ["channels", name, "preview"], { key: it.key, cut: true }, { signal }), rendering) }, `Payload of ${it.key}`);
      return el("li", {}, link("entity", { type: it.type, key: it.key }, other(it.key)), el("span", {}, other(it.code), ": ", other(it.detail)), el("small", {}, when(it.time)),
        el("span", { class: "actions" }, look,
          button(`Redrive ${it.key}`, { quiet: true, run: () => settle("POST", ["channels", name, "refused", "redrive"], "is tried again") }),
          button(`Drop ${it.key}`, { quiet: true, sure: "It is not tried again until it changes.", run: () => settle("DELETE", ["channels", name, "refused"], "is dropped") })), payload);
    },
  });
  let shownTotal = -1;
  function total(number) {
    if (number === shownTotal) return;
    shownTotal = number;
    const which = () => (code.value ? filter() : { all: true });
    const what = code.value ? `refused for ${code.value}` : several(number, "refused entity", "refused entities");
    const again = async () => {
      const said = await redrive(["channels", name, "refused"], which());
      list.again();
      return said;
    };
    const drop = async () => {
      const answer = await ask("DELETE", ["channels", name, "refused"], which());
      list.again();
      return `${several(answer.dropped, "entity", "entities")} dropped.`;
    };
    exchange(many, (number ? [button(`Redrive ${what}`, { run: again }), button(`Drop ${what}`, { quiet: true, name: number >= MANY ? name : undefined, sure: "They are not tried again until they change.", run: drop })] : []).filter(Boolean));
  }
  const node = el("section", { id: "refused" }, el("h2", {}, "Refused"), el("p", { class: "only" }, el("label", { for: "code" }, "Only with the code "), code), many, list.node);
  return { node, again: list.again, total };
}

function owedEntities(name, signal) {
  const list = pages({
    signal, key: (it) => `${it.type}/${it.key}`, empty: "None.",
    load: async (after) => {
      const type = live.channels.get(name)?.entity;
      if (!type) return { items: [] };
      return ask("GET", ["entities", type], { owed: name, limit: 20, after }, { signal });
    },
    make: (it) => el("li", {}, link("entity", { type: it.type, key: it.key }, other(it.key))),
  });
  return { node: el("section", {}, el("h2", {}, "Owed entities"), list.node), again: list.again };
}

function again(name) {
  if (!may("operate")) return "";
  const key = el("input", { id: "again", autocomplete: "off", spellcheck: "false" });
  return el("section", {}, el("h2", {}, "One entity once more"), el("p", { class: "only" }, el("label", { for: "again" }, "Key "), key, " ",
    button("Send it again", { quiet: true, run: async () => {
      await ask("POST", ["channels", name, "resend"], { type: live.channels.get(name)?.entity, key: key.value });
      return `${key.value} is sent to ${name} again.`;
    } })));
}
