// One network: its nodes, its tokens, its settings.

import { badge, facts, h, replace, table } from "./dom.js";
import { get, list, send } from "./api.js";
import { ask, confirm, copyable, field, tell, toast } from "./dialogs.js";
import { follow } from "./live.js";
import { go, show } from "./router.js";
import { ago, counted, instant } from "./text.js";
import { qr } from "./qr.js";

const TABS = [["", "Nodes"], ["/mesh", "Mesh"], ["/tokens", "Tokens"], ["/settings", "Settings"]];

/** The head that all pages of a network share. */
export function head(network, tab, ...actions) {
  const base = `/networks/${encodeURIComponent(network.name)}`;
  return [
    h("div", { class: "crumbs" }, h("a", { href: "/" }, "Networks")),
    h("div", { class: "head" }, h("h1", null, network.name), h("div", { class: "actions" }, actions)),
    h("nav", { "aria-label": `Pages of ${network.name}` }, h("ul", null, TABS.map(([path, text]) =>
      h("li", null, h("a", { href: base + path, "aria-current": path === tab ? "page" : null }, text))))),
    h("p"),
  ];
}

/** How a node is doing, in a word. */
export function stateOf(node) {
  if (node.online) return badge("online", "good");
  return badge(node.last_seen_at ? `seen ${ago(node.last_seen_at)}` : "never seen");
}

function matches(node, text) {
  const wanted = text.toLowerCase();
  return [node.name, ...node.addresses, ...(node.endpoints ?? [])].some((value) => String(value).toLowerCase().includes(wanted));
}

export async function nodesPage({ network: name }, signal) {
  const network = await get("networks", name);
  const body = h("div");
  const search = h("input", { type: "search", class: "search", placeholder: "Search by name or address", "aria-label": "Search nodes", oninput: () => draw() });
  let nodes = [];

  function draw() {
    const found = nodes.filter((node) => !search.value || matches(node, search.value));
    if (!nodes.length) {
      replace(body, h("div", { class: "card empty" }, h("h2", null, "No node yet"),
        h("p", null, "Create a token and run the line that comes with it on a host: it is a node some seconds later, and appears here by itself."),
        h("button", { class: "primary", onclick: () => createToken(network) }, "Add a node")));
      return;
    }
    const rows = found.map((node) => [
      h("a", { href: `/networks/${encodeURIComponent(name)}/nodes/${encodeURIComponent(node.name)}` }, node.name),
      stateOf(node),
      h("span", { class: "mono" }, node.addresses.map((address) => h("div", null, address))),
      h("span", { class: "mono" }, node.endpoints?.[0] ?? ""),
      h("span", { title: instant(node.joined_at) }, ago(node.joined_at)),
    ]);
    replace(body, h("div", { class: "card" },
      table(`Nodes of ${name}`, [["Name"], ["State"], ["Addresses"], ["Endpoint"], ["Joined"]], rows),
      found.length ? null : h("p", { class: "empty" }, `No node matches “${search.value}”.`)));
  }

  async function refresh() {
    nodes = await list("nodes", ["networks", name, "nodes"]);
    draw();
  }

  await refresh();
  follow(name, refresh, signal);
  return h("div", null, head(network, "", search, h("button", { class: "primary", onclick: () => createToken(network) }, "Add a node")), body);
}

const EXPIRY = [["3600", "an hour"], ["86400", "a day"], ["604800", "a week"], ["2592000", "30 days"]];

/** Ask for a token's terms, then show it, once. */
async function createToken(network) {
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

export async function settingsPage({ network: name }) {
  const network = await get("networks", name);
  const remove = () => confirm(`Delete ${name}?`, {
    text: `Its ${counted(network.nodes, "node")} will forget it and each other. This cannot be undone.`, action: "Delete the network", typed: name,
    submit: async () => { await send("DELETE", ["networks", name]); toast(`${name} is deleted.`); go("/"); },
  });
  return h("div", null, head(network, "/settings"),
    h("div", { class: "card" }, h("h2", null, "Settings"), facts([
      ["Ranges", network.ranges.map((range) => h("div", { class: "mono" }, range))], ["MTU", String(network.mtu)],
      ["Keepalive", network.keepalive ? `${network.keepalive} s` : "never"], ["Nodes", String(network.nodes)], ["Revision", String(network.revision)],
      ["URLs for nodes", network.urls.map((url) => h("div", { class: "mono" }, url))],
    ])),
    h("div", { class: "card" }, h("h2", null, "Delete"), h("p", null, "Every node forgets this network and its tunnels end."),
      h("button", { class: "danger", onclick: remove }, "Delete this network")));
}
