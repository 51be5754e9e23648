// Numbers, times and durations in words.
import { el } from "./dom.js";
import { live } from "./live.js";

/** A number as this page shows it; `1234567` becomes `1 234 567`. */
export function count(value) {
  const text = String(value ?? 0);
  return text.replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** `1 channel`, `3 channels`. */
export const several = (value, one, many = one + "s") =>
  `${count(value)} ${Number(value) === 1 ? one : many}`;

/** A rate per second, to two digits. */
export function rate(value) {
  if (value == null) return "–";
  const shown = value >= 10 ? Math.round(value) : Math.round(value * 10) / 10;
  return `${count(shown)}/s`;
}

/** A number of seconds. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.floor(whole / 60)} min`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h`;
  return `${Math.floor(whole / 86400)} d`;
}

/** Bytes. */
export const bytes = (value) =>
  value < 10240 ? `${count(value)} B` : value < 10485760 ? `${Math.round(value / 1024)} KiB` : `${Math.round(value / 1048576)} MiB`;

/** Seconds since a time, by the clock of Weir. */
export const age = (time) => (live.now() - Date.parse(time)) / 1000;

let zone = "local";
try {
  zone = localStorage.getItem("weir-zone") ?? "local";
} catch {
  // A browser that keeps nothing.
}

/** The zone of all times on the page: `local` or `UTC`. */
export const zones = {
  get: () => zone,
  set(value) {
    zone = value;
    try {
      localStorage.setItem("weir-zone", value);
    } catch {
      // As above.
    }
  },
};

/** A moment with its zone, `2026-12-01 14:02:03 +01:00`. */
export function moment(time) {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return "–";
  if (zone === "UTC") return date.toISOString().slice(0, 19).replace("T", " ") + " UTC";
  const offset = -date.getTimezoneOffset();
  const shifted = new Date(date.getTime() + offset * 60000).toISOString().slice(0, 19).replace("T", " ");
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  return `${shifted} ${offset < 0 ? "−" : "+"}${two(Math.abs(offset) / 60)}:${two(Math.abs(offset) % 60)}`;
}

/** The same, of the day only. */
export const clock = (time) => moment(time).slice(11);

/** An element with a moment, and how long ago that was. */
export function when(time) {
  if (!time) return null;
  const seconds = age(time);
  return el("time", { datetime: time }, `${moment(time)} (${seconds < -1 ? `in ${duration(-seconds)}` : `${duration(seconds)} ago`})`);
}
