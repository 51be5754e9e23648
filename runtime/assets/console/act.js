// Buttons that change something: what they do is on them, and what may do harm asks first.
import { ask, may, Problem } from "./api.js";
import { el, other, say } from "./dom.js";

/** Says something to who listens, and shows it for a while. */
export function tell(text) {
  say(document.getElementById("status"), text);
  const note = document.getElementById("note") ?? document.body.appendChild(el("p", { id: "note" }));
  say(note, text);
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => note.remove(), 12000);
}

/**
 * A button. `needs` is a role, `sure` a sentence that is confirmed first, `name` what must be typed for that,
 * `run` does it and returns what to say. Nothing if who is signed in may not.
 */
export function button(label, { needs = "operate", sure, name, run, quiet = false }) {
  if (!may(needs)) return null;
  const node = el("button", { type: "button", class: quiet ? "quiet" : "", onclick: pressed }, label);
  async function pressed() {
    if (node.getAttribute("aria-disabled")) return;
    if (sure && !(await confirmed(label, sure, name))) return;
    // Not `disabled`, which would take the focus away.
    node.setAttribute("aria-disabled", "true");
    try {
      tell(await run());
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      tell(`Not done: ${error.message}`);
    } finally {
      node.removeAttribute("aria-disabled");
    }
  }
  return node;
}

function confirmed(label, sure, name) {
  return new Promise((answer) => {
    const input = name && el("input", { id: "typed", autocomplete: "off", spellcheck: "false" });
    const go = el("button", { type: "submit", class: "grave" }, label);
    const dialog = el("dialog", { "aria-labelledby": "sure" },
      el("form", { method: "dialog", onsubmit: check },
        el("h2", { id: "sure" }, `${label}?`), el("p", {}, sure),
        input && el("label", { for: "typed" }, "Type ", other(name), " to confirm"), input,
        el("div", { class: "actions" }, go, el("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Cancel"))));
    let yes = false;
    function check(event) {
      yes = !name || input.value === name;
      if (!yes) {
        event.preventDefault();
        input.setCustomValidity("This is not its name.");
        input.reportValidity();
        input.setCustomValidity("");
      }
    }
    dialog.addEventListener("close", () => {
      dialog.remove();
      answer(yes);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Operations on a channel, as `POST /v1/channels/{name}/{verb}`. */
export const operate = (channel, verb, done) => async () => {
  await ask("POST", ["channels", channel, verb]);
  return done;
};
