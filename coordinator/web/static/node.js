// One node: what it is, how it is reached, and what can be done with it.

import { facts, h, replace } from "./dom.js";
import { get, send } from "./api.js";
import { confirm, copyable, toast } from "./dialogs.js";
import { follow } from "./live.js";
import { stateOf } from "./nodes.js";
import { go } from "./router.js";
import { ago, instant } from "./text.js";

export async function nodePage({ network, node: name }, signal) {
  const where = ["networks", network, "nodes", name];
  const body = h("div");

  async function remove(node) {
    const done = await confirm(`Remove ${node.name}?`, {
      text: "It forgets the network, and needs a new token to come back.", action: "Remove", typed: node.name,
      submit: () => send("DELETE", where),
    });
    if (done) { toast(`${node.name} is removed.`); go(`/networks/${encodeURIComponent(network)}`); }
  }

  async function refresh() {
    const node = await get(...where);
    replace(body,
      h("div", { class: "crumbs" }, h("a", { href: "/" }, "Networks"), " / ", h("a", { href: `/networks/${encodeURIComponent(network)}` }, network)),
      h("div", { class: "head" }, h("h1", null, node.name), stateOf(node), h("div", { class: "actions" },
        h("button", { class: "danger", onclick: () => remove(node) }, "Remove"))),
      h("div", { class: "columns" },
        h("section", { class: "card" }, h("h2", null, "Node"), facts([
          ["Addresses", node.addresses.map((address) => h("div", { class: "mono" }, address))],
          ["Endpoints", (node.endpoints ?? []).map((endpoint) => h("div", { class: "mono" }, endpoint))],
          ["Last seen", node.online ? "now" : ago(node.last_seen_at)],
          ["Joined", instant(node.joined_at)],
        ])),
        h("section", { class: "card" }, h("h2", null, "Keys"), h("p", { class: "quiet" }, "WireGuard public key, as `wg show` has it"), copyable(node.wireguard_key, "the WireGuard key"),
          h("p", { class: "quiet" }, "Machine key"), h("code", null, node.machine_key))));
  }

  await refresh();
  follow(network, async () => { if (!document.querySelector("dialog[open]")) await refresh(); }, signal);
  return body;
}
