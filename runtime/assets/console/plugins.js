// The plugins in use.
import { button } from "./act.js";
import { ask } from "./api.js";
import { el, facts, other } from "./dom.js";
import { loaded } from "./parts.js";
import { bytes, count, when } from "./words.js";

export function plugins({ root, signal, again }) {
  const body = el("div");
  root.append(el("h1", {}, "Plugins"), body);
  loaded(body, signal, () => ask("GET", ["plugins"], { limit: 1000 }, { signal }), ({ items }) =>
    items.length ? el("ul", { class: "list" }, items.map((it) => plugin(it, again))) : el("p", {}, "None: sources take changes as they are, and channels deliver facets as JSON."));
  return {};
}

const PRIORITIES = {
  quick: "usual", new: "usual: no call has returned yet", heavy: "lower: a call took more than 50 ms", hanging: "lowest: a call broke its time limit",
};

/** How long calls took, by the upper bounds of what is counted. A call is a batch. */
function cost(calls) {
  if (!Number(calls?.count)) return "no call yet";
  const most = (ms) => (ms == null ? "more than 2 s" : `at most ${ms} ms`);
  return `p50 ${most(calls.p50_ms)} · p99 ${most(calls.p99_ms)} (n = ${count(calls.count)})`;
}

function plugin(it, again) {
  const swap = (swapped) => swapped && [other(swapped.tried), swapped.detail ? [": ", other(swapped.detail)] : "", ", ", when(swapped.time)].flat();
  const refused = it.last_refused;
  return el("li", { class: refused ? "grave-2" : "" }, el("strong", {}, other(it.name)),
    facts([
      ["Digest", other(it.sha256.slice(0, 12))], ["In use since", when(it.since)], ["Roles", it.roles.join(", ")], ["Used by", it.used_by.length ? other(it.used_by.join(", ")) : "nothing"],
      ["Cost of a call", cost(it.calls)], ["Failed calls", it.calls && count(it.calls.faults)], ["Priority", PRIORITIES[it.standing] ?? it.standing], ["Differing calls", Number(it.differing) ? `${it.differing}: it remembers earlier calls` : null], ["Size", bytes(Number(it.size_bytes))],
      ["Limits", `${it.limits.time_seconds} s, ${bytes(Number(it.limits.memory_bytes))} of memory, ${bytes(Number(it.limits.output_bytes))} of output a batch`],
      ["Tried at the last swap", swap(it.last_swap)], ["▲ Last refusal", swap(refused)],
    ]),
    refused && button(`Let ${refused.sha256.slice(0, 12)} of ${it.name} take over`, { needs: "plugins", quiet: true, sure: "It maps fewer events than the version in use.", run: async () => {
      await ask("POST", ["plugins", it.name, "confirm"]);
      again();
      return `${it.name} has its new version.`;
    } }));
}
