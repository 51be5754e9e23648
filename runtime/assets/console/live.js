// What is live on the page: the state that the stream keeps up to date, and the stream itself.
//
// A browser opens six connections to a host, so the tabs of one browser share a stream: the tab that holds
// a lock reads it and passes each event on. Where there are no locks (http from another machine) a tab reads
// its own, and gives it back as soon as it is hidden.
import { clock, whoAmI } from "./api.js";

const QUIET = 25000;
const HIDDEN = 30000;
const WAIT_MAX = 30000;
const SLOT = 10;
const SLOTS = 360;

/** The state. `link` is `opening`, `open`, `lost`, `full` or `resting`. */
export const live = {
  weir: {}, sources: new Map(), lanes: new Map(), channels: new Map(), jobs: new Map(), history: new Map(), arrivals: new Map(),
  link: "opening", lostAt: null, boot: null, build: null, has: false, now: clock.now,
};

let heard = () => {};
/** Calls this after each event, and when the link changes. */
export const onChange = (then) => (heard = then);

const SECTIONS = ["sources", "lanes", "channels", "jobs"];

function merge(fields, news) {
  for (const [name, value] of Object.entries(news)) {
    if (value === null) fields.delete(name);
    else if (value && typeof value === "object" && !Array.isArray(value)) {
      const row = fields.get(name) ?? {};
      for (const [field, it] of Object.entries(value)) it === null ? delete row[field] : (row[field] = it);
      fields.set(name, row);
    }
  }
}

/** Whether the page was loaded again for this build already: a cache in between may keep an old page. */
function hasTried(build) {
  try {
    const tried = sessionStorage.getItem("weir-build") === build;
    sessionStorage.setItem("weir-build", build);
    return tried;
  } catch {
    return true;
  }
}

function take(name, data) {
  if (name === "bye") return ended();
  if (name !== "beat") {
    if (name === "snapshot") {
      const mine = document.querySelector("meta[name=build]").content;
      if (data.build !== mine && !hasTried(data.build)) return location.reload();
      if (live.boot !== data.boot) [live.history, live.arrivals].forEach((past) => past.clear());
      SECTIONS.forEach((section) => live[section].clear());
      Object.assign(live, { boot: data.boot, build: data.build, has: true });
    }
    clock.offset = Date.parse(data.time) - Date.now();
    live.weir = { ...live.weir, ...data.weir?.weir };
    SECTIONS.forEach((section) => data[section] && merge(live[section], data[section]));
    Object.keys(data.channels ?? {}).forEach((name) => sample(live.history, name, live.channels.get(name), (row) => Number(row.delivered)));
    Object.keys(data.sources ?? {}).forEach((name) => sample(live.arrivals, name, live.sources.get(name), arrived));
  }
  Object.assign(live, { link: "open", lostAt: null });
  heard();
}

const arrived = (row) => ["accepted", "filtered", "quarantined", "repeated"].reduce((sum, result) => sum + Number(row[`events.${result}`] ?? 0), 0);

function sample(history, name, row, counted) {
  if (!row) return history.delete(name);
  const past = history.get(name) ?? { counts: [], ages: [], rates: [], slot: 0 };
  history.set(name, past);
  past.counts.push([live.now(), counted(row)]);
  if (past.counts.length > 32) past.counts.shift();
}

/** How much a count has risen per second over the last ten seconds; null while that is not known. */
function perSecond(counts) {
  if (!counts?.length) return null;
  const from = live.now() - 10000;
  const base = counts.findLast(([time]) => time <= from) ?? counts[0];
  const seconds = Math.min(10, (live.now() - base[0]) / 1000);
  return seconds < 1 ? null : (counts.at(-1)[1] - base[1]) / seconds;
}

/** Deliveries per second of a channel. */
export const deliveryRate = (name) => perSecond(live.history.get(name)?.counts);

/** Events per second of a source. */
export const arrivalRate = (name) => perSecond(live.arrivals.get(name)?.counts);

/** Age of the oldest change that a channel owes, in seconds. */
export function owedAge(row) {
  return row.oldest_owed ? Math.max(0, (live.now() - Date.parse(row.oldest_owed)) / 1000) : 0;
}

/** Keeps a value each ten seconds, for an hour at most. */
export function tick() {
  if (live.link !== "open") return;
  const slot = Math.floor(live.now() / 1000 / SLOT);
  for (const [name, row] of live.channels) {
    const past = live.history.get(name);
    if (!past) continue;
    const add = past.slot === slot ? (list, value) => (list[list.length - 1] = Math.max(list.at(-1), value)) : (list, value) => list.push(value);
    past.slot = slot;
    add(past.ages, owedAge(row));
    add(past.rates, deliveryRate(name) ?? 0);
    for (const list of [past.ages, past.rates]) if (list.length > SLOTS) list.shift();
  }
}

// The stream.

let source, watchdog, retry, tries, giveBack, hiding;
let ended = () => {};
const others = "BroadcastChannel" in window ? new BroadcastChannel("weir") : null;
const locks = navigator.locks;
const post = (kind, name, data) => others?.postMessage({ kind, name, data });

/** Begins to read; calls `over` when the session has ended. */
export function begin(over) {
  ended = () => {
    stop("resting");
    over();
  };
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (!document.hidden) join();
    else hiding = setTimeout(rest, locks ? HIDDEN : 0);
  });
  others?.addEventListener("message", ({ data: { kind, name, data } }) => {
    if (kind === "hello" && source && live.has) post("event", "snapshot", whole());
    else if (kind === "event" && !source && giveBack) {
      awake();
      take(name, data);
    } else if (kind === "lost" && !source && giveBack) lose(data);
  });
  join();
}

/** Stops reading, for example before signing out. */
export function stop(link) {
  giveBack?.();
  giveBack = undefined;
  source?.close();
  source = undefined;
  clearTimeout(watchdog);
  clearTimeout(retry);
  live.link = link;
}

function rest() {
  stop("resting");
  heard();
}

function join() {
  if (giveBack) return;
  tries = 0;
  if (!locks) {
    giveBack = () => {};
    return open();
  }
  const waiting = new AbortController();
  giveBack = () => waiting.abort();
  post("hello");
  const held = () => new Promise((free) => {
    giveBack = free;
    open();
  });
  locks.request("weir-stream", { signal: waiting.signal }, held).catch(() => {});
}

function open() {
  clearTimeout(retry);
  source?.close();
  source = new EventSource("v1/stream");
  for (const name of ["snapshot", "changes", "beat", "bye"])
    source.addEventListener(name, ({ data }) => {
      tries = 0;
      awake();
      const event = JSON.parse(data);
      post("event", name, event);
      take(name, event);
    });
  source.onerror = broken;
  awake();
}

function awake() {
  clearTimeout(watchdog);
  // A connection that is only half open is never reported.
  watchdog = setTimeout(() => (source ? broken() : null), QUIET);
}

/** How long to wait after so many attempts, in milliseconds; spread last, so that pages do not meet at the longest wait. */
export const pause = (tries) => Math.min(1000 * 2 ** tries, WAIT_MAX) * (0.75 + Math.random() / 2);

async function broken() {
  source?.close();
  clearTimeout(watchdog);
  clearTimeout(retry);
  const at = live.lostAt ?? live.now();
  retry = setTimeout(open, pause(tries++));
  let full = false;
  // Weir may not even refuse a connection, and then the question below is open for a while.
  if (live.link !== "full") lose({ at, full });
  try {
    const who = await whoAmI();
    if (who.needed && !who.role) return ended();
    full = tries > 2;
  } catch {
    // That is what the banner says.
  }
  lose({ at, full });
  post("lost", "", { at, full });
}

function lose({ at, full }) {
  Object.assign(live, { link: full ? "full" : "lost", lostAt: at });
  heard();
}

function whole() {
  const section = (name) => [name, Object.fromEntries(live[name])];
  const { boot, build } = live;
  const time = new Date(live.now()).toISOString();
  return { boot, build, time, weir: { weir: live.weir }, ...Object.fromEntries(SECTIONS.map(section)) };
}
