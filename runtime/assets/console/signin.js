// Signing in with a token; the browser keeps a session in a cookie, and never the token.
import { ask, Problem } from "./api.js";
import { el } from "./dom.js";

export function signIn({ root, done }) {
  const token = el("input", { id: "token", name: "token", type: "password", autocomplete: "current-password", required: true, "aria-describedby": "why" });
  const why = el("p", { id: "why", role: "alert" });
  const form = el("form", { class: "sign-in", onsubmit: async (event) => {
    event.preventDefault();
    try {
      await ask("POST", ["session"], {}, { form: { token: token.value } });
      done();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      why.textContent = error.status === 401 ? "No token of the configuration is like this." : error.message;
      token.select();
    }
  } }, el("h1", {}, "Sign in"), el("label", { for: "token" }, "Token"), token, why, el("button", {}, "Sign in"),
    el("p", { class: "note" }, "The tokens are those under [tokens] in the configuration."));
  root.append(form);
  token.focus();
}
