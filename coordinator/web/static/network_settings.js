// The settings of one network.

import { facts, h } from "./dom.js";
import { get, send } from "./api.js";
import { confirm, toast } from "./dialogs.js";
import { head } from "./network.js";
import { go } from "./router.js";
import { counted } from "./text.js";

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
      ["URLs for nodes", network.coordinator.urls.map((url) => h("div", { class: "mono" }, url))],
    ])),
    h("div", { class: "card" }, h("h2", null, "Delete"), h("p", null, "Every node forgets this network and its tunnels end."),
      h("button", { class: "danger", onclick: remove }, "Delete this network")));
}
