// Texts that others wrote: characters that a browser obeys, or shows as nothing, are written out.

const OBEYED = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
const LINES = /[\n\t]/g;
const written = (character) => "\\u" + character.charCodeAt(0).toString(16).padStart(4, "0");

/** The text as one line. */
export const plain = (text) =>
  lines(text).replace(LINES, (it) => (it === "\n" ? "\\n" : "\\t"));

/** The text as lines: line breaks and tabs stay. */
export const lines = (text) => String(text).replace(OBEYED, written);
