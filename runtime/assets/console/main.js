// The page: its bar, its views, and what is in its address.
import { ask, Problem, session, whoAmI } from "./api.js";
import { channel } from "./channel.js";
import { configuration } from "./configuration.js";
import { el, link, other, say, set } from "./dom.js";
import { entity } from "./entity.js";
import { begin, live, onChange, stop, tick } from "./live.js";
import { overview } from "./overview.js";
import { plugins } from "./plugins.js";
import { signIn } from "./signin.js";
import { source } from "./source.js";
import { troubles } from "./trouble.js";
import { clock, zones } from "./words.js";

const VIEWS = { overview, channel, entity, source, plugins, configuration };
const main = document.getElementById("main");
let shown, aborted, paused = false, begun = false;

const parameters = () => new URLSearchParams(location.search);

/** Goes to a view; everything that it shows is in the address, so that a reload and a link keep it. */
function go(query, quietly = false) {
  const filled = Object.entries(query).filter(([, value]) => value !== "" && value != null);
  const search = "?" + new URLSearchParams(filled);
  if (quietly) return history.replaceState(null, "", search);
  history.pushState(null, "", search);
  show(true);
  scrollTo(0, 0);
}

function show(moved) {
  moved ||= main.contains(document.activeElement) && document.activeElement !== main;
  shown?.close?.();
  aborted?.abort();
  aborted = new AbortController();
  main.replaceChildren();
  const query = parameters();
  const name = query.get("view") ?? "overview";
  const view = VIEWS[name] ?? overview;
  shown = view({ root: main, parameters: query, go, signal: aborted.signal, again: () => show(false) });
  if (live.has) shown.update?.();
  const title = [query.get("key") ?? query.get("name"), name].filter(Boolean).join(" · ");
  document.title = `${title} · Weir`;
  for (const it of document.querySelectorAll("#top nav a")) {
    const own = new URLSearchParams(it.search).get("view") === name;
    set(it, "aria-current", own ? "page" : null);
  }
  if (moved) {
    main.focus({ preventScroll: true });
  }
}

function bar() {
  const type = el("select", { id: "type", name: "type", "aria-label": "Type of the entity" });
  const key = el("input", { id: "key", name: "key", type: "search", required: true, placeholder: "Key of an entity", "aria-label": "Key of an entity", autocomplete: "off", spellcheck: "false" });
  const find = el("form", { class: "find", role: "search", onsubmit: (event) => {
    event.preventDefault();
    go({ view: "entity", type: type.value, key: key.value });
  } }, type, key, el("button", {}, "Find"));
  const nav = el("nav", { "aria-label": "Views" }, link("overview", {}, "Overview"), link("plugins", {}, "Plugins"), link("configuration", {}, "Configuration"));
  const who = session.name && el("span", { class: "who" }, other(session.name), ` (${session.role}) `, el("button", { type: "button", class: "quiet", onclick: leave }, "Sign out"));
  document.getElementById("top").replaceChildren(...[el("strong", { class: "brand" }, "Weir"), nav, find, who].filter(Boolean));
  document.getElementById("foot").replaceChildren(
    choice("Theme", ["auto", "light", "dark"], stored("weir-theme", "auto"), theme),
    choice("Times", ["local", "UTC"], zones.get(), (zone) => {
      zones.set(zone);
      show(false);
    }),
    el("button", { type: "button", class: "quiet", "aria-pressed": "false", onclick: ({ currentTarget }) => {
      paused = !paused;
      set(currentTarget, "aria-pressed", String(paused));
      banner();
      if (!paused) refresh();
    } }, "Pause updates"),
    el("span", {}, document.querySelector("meta[name=build]").content));
}

function stored(name, otherwise) {
  try {
    return localStorage.getItem(name) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function choice(label, values, value, then) {
  const select = el("select", { onchange: () => then(select.value) }, values.map((it) => el("option", { selected: it === value }, it)));
  return el("label", {}, `${label} `, select);
}

function theme(value) {
  document.documentElement.dataset.theme = value;
  try {
    localStorage.setItem("weir-theme", value);
  } catch {
    // A browser that keeps nothing.
  }
}

let said = "";
/** Says what is wrong with the page itself; the listener hears only changes. */
function banner() {
  document.documentElement.dataset.link = live.link;
  const node = document.getElementById("banner");
  const since = live.lostAt ? clock(live.lostAt) : "";
  const text = live.link === "lost" ? `Weir does not answer since ${since}. What is shown is from then; the page goes on by itself.`
    : live.link === "full" ? "Weir answers, but has no room for another stream. What is shown may be old; the page tries again by itself."
    : paused ? "Updates are paused." : "";
  say(node, text);
  node.hidden = !text;
  if (text !== said) say(document.getElementById("status"), text || (said ? "Up to date again." : ""));
  said = text;
}

function types() {
  const all = [...new Set([...live.channels.values()].map((row) => row.entity).filter(Boolean))].sort();
  const select = document.getElementById("type");
  if (!select || select.options.length === all.length) return;
  const wanted = parameters().get("type");
  select.replaceChildren(...all.map((type) => el("option", { selected: type === wanted }, type)));
  select.hidden = all.length < 2;
}

let grave = null, saidAt = 0;
/** Says to who listens that something has gone wrong, or is well again; once in ten seconds at most. */
function announce() {
  const all = troubles().filter((it) => it.grave >= 2);
  const now = all.map((it) => it.key).join();
  if (now === grave || Date.now() - saidAt < 10000) return;
  if (grave !== null) {
    const first = all.length ? el("p", {}, all[0].text).textContent : "Nothing is wrong any more.";
    say(document.getElementById("status"), all.length > 1 ? `${all.length} things are wrong. ${first}` : first);
    saidAt = Date.now();
  }
  grave = now;
}

function refresh() {
  banner();
  if (paused || document.hidden || !live.has) return;
  announce();
  types();
  shown?.update?.();
}

async function leave() {
  stop("resting");
  await ask("DELETE", ["session"]).catch(() => {});
  location.reload();
}

function needSignIn() {
  begun = false;
  stop("resting");
  shown?.close?.();
  shown = undefined;
  document.getElementById("top").replaceChildren(el("strong", { class: "brand" }, "Weir"));
  main.replaceChildren();
  signIn({ root: main, done: () => location.reload() });
}

async function start() {
  let who;
  try {
    who = await whoAmI();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    live.link = "lost";
    live.lostAt ??= live.now();
    banner();
    return setTimeout(start, 2000 + Math.random() * 1000);
  }
  live.lostAt = null;
  if (who.needed && !who.role) return needSignIn();
  bar();
  show(false);
  if (begun) return;
  begun = true;
  session.ended = needSignIn;
  begin(needSignIn);
}

theme(stored("weir-theme", "auto"));
document.addEventListener("click", (event) => {
  const anchor = event.target.closest?.("a[href^='?']");
  if (!anchor || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  history.pushState(null, "", anchor.href);
  show(true);
  scrollTo(0, 0);
});
addEventListener("popstate", () => show(false));
let due;
onChange(() => {
  // At most once a frame, however many events come.
  due ??= requestAnimationFrame(() => {
    due = undefined;
    refresh();
  });
});
setInterval(() => {
  tick();
  refresh();
}, 1000);
start();
