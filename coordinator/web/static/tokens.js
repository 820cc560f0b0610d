// Tokens: what lets a host join with one line.

import { badge, h, table } from "./dom.js";
import { get, list, send } from "./api.js";
import { ask, confirm, copyable, field, tell, toast } from "./dialogs.js";
import { head } from "./network.js";
import { show } from "./router.js";
import { may } from "./session.js";
import { splitTags, tagList } from "./tags.js";
import { ago, instant, lasting } from "./text.js";
import { qr } from "./qr.js";

const EXPIRY = [["3600", "an hour"], ["86400", "a day"], ["604800", "a week"], ["2592000", "30 days"], ["31536000", "a year"]];
const EPHEMERAL = [["", "it stays"], ["300", "5 minutes"], ["3600", "an hour"], ["86400", "a day"], ["604800", "a week"]];
const APPROVAL = [["", "as the network says"], ["yes", "yes"], ["no", "no"]];

/** Ask for a token's terms, then show it, once. */
export async function createToken(network) {
  const made = await ask("Add nodes", {
    intro: h("p", { class: "quiet" }, "A token lets a host join. It is shown once."),
    action: "Create the token",
    fields: [
      field({ name: "uses", label: "For how many hosts", kind: "number", value: 1, min: 0, hint: "0 for any number." }),
      field({ name: "expires_in", label: "Good for", kind: "select", options: EXPIRY, value: "86400" }),
      field({ name: "tags", label: "Tags of its nodes", autocapitalize: "off", spellcheck: "false", hint: "Words between spaces, such as servers berlin." }),
      h("details", null, h("summary", null, "More"),
        field({ name: "node_name", label: "Name of the node", autocapitalize: "off", spellcheck: "false", hint: "For one host. Left empty, its host name." }),
        field({ name: "ephemeral_after", label: "Remove its nodes when they are offline for", kind: "select", options: EPHEMERAL }),
        field({ name: "approval", label: "Its nodes wait for approval", kind: "select", options: APPROVAL })),
    ],
    submit: ({ expires_in, uses, tags, node_name, ephemeral_after, approval }) => send("POST", ["networks", network.name, "tokens"], { body: {
      uses: uses ?? 1, expires_in: Number(expires_in), tags: splitTags(tags), ...(node_name ? { node_name } : {}),
      ...(ephemeral_after ? { ephemeral_after: Number(ephemeral_after) } : {}), ...(approval ? { approval: approval === "yes" } : {}),
    } }),
  });
  if (!made) return;
  const line = `wgpy up ${made.token}`;
  await tell("The token", h("p", null, "Run this on the host, as root. The token is not shown again."),
    copyable(line, "the command"), await qr(line), h("p", { class: "quiet" }, `Good until ${instant(made.expires_at)}.`));
  if (location.pathname.endsWith("/tokens")) show();
}

const TOKEN_STATES = { usable: "good", used: "", expired: "", revoked: "bad" };

/** What is special about a token's nodes, in words. */
function terms(token) {
  return [
    token.node_name ? `called ${token.node_name}` : null,
    token.node_addresses?.length ? token.node_addresses.join(", ") : null,
    token.ephemeral_after ? `removed after ${lasting(token.ephemeral_after)} offline` : null,
    token.approval === true ? "wait for approval" : token.approval === false ? "need no approval" : null,
  ].filter(Boolean).join("; ");
}

export async function tokensPage({ network: name }) {
  const [network, tokens] = await Promise.all([get("networks", name), list("tokens", ["networks", name, "tokens"])]);
  const isEnroller = await may("enrol", network);
  const create = (text) => (isEnroller ? h("button", { class: "primary", onclick: () => createToken(network) }, text) : null);
  const rows = tokens.map((token) => [
    h("code", null, token.id),
    badge(token.state, TOKEN_STATES[token.state] ?? "good"),
    token.uses_allowed ? `${token.uses} of ${token.uses_allowed}` : `${token.uses}, no limit`,
    token.expires_at ? h("span", { title: instant(token.expires_at) }, ago(token.expires_at)) : "never",
    [tagList(token.tags), " ", terms(token)],
    token.state !== "usable" || !isEnroller ? "" : h("button", { class: "danger", onclick: async () => {
      const done = await confirm("Revoke this token?", { text: "No further host can join by it. Nodes that did stay.", action: "Revoke",
        submit: () => send("DELETE", ["networks", name, "tokens", token.id]) });
      if (done) { toast(`Token ${token.id} is revoked.`); show(); }
    } }, "Revoke"),
  ]);
  return h("div", null, head(network, "/tokens", create("New token")),
    rows.length
      ? h("div", { class: "card" }, table(`Tokens of ${name}`, [["Id"], ["State"], ["Uses", "short"], ["Expires", "short"], ["Its nodes"], ["", "end"]], rows))
      : h("div", { class: "card empty" }, h("h2", null, "No token yet"), h("p", null, "A token lets a host join with one line."), create("Create a token")));
}
