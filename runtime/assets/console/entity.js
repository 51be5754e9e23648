// One entity: its facets, and how it stands on each channel.
import { button } from "./act.js";
import { ask } from "./api.js";
import { el, facts, link, other } from "./dom.js";
import { write } from "./json.js";
import { loaded, value } from "./parts.js";
import { several, when } from "./words.js";

const WORDS = {
  delivered: "● in sync", suppressed: "● in sync", owed: "▲ owed", waiting: "◷ waits on purpose", parked: "■ parked", refused: "■ refused",
  held: "◆ held", withheld: "○ not for this channel", withdrawn: "○ withdrawn", "not subscribed": "○ not subscribed", retired: "○ channel is retired",
};
/** Of so few channels all is shown at once. */
const FEW = 4;
const GRAVE = { parked: 3, refused: 3, held: 3, owed: 2 };

export function entity({ root, parameters, signal, again }) {
  const [type, key] = [parameters.get("type") ?? "", parameters.get("key") ?? ""];
  const body = el("div");
  root.append(el("h1", {}, other(type), " ", other(key)), el("p", { class: "actions" }, el("button", { type: "button", class: "quiet", onclick: again }, "Look again")), body);
  loaded(body, signal, () => ask("GET", ["entities", type], { key }, { signal }), (view) => [
    el("p", { class: "note" }, "As of ", when(new Date().toISOString())),
    el("h2", {}, "On its channels"), summary(view.channels),
    el("ul", { class: "list" }, sorted(view.channels).map((it) => onChannel(it, type, key, signal, view.channels.length <= FEW))),
    el("h2", {}, "Facets"), el("ul", { class: "list" }, view.facets.map(facet)),
  ]);
  return {};
}

const grave = (it) => (it.owed && it.state === "delivered" ? 2 : GRAVE[it.state] ?? 0);
const sorted = (channels) => [...channels].sort((a, b) => grave(b) - grave(a));

function summary(channels) {
  const fine = channels.filter((it) => !grave(it)).length;
  return el("p", { class: "note" }, `Settled on ${fine} of ${several(channels.length, "channel")}.`);
}

function facet(it) {
  const head = el("summary", {}, other(it.name), it.deleted ? " (deleted)" : "", " ", el("small", {}, "written by ", other(it.owner), it.version ? `, version ${it.version}` : "", `, sequence ${it.sequence}, `, when(it.time)));
  return el("li", {}, it.deleted ? head.firstChild : el("details", {}, head, value(write(it.value), `${it.name}.json`)));
}

function onChannel(it, type, key, signal, few) {
  const more = el("div");
  const preview = el("button", { type: "button", class: "quiet", onclick: () =>
    loaded(more, signal, () => ask("GET", ["channels", it.channel, "preview"], { key }, { signal }), rendering) }, `Rendering for ${it.channel}`);
  const words = WORDS[it.state] ?? it.state;
  const state = it.owed && it.state === "delivered" ? "▲ owed" : words;
  return el("li", { class: `grave-${grave(it)}` }, el("details", { open: few || grave(it) > 0 },
    el("summary", {}, el("strong", {}, other(it.channel)), " ", el("span", { class: "state" }, state)),
    facts([
      ["Because", it.last_error && other(it.last_error)], ["By", it.by && other(it.by)], ["Since", when(it.since)],
      ["Settled up to", it.sequence && `sequence ${it.sequence}`], ["Attempts", it.attempts && String(it.attempts)], ["Next attempt", when(it.next_attempt)],
      ["Rendered by", it.plugin && other(it.plugin)], ["Note", it.detail && other(it.detail)], ["In flight", it.in_flight ? "yes" : null],
    ]),
    el("span", { class: "actions" }, link("channel", { name: it.channel }, `Channel ${it.channel}`), it.state === "retired" ? null : preview,
      it.state === "refused" ? button(`Redrive ${key} on ${it.channel}`, { run: async () => {
        await ask("POST", ["channels", it.channel, "refused", "redrive"], { key });
        return `${key} is tried again on ${it.channel}.`;
      } }) : null,
      it.state === "retired" || it.state === "not subscribed" ? null : button(`Send ${key} to ${it.channel} again`, { quiet: true, run: async () => {
        await ask("POST", ["channels", it.channel, "resend"], { type, key });
        return `${key} is sent to ${it.channel} again.`;
      } })),
    more));
}

function rendering(view) {
  const body = view.rendering;
  return [
    facts([
      ["Would go out now", view.result === "rendering" ? "this rendering" : other(view.result)],
      ["Missing", view.missing.length ? other(view.missing.join(", ")) : null],
      ...view.filters.map((it) => ["Filter", [other(it.plugin), `: ${it.verdict}`]]),
      ["Rendered by", view.plugin && other(view.plugin)], ["Error", view.error && other(view.error)],
      ["Key at the target", body && other(body.key)], ["Type", body && other(body.content_type)],
    ]),
    body && value(body.body ?? body.body_base64, "rendering"),
  ];
}
