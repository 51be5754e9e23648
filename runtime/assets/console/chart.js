// Small charts: a path in SVG, and a sentence for who does not see it.
import { set, svg } from "./dom.js";
import { duration } from "./words.js";

const WIDTH = 240;
const HEIGHT = 32;

/** A chart that `draw` fills. */
export const chart = (width = WIDTH, height = HEIGHT) =>
  svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img" },
    svg("path", { class: "area" }), svg("path", { class: "limit" }));

/**
 * Draws values from old to new, at most `slots`; the newest is at the right. `limit` is a line, and what is
 * above it is late.
 */
export function draw(node, values, slots, limit, label, width = WIDTH, height = HEIGHT) {
  const top = Math.max(limit ? limit * 1.6 : 0, ...values, 1e-9);
  const step = width / slots;
  const y = (value) => (height - (Math.min(value, top) / top) * (height - 2)).toFixed(1);
  let path = "";
  values.forEach((value, index) => {
    const x = width - (values.length - index) * step;
    path += `M${x.toFixed(1)} ${height}V${y(value)}h${Math.max(step - 0.5, 0.5).toFixed(2)}V${height}z`;
  });
  set(node.firstChild, "d", path || "M0 0");
  set(node.lastChild, "d", limit ? `M0 ${y(limit)}H${width}` : "M0 0");
  set(node, "class", limit && values.at(-1) > limit ? "chart late" : "chart");
  set(node, "aria-label", label);
}

/** What the freshness chart of a channel says. */
export function freshnessLabel(values, objective) {
  if (!values.length) return "Nothing is known yet.";
  const worst = duration(Math.max(...values));
  const aim = objective ? `, objective ${duration(objective)}` : "";
  return `Age of the oldest change owed: now ${duration(values.at(-1))}, at most ${worst}${aim}.`;
}
