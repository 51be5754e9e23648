// One entity: its facets, and how it stands on each channel.
import { button } from "./act.js";
import { ask, route } from "./api.js";
import { compare, difference } from "./difference.js";
import { el, facts, link, other } from "./dom.js";
import { read, write } from "./json.js";
import { loaded, shown } from "./parts.js";
import { age, several, when } from "./words.js";

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
  loaded(body, signal, () => ask("GET", ["entities", type], { key, cut: true }, { signal }), (view) => [
    el("h2", {}, "On its channels"), summary(view.channels),
    el("ul", { class: "list" }, sorted(view.channels).map((it) => onChannel(it, type, key, signal, view.channels.length <= FEW))),
    el("h2", {}, "Facets"), el("ul", { class: "list" }, view.facets.map((it) => facet(it, route(["entities", type], { key, facet: it.name })))),
    ...way(view.way ?? []),
  ]);
  return {};
}

const grave = (it) => (it.owed && it.state === "delivered" ? 2 : GRAVE[it.state] ?? 0);
const sorted = (channels) => [...channels].sort((a, b) => grave(b) - grave(a));

function summary(channels) {
  const fine = channels.filter((it) => !grave(it)).length;
  return el("p", { class: "note" }, `Settled on ${fine} of ${several(channels.length, "channel")}.`);
}

function facet(it, saved) {
  const head = el("summary", {}, other(it.name), it.deleted ? " (deleted)" : "", " ", el("small", {}, "written by ", other(it.owner), it.version ? `, version ${it.version}` : "", `, sequence ${it.sequence}, `, when(it.time)));
  return el("li", {}, it.deleted ? head.firstChild : el("details", {}, head, shown(it.cut ? "" : write(it.value), it.cut, `${it.name}.json`, saved)));
}

/** What just happened to it, the newest first. */
function way(steps) {
  const made = steps.toReversed().map((it) => el("li", {}, when(it.time), el("span", {}, ...happened(it)),
    it.trace && el("small", {}, "trace ", other(it.trace))));
  const note = made.length ? "As far as Weir's memory of the last happenings reaches." : "Weir remembers nothing of it that happened lately; the times above are stored.";
  return [el("h2", {}, "What just happened"), el("p", { class: "note" }, note), el("ol", { class: "list" }, made)];
}

function happened(it) {
  if (it.step === "accepted") return ["accepted from ", other(it.source), `, sequence ${it.sequence}`];
  if (it.step === "sent") return ["sent to ", other(it.channel), `, up to sequence ${it.sequence}`];
  const took = (from) => `${Math.max(0, Date.parse(it.time) - Date.parse(from))} ms before`;
  const stages = [it.met && `met ${took(it.met)}`, it.rendered && `rendered ${took(it.rendered)}`].filter(Boolean);
  return [`${it.result} on `, other(it.channel), stages.length ? ` (${stages.join(", ")})` : ""];
}

/** One whose time is over waits for its channel, which may be paused, or whose target may be in trouble. */
function next(it) {
  if (!it.next_attempt || age(it.next_attempt) < 5) return when(it.next_attempt);
  return `as soon as ${it.channel} sends again`;
}

function onChannel(it, type, key, signal, few) {
  const more = el("div");
  const preview = el("button", { type: "button", class: "quiet", onclick: () =>
    loaded(more, signal, () => ask("GET", ["channels", it.channel, "preview"], { key, cut: true }, { signal }), rendering) }, `Rendering for ${it.channel}`);
  const words = WORDS[it.state] ?? it.state;
  const state = it.owed && it.state === "delivered" ? "▲ owed" : words;
  return el("li", { class: `grave-${grave(it)}` }, el("details", { open: few || grave(it) > 0 },
    el("summary", {}, el("strong", {}, other(it.channel)), " ", el("span", { class: "state" }, state)),
    facts([
      ["Because", it.last_error && other(it.last_error)], ["By", it.by && other(it.by)], ["Since", when(it.since)],
      ["Settled up to", it.sequence && `sequence ${it.sequence}`], ["Attempts", it.attempts && String(it.attempts)], ["Next attempt", next(it)],
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

/** What a channel makes of an entity. */
export function rendering(view) {
  const body = view.rendering;
  return [
    facts([
      ["Would go out now", view.result === "rendering" ? "this rendering" : other(view.result)],
      ["Beside what the target holds", body && beside(view)],
      ["Missing", view.missing.length ? other(view.missing.join(", ")) : null],
      ...view.filters.map((it) => ["Filter", [other(it.plugin), `: ${it.verdict}`]]),
      ["Rendered by", view.plugin && other(view.plugin)], ["Error", view.error && other(view.error)],
      ["Key at the target", body && other(body.key)], ["Type", body && other(body.content_type)],
    ]),
    body && content(view),
  ];
}

function beside(view) {
  if (view.same) return "the same";
  const kept = view.delivered ? "" : "; the body that was delivered last is not kept any more";
  return view.same === false ? `it differs${kept}` : `not known: the result of the last attempt is open, or there was none${kept}`;
}

/** The rendering, with what differs from the one that was delivered last. */
function content({ channel, key, rendering: now, delivered: before, same }) {
  const found = before?.body && now.body && !same ? compare(readable(before.body), readable(now.body)) : null;
  const saved = route(["channels", channel, "preview"], { key, body: "rendering" });
  return found ? difference(found) : shown(now.body ?? now.body_base64 ?? "", now.cut, "rendering", saved);
}

/** JSON is compared in lines. */
function readable(body) {
  try {
    return write(read(body));
  } catch {
    return body;
  }
}
