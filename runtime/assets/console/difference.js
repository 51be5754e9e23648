// What differs between two texts, line by line.
import { el } from "./dom.js";
import { lines } from "./plain.js";

const LINES_MAX = 1000;

/** The lines of both: each with `-` (only before), `+` (only now) or a space; null if they are too many to compare. */
export function compare(before, now) {
  const [a, b] = [before.split("\n"), now.split("\n")];
  if (a.length > LINES_MAX || b.length > LINES_MAX) return null;
  // The longest common subsequence: `common[i][j]` is its length for what follows line i of a and j of b.
  const common = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
  const found = [];
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      found.push([" ", a[i++]]);
      j++;
    } else if (j === b.length || (i < a.length && common[i + 1][j] >= common[i][j + 1])) found.push(["-", a[i++]]);
    else found.push(["+", b[j++]]);
  }
  return found;
}

const MARKS = { "-": ["del", "only in what was delivered: "], "+": ["ins", "only in what would go out: "], " ": ["span", ""] };

/** Shows them; the marks are letters too, for those who see no colours. */
export function difference(found) {
  const line = ([mark, text]) => {
    const [name, words] = MARKS[mark];
    return el(name, {}, words && el("span", { class: "unseen" }, words), `${mark} `, el("bdi", { class: "other" }, lines(text)), "\n");
  };
  return el("pre", { tabindex: "0", "aria-label": "difference" }, found.map(line));
}
