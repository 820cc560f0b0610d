// The nodes of a network: those that wait for approval first, then all of them, to search and to look at.

import { badge, h, redraw, table } from "./dom.js";
import { get, list } from "./api.js";
import { follow } from "./live.js";
import { head, placeOf } from "./network.js";
import { may } from "./session.js";
import { tagList } from "./tags.js";
import { ago, counted, instant } from "./text.js";
import { createToken } from "./tokens.js";
import { waiting } from "./waiting.js";

const MOST_ROWS = 200;

/** How a node is doing, in a word. */
export function stateOf(node) {
  if (node.disabled_at) return badge("disabled", "bad");
  if (node.expired) return badge("expired", "bad");
  if (node.online) return badge("online", "good");
  return badge(node.last_seen_at ? `seen ${ago(node.last_seen_at)}` : "never seen");
}

const STATES = {
  "": ["in any state", () => true],
  online: ["online", (node) => node.online],
  offline: ["offline", (node) => !node.online],
  off: ["disabled or expired", (node) => node.disabled_at || node.expired],
};

/** Whether each word is in the name, an address, an endpoint or a tag; #word is a whole tag. */
function matches(node, text) {
  const own = [node.name, ...node.addresses, ...(node.endpoints ?? []), ...(node.tags ?? [])];
  return text.toLowerCase().split(/\s+/).filter(Boolean).every((word) => (word.startsWith("#")
    ? (node.tags ?? []).includes(word.slice(1)) : own.some((value) => value.toLowerCase().includes(word))));
}

export async function nodesPage({ network: name }, signal) {
  const network = await get("networks", name), isEnroller = await may("enrol", network);
  const joins = h("div"), body = h("div");
  const search = h("input", { type: "search", class: "search", placeholder: "Search by name, address or #tag", "aria-label": "Search nodes", oninput: () => draw() });
  const only = h("select", { "aria-label": "Which nodes", onchange: () => draw() }, Object.entries(STATES).map(([value, [text]]) => h("option", { value }, text)));
  const add = () => (isEnroller ? h("button", { class: "primary", onclick: () => createToken(network) }, "Add a node") : null);
  let nodes = [], most = MOST_ROWS;

  const tags = (node) => tagList(node.tags, { key: node.id, onclick: (tag) => { search.value = `#${tag}`; draw(); } });

  function draw() {
    if (!nodes.length) {
      redraw(body, h("div", { class: "card empty" }, h("h2", null, "No node yet"),
        h("p", null, "Create a token and run the line that comes with it on a host: it is a node some seconds later, and appears here by itself."), add()));
      return;
    }
    const found = nodes.filter((node) => STATES[only.value][1](node) && matches(node, search.value));
    const rows = found.slice(0, most).map((node) => [
      h("span", { class: "row" }, h("a", { href: placeOf(name, "nodes", node.name), "data-key": node.id }, node.name), tags(node)),
      stateOf(node),
      h("span", { class: "mono" }, node.addresses.map((address) => h("div", null, address))),
      h("span", { class: "mono" }, node.endpoints?.[0] ?? ""),
      h("span", { title: instant(node.joined_at) }, ago(node.joined_at)),
    ]);
    const online = nodes.filter((node) => node.online).length;
    redraw(body, h("div", { class: "card" },
      h("div", { class: "head" }, h("h2", null, counted(found.length, "node"), h("span", { class: "quiet" }, found.length === nodes.length ? `, ${online} online` : ` of ${nodes.length}`)), h("div", { class: "actions" }, only)),
      rows.length ? table(`Nodes of ${name}`, [["Name"], ["State"], ["Addresses"], ["Endpoint"], ["Joined", "short"]], rows) : h("p", { class: "empty" }, "No node matches."),
      found.length > most ? h("button", { "data-key": "more", onclick: () => { most *= 4; draw(); } }, `Show more of ${found.length}`) : null));
  }

  async function refresh() {
    const [found] = await Promise.all([list("nodes", ["networks", name, "nodes"]), waiting(joins, name, { isEnroller, ondone: refresh })]);
    nodes = found;
    draw();
  }

  await refresh();
  follow(name, refresh, signal);
  return h("div", null, head(network, "", search, add()), joins, body);
}
