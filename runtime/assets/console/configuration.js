// The configuration in use, and the last attempt to load it again.
import { button } from "./act.js";
import { ask } from "./api.js";
import { el, facts, other } from "./dom.js";
import { write } from "./json.js";
import { loaded, value } from "./parts.js";
import { when } from "./words.js";

export function configuration({ root, signal, again }) {
  const body = el("div");
  const reload = button("Reload the configuration", { needs: "admin", run: async () => {
    try {
      await ask("POST", ["reload"]);
      return "The configuration is in use.";
    } finally {
      again();
    }
  } });
  root.append(el("h1", {}, "Configuration"), el("p", { class: "actions" }, reload), body);
  loaded(body, signal, () => ask("GET", ["config"], {}, { signal }), (view) => [
    facts([["Files", view.files.map((file) => [other(file), " "]).flat()], ["Store", other(view.store)], ["In use since", when(view.since)]]),
    view.last_reload && attempt(view.last_reload),
    el("h2", {}, "Values"), el("p", { class: "note" }, "Names are resolved, rows expanded, and secrets left out."),
    value(write(view.config), "configuration.json"),
  ]);
  return {};
}

function attempt(it) {
  const complaint = (one) => el("li", {}, other(`${one.file}:${one.line}:${one.column}`), ": ", other(one.what), one.help ? [" ", other(one.help)] : null);
  return el("section", { class: it.success ? "" : "grave-3" }, el("h2", {}, "Last reload"),
    facts([["Result", it.success ? "● in use" : it.partly_applied ? "■ in use in part" : "■ refused: the previous configuration stays in use"], ["When", when(it.time)]]),
    el("ul", { class: "list" }, it.complaints.map(complaint), it.changes.map((change) => el("li", {}, other(change)))));
}
