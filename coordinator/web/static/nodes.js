// The nodes of a network: those that wait for approval first, then all of them, to search and to look at.

import { badge, h, redraw, replace, table } from "./dom.js";
import { get, list } from "./api.js";
import { follow } from "./live.js";
import { head, placeOf } from "./network.js";
import { ago, instant } from "./text.js";
import { createToken } from "./tokens.js";

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
