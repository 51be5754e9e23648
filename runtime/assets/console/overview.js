// The overview: what is wrong, and how sources, lanes and channels stand.
import { chart, draw, freshnessLabel } from "./chart.js";
import { el, keyed, link, other, say, set, svg } from "./dom.js";
import { arrivalRate, deliveryRate, live, owedAge } from "./live.js";
import { standing, sweeping, troubles } from "./trouble.js";
import { count, duration, rate, several } from "./words.js";

const SHOWN = 8;
const BARS = 60;
const LANES = ["urgent", "normal", "bulk"];

export function overview({ root, parameters, go }) {
  const wrong = el("ul", { class: "wrong" });
  const fine = el("p", { class: "fine" });
  const more = el("p");
  const sources = el("ul", { class: "cards" });
  const lanes = el("ul", { class: "cards" });
  const body = el("tbody");
  const lines = svg("svg", { class: "lines", "aria-hidden": "true" });
  const search = el("input", { id: "only", type: "search", value: parameters.get("only") ?? "", oninput: () => {
    go({ view: "overview", only: search.value }, true);
    update();
  } });
  const head = (text, wide) => el("th", { scope: "col", class: wide }, text);
  const table = el("table", { class: "channels" },
    el("thead", {}, el("tr", {}, head("Channel"), head("State"), head("Age of the oldest change owed"), head("Owed: urgent, normal, bulk", "number"), head("Delivered", "number"))), body);
  const flow = el("div", { class: "flow" }, lines,
    el("section", { class: "col-sources" }, el("h2", {}, "Sources"), sources),
    el("section", { class: "col-lanes" }, el("h2", {}, "Owed in lanes"), lanes),
    el("section", { class: "col-channels" }, el("h2", {}, "Channels"),
      el("p", { class: "only" }, el("label", { for: "only" }, "Only names with "), search), table));
  root.append(el("h1", {}, "Overview"), el("section", { "aria-label": "What is wrong" }, wrong, fine, more), flow);
  const observer = new ResizeObserver(() => join());
  observer.observe(flow);

  function update() {
    const all = troubles();
    keyed(wrong, all.slice(0, SHOWN), (it) => it.key, makeTrouble, patchTrouble);
    wrong.hidden = !all.length;
    const owed = [...live.channels.values()].reduce((sum, row) => sum + Number(row["owed.total"] ?? 0), 0);
    say(fine, all.length ? "" : `Nothing is wrong. ${several(live.channels.size, "channel")}, ${owed ? `${count(owed)} owed` : "nothing owed"}.`);
    say(more, all.length > SHOWN ? `And ${all.length - SHOWN} more; the table has all channels, those in trouble first.` : "");
    keyed(sources, [...live.sources].sort(byName), ([name]) => name, makeSource, patchSource);
    keyed(lanes, LANES.filter((name) => live.lanes.has(name)).map((name) => [name, live.lanes.get(name)]), ([name]) => name, makeLane, patchLane);
    const only = search.value.toLowerCase();
    const rows = [...live.channels].filter(([name]) => name.toLowerCase().includes(only));
    rows.sort((a, b) => standing(b[1]).grave - standing(a[1]).grave || byName(a, b));
    keyed(body, rows, ([name]) => name, makeChannel, patchChannel);
    join();
  }

  /** Lines from each source to the lanes, and from these to each channel, as wide as the rate. */
  function join() {
    const frame = flow.getBoundingClientRect();
    const middle = lanes.getBoundingClientRect();
    if (!middle.width || frame.width < 900) return keyed(lines, [], String);
    set(lines, "viewBox", `0 0 ${frame.width} ${frame.height}`);
    const ends = [];
    for (const node of sources.children) ends.push(end(node, true, arrivalRate(node.id.slice(7)) ?? 0));
    for (const node of body.children) ends.push(end(node, false, deliveryRate(node.id.slice(8)) ?? 0));
    function end(node, left, perSecond) {
      const box = node.getBoundingClientRect();
      const [x, to] = left ? [box.right, middle.left] : [box.left, middle.right];
      const y = box.top + Math.min(box.height / 2, 20) - frame.top;
      const half = middle.top + middle.height / 2 - frame.top;
      const [a, b, bend] = [x - frame.left, to - frame.left, (x + to) / 2 - frame.left];
      return { key: node.id, width: perSecond ? Math.min(9, 1.2 + Math.log2(1 + perSecond)).toFixed(1) : 0.8, idle: !perSecond, path: `M${a} ${y}C${bend} ${y} ${bend} ${half} ${b} ${half}` };
    }
    keyed(lines, ends, (it) => it.key, () => svg("path"), (node, it) => {
      set(node, "d", it.path);
      set(node, "stroke-width", it.width);
      set(node, "class", it.idle ? "idle" : "");
    });
  }
  return { update, close: () => observer.disconnect() };
}

const byName = ([a], [b]) => (a < b ? -1 : 1);

function makeTrouble(it) {
  return el("li", {}, el("span", { class: "text" }), it.help?.().filter(Boolean));
}

function patchTrouble(node, it) {
  set(node, "class", `grave-${it.grave}`);
  const text = el("span", {}, it.text);
  if (text.textContent !== node.firstChild.textContent) node.firstChild.replaceChildren(...text.childNodes);
}

function makeSource([name]) {
  return el("li", { class: "card", id: `source-${name}` }, link("source", { name }, other(name)), el("span", { class: "figure" }), el("small"));
}

function patchSource(node, [name, row]) {
  const [, figure, note] = node.children;
  say(figure, rate(arrivalRate(name)));
  say(note, row.silent ? "▲ silent" : row.last_event ? `last event ${duration((live.now() - Date.parse(row.last_event)) / 1000)} ago` : "no event yet");
  set(node, "class", row.silent ? "card warn" : "card");
}

function makeLane([name]) {
  return el("li", { class: "card" }, el("span", {}, name), el("span", { class: "figure" }));
}

function patchLane(node, [, row]) {
  say(node.children[1], count(row.owed));
}

function makeChannel([name]) {
  const cell = (label, ...children) => el("td", { "data-label": label }, ...children);
  return el("tr", { id: `channel-${name}` }, el("th", { scope: "row" }, link("channel", { name }, other(name))),
    cell("State", el("span", { class: "state" }), el("small")), cell("Oldest owed", chart(), el("span", { class: "figure" })),
    el("td", { class: "number", "data-label": "Owed" }), el("td", { class: "number", "data-label": "Delivered" }));
}

function patchChannel(node, [name, row]) {
  const [, state, fresh, owed, sent] = node.children;
  const { word, shape, grave } = standing(row);
  set(node, "class", `grave-${grave}`);
  say(state.firstChild, `${shape} ${word}`);
  const reason = el("small", {}, row.reason ? other(row.reason) : sweeping(row) ?? "");
  if (reason.textContent !== state.lastChild.textContent) state.lastChild.replaceChildren(...reason.childNodes);
  const age = owedAge(row);
  const past = [...(live.history.get(name)?.ages ?? []).slice(1 - BARS), age];
  draw(fresh.firstChild, past, BARS, row.freshness_objective_seconds, freshnessLabel(past, row.freshness_objective_seconds));
  const aim = row.freshness_objective_seconds;
  say(fresh.lastChild, row.state === "retired" ? "–" : aim ? `${duration(age)} of ${duration(aim)}` : duration(age));
  say(owed, row.state === "retired" ? "–" : LANES.map((lane) => count(row[`owed.${lane}`])).join(" · "));
  say(sent, row.state === "retired" ? "–" : rate(deliveryRate(name)));
}
