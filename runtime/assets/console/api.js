// Requests to this Weir, and its problems.
import { read } from "./json.js";

/** An answer that says what is wrong (RFC 9457), or that there was none. */
export class Problem extends Error {
  constructor(status, code, detail, complaints = []) {
    super(detail);
    Object.assign(this, { status, code, complaints });
  }
}

/** What to do when the session has ended. */
export const session = { role: null, name: null, needed: false, ended: () => {} };

const RANKS = ["read", "operate", "plugins", "admin"];

/** Whether who is signed in may do what needs this role. */
export const may = (role) => RANKS.indexOf(session.role) >= RANKS.indexOf(role);

/** The clock of Weir, which may differ from that of this machine. */
export const clock = { offset: 0, now: () => Date.now() + clock.offset };

/** Takes over the time of an answer, which is in whole seconds; the stream says it better. */
function seen(time) {
  if (Math.abs(time - clock.now()) > 2000) clock.offset = time - Date.now();
}

const BYTES_MAX = 8 << 20;

/** The address of a route; segments of its path are texts, its query an object. */
export function route(segments, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value != null && value !== "");
  return "v1/" + segments.map(encodeURIComponent).join("/") + (given.length ? "?" + new URLSearchParams(given) : "");
}

/** Asks a route; an answer that takes longer than `patience` milliseconds is none. */
export async function ask(method, segments, query = {}, { form, body: sent, headers, signal, patience } = {}) {
  const ends = [signal, patience && AbortSignal.timeout(patience)].filter(Boolean);
  let answer, text;
  try {
    answer = await fetch(route(segments, query), {
      method, headers, signal: ends.length ? AbortSignal.any(ends) : undefined, cache: "no-store", credentials: "same-origin",
      body: form ? new URLSearchParams(form) : sent,
    });
    text = await limited(answer);
    seen(Date.parse(answer.headers.get("date")));
  } catch (error) {
    if (signal?.aborted || error instanceof Problem) throw error;
    throw new Problem(0, "no-answer", "Weir does not answer.");
  }
  let body;
  try {
    body = read(text);
  } catch {
    // A proxy in front may answer in its own words.
    throw new Problem(answer.status, "not-json", `The answer has the status ${answer.status} and is not from Weir.`);
  }
  if (answer.ok) return body;
  const code = String(body.type ?? "").replace("urn:weir:problem:", "");
  if (answer.status === 401 && segments[0] !== "session") session.ended();
  throw new Problem(answer.status, code, String(body.detail ?? text), body.complaints ?? []);
}

async function limited(answer) {
  const length = Number(answer.headers.get("content-length"));
  if (length > BYTES_MAX) {
    await answer.body?.cancel();
    const tool = "it is too long for a page; `weir show` has it";
    throw new Problem(answer.status, "too-long", `The answer has ${length} bytes: ${tool}.`);
  }
  return answer.text();
}

/** Who is signed in; throws if Weir does not answer. */
export async function whoAmI() {
  const view = await ask("GET", ["session"], {}, { patience: 10000 });
  Object.assign(session, { needed: view.needs_token, role: view.role ?? null, name: view.name ?? null });
  return session;
}
