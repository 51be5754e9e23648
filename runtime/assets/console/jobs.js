// Jobs: beginning a redrive, how far jobs are, and cancelling them.
import { button } from "./act.js";
import { ask } from "./api.js";
import { el, keyed, say } from "./dom.js";
import { live } from "./live.js";
import { count } from "./words.js";

/** How often a redrive is asked for its end before the page leaves it to itself. */
const LOOKS = 30;
const LOOK_MS = 500;

/** What a redrive has come to, in a sentence. */
function result({ state, error }, redriven, failed) {
  const came = `${count(redriven)} redriven${Number(failed) ? `; ${count(failed)} failed again and stay` : ""}`;
  if (state === "done") return `${came}.`;
  if (state === "failed") return `${came}. The redrive has ended early: ${error}`;
  return state === "cancelled" ? `${came}. The redrive was cancelled.` : `${came} so far. The redrive goes on.`;
}

/** Redrives what is at this route and passes the filter, as a job. Returns what to say. */
export async function redrive(segments, filter) {
  let job = await ask("POST", [...segments, "redrive"], { ...filter, job: true });
  for (let looks = 0; job.state === "running" && looks < LOOKS; looks++) {
    await new Promise((then) => setTimeout(then, LOOK_MS));
    job = await ask("GET", ["jobs", job.id]);
  }
  return result(job, job.redrive.redriven, job.redrive.failed);
}

/** A list of the jobs that run and belong here; `update` brings it up to date. */
export function jobs(belongs) {
  const list = el("ul", { class: "list" });
  const update = () =>
    keyed(list, [...live.jobs.values()].filter((job) => job.state === "running" && belongs(job)), (job) => job.id, make, (node, job) => say(node.firstChild, progress(job)));
  return { node: list, update };
}

function progress(job) {
  const far = `${count(job.done)} of ${job.kind === "drift" ? "about " : ""}${count(job.total)}`;
  return job.kind === "drift" ? `Drift check: ${far} compared.` : `Redrive: ${far} tried again, ${count(job["redrive.failed"])} failed again.`;
}

function make(job) {
  const what = job.kind === "drift" ? "drift check" : "redrive";
  return el("li", {}, el("span"), " ", button(`Cancel the ${what}`, { quiet: true, run: async () => {
    await ask("DELETE", ["jobs", job.id]);
    return `The ${what} is cancelled.`;
  } }));
}
