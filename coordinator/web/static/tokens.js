// Tokens: what lets a host join with one line.

import { badge, h, table } from "./dom.js";
import { get, list, send } from "./api.js";
import { ask, confirm, copyable, field, tell, toast } from "./dialogs.js";
import { head } from "./network.js";
import { show } from "./router.js";
import { ago, instant } from "./text.js";
import { qr } from "./qr.js";

const EXPIRY = [["3600", "an hour"], ["86400", "a day"], ["604800", "a week"], ["2592000", "30 days"]];

/** Ask for a token's terms, then show it, once. */
export async function createToken(network) {
  const made = await ask("Add nodes", {
    intro: h("p", { class: "quiet" }, "A token lets a host join. It is shown once."),
    action: "Create the token",
    fields: [
      field({ name: "uses", label: "For how many hosts", kind: "number", value: 1, min: 0, hint: "0 for any number." }),
      field({ name: "expires_in", label: "Good for", kind: "select", options: EXPIRY, value: "86400" }),
    ],
    submit: ({ expires_in, uses }) => send("POST", ["networks", network.name, "tokens"], { body: { uses: uses ?? 1, expires_in: Number(expires_in) } }),
  });
  if (!made) return;
  const line = `wgpy up ${made.token}`;
  await tell("The token", h("p", null, "Run this on the host, as root. The token is not shown again."),
    copyable(line, "the command"), await qr(line), h("p", { class: "quiet" }, `Good until ${instant(made.expires_at)}.`));
  if (location.pathname.endsWith("/tokens")) show();
}

const TOKEN_STATES = { usable: "good", used: "", expired: "", revoked: "bad" };

export async function tokensPage({ network: name }) {
  const network = await get("networks", name);
  const tokens = await list("tokens", ["networks", name, "tokens"]);
  const rows = tokens.map((token) => [
    h("code", null, token.id),
    badge(token.state, TOKEN_STATES[token.state] ?? "good"),
    token.uses_allowed ? `${token.uses} of ${token.uses_allowed}` : `${token.uses}, no limit`,
    token.expires_at ? h("span", { title: instant(token.expires_at) }, ago(token.expires_at)) : "never",
    token.revoked_at ? "" : h("button", { class: "danger", onclick: async () => {
      const done = await confirm("Revoke this token?", { text: "No further host can join by it. Nodes that did stay.", action: "Revoke",
        submit: () => send("DELETE", ["networks", name, "tokens", token.id]) });
      if (done) { toast(`Token ${token.id} is revoked.`); show(); }
    } }, "Revoke"),
  ]);
  return h("div", null, head(network, "/tokens", h("button", { class: "primary", onclick: () => createToken(network) }, "New token")),
    rows.length
      ? h("div", { class: "card" }, table(`Tokens of ${name}`, [["Id"], ["State"], ["Uses"], ["Expires"], ["", "end"]], rows))
      : h("div", { class: "card empty" }, h("h2", null, "No token yet"), h("p", null, "A token lets a host join with one line."),
          h("button", { class: "primary", onclick: () => createToken(network) }, "Create a token")));
}
