// What is wrong, in sentences, the worst first, each with what helps.
import { button, operate } from "./act.js";
import { link, other } from "./dom.js";
import { redrive } from "./jobs.js";
import { live, owedAge } from "./live.js";
import { age, duration, several, when } from "./words.js";

const n = (row, field) => Number(row[field] ?? 0);

/** The state of a channel: its word, the shape that goes with it, and how grave it is (0: fine). */
export function standing(row) {
  const state = row.state;
  if (state === "tripped" || state === "ahead" || state === "stopped") return { word: state, shape: "■", grave: 3 };
  if (state === "probing") return { word: "probing", shape: "◧", grave: 3 };
  if (n(row, "held") > 0 || row.held_feed) return { word: "held", shape: "◆", grave: 3 };
  if (row.late) return { word: "late", shape: "▲", grave: 2 };
  if (state === "paused") return { word: "paused", shape: "‖", grave: 2 };
  if (state === "retired") return { word: "retired", shape: "○", grave: 0 };
  return { word: state, shape: "●", grave: 0 };
}

/** What a channel owes, in a sentence. */
function owes(row) {
  const total = n(row, "owed.total");
  if (!total) return "It owes nothing.";
  return `It owes up to ${several(total, "entity", "entities")}, the oldest change for ${duration(owedAge(row))}.`;
}

/** How far a sweep is, in a sentence; null if none is running. */
export function sweeping(row) {
  const [left, total] = [n(row, "sweep.left"), n(row, "sweep.total")];
  if (!left || !total) return null;
  const part = Math.max(0, total - left);
  const took = age(row["sweep.began"]);
  const rest = part && took > 1 ? `, about ${duration((took * left) / part)} left` : "";
  return `sweep: ${Math.floor((100 * part) / total)} % of about ${several(total, "entity", "entities")}${rest}`;
}

/** All troubles: `key`, `grave`, `text` (parts), `help` (buttons and links). */
export function troubles() {
  const all = [];
  const add = (key, grave, text, help) => all.push({ key, grave, text, help });
  (live.weir.not_ready ?? []).forEach((why) => add(`ready ${why}`, 4, ["Weir takes no events: ", other(why)]));
  (live.weir.warnings ?? []).forEach((why) => add(`warn ${why}`, 2, [other(why)], () => [link("configuration", {}, "Look at the configuration")]));
  for (const [name, row] of live.channels) channel(name, row, add);
  for (const [name, row] of live.sources) {
    if (row.silent) {
      const since = row.last_event ? ["has sent nothing since ", when(row.last_event)] : ["has sent nothing since Weir started"];
      add(`silent ${name}`, 2, ["Source ", other(name), " ", ...since, `; it counts as silent after ${duration(row.quiet_seconds)}.`], () => [link("source", { name }, "Look at the source")]);
    }
    const kept = n(row, "quarantined");
    if (kept) add(`quarantine ${name} ${kept}`, 1, ["Source ", other(name), ` has ${several(kept, "event")} in quarantine: they were not taken.`], () => [
      link("source", { name }, `Look at ${several(kept, "event")}`),
      button(`Redrive ${several(kept, "event")} of ${name}`, { quiet: true, run: () => redrive(["sources", name, "quarantine"], { all: true }) })]);
  }
  return all.sort((a, b) => b.grave - a.grave);
}

function channel(name, row, add) {
  const { word, grave } = standing(row);
  const look = (what = "Look at the channel") => () => [link("channel", { name }, what)];
  const why = row.reason ? [" (", other(row.reason), ")"] : [];
  if (word === "tripped" || word === "probing" || word === "stopped")
    add(`state ${name} tripped`, grave, ["Channel ", other(name), " delivers nothing, because its target is in trouble", ...why, ". ", owes(row)], look());
  else if (word === "ahead")
    add(`state ${name} ahead`, grave, ["The target of channel ", other(name), " holds newer states than Weir has", ...why, "."], look());
  else if (word === "paused")
    add(`state ${name} paused`, grave, ["Channel ", other(name), " is paused", ...why, ". ", owes(row)],
      () => [button(`Resume ${name}`, { run: operate(name, "resume", `${name} delivers again.`) }), ...look()()]);
  if (word === "held" || n(row, "held"))
    add(`held ${name}`, 3, ["Channel ", other(name), n(row, "held") ? ` holds back ${several(n(row, "held"), "withdrawal")}, because there are more than usual.` : ` holds back a feed of ${several(n(row, "held_feed"), "record")}, because it has shrunk.`], () => [
      ...look(`Look at ${several(n(row, "held"), "withdrawal")}`)(), release(name, row)]);
  if (row.late && grave < 3)
    add(`late ${name}`, 2, ["Channel ", other(name), ` is late: its oldest change has been owed for ${duration(owedAge(row))}, and its objective is ${duration(row.freshness_objective_seconds)}.`], look());
  const refused = n(row, "refused");
  if (refused) {
    const help = () => [
      link("channel", { name }, `Look at ${several(refused, "refused entity", "refused entities")}`),
      button(`Redrive ${several(refused, "refused entity", "refused entities")} of ${name}`, { quiet: true, run: () => redrive(["channels", name, "refused"], { all: true }) })];
    add(`refused ${name} ${refused}`, 1, ["The target of channel ", other(name), ` does not take ${several(refused, "entity", "entities")} as they are.`], help);
  }
}

/** The button that lets go what a guard holds back. */
export function release(name, row) {
  const held = n(row, "held");
  const what = held ? `Release ${several(held, "withdrawal")} of ${name}` : `Publish the smaller feed of ${name}`;
  return button(what, { name, quiet: true, sure: `The target of ${name} will lose them.`, run: operate(name, "confirm", `${name} goes on.`) });
}
