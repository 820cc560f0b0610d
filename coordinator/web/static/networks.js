// All networks, and making one.

import { badge, facts, h } from "./dom.js";
import { list, send } from "./api.js";
import { ask, field } from "./dialogs.js";
import { settingFields, settingsEntered } from "./network_settings.js";
import { go } from "./router.js";
import { who } from "./session.js";
import { counted, split } from "./text.js";

async function create() {
  const made = await ask("New network", {
    action: "Create",
    fields: [
      field({ name: "name", label: "Name", required: true, autofocus: true, autocapitalize: "off", spellcheck: "false", hint: "Small letters, digits and hyphens: it is part of the nodes' names." }),
      field({ name: "ranges", label: "Address ranges", placeholder: "chosen for you", hint: "Such as 10.7.0.0/16, fd12:3456::/64. Left empty, an unused private range of each family." }),
      h("details", null, h("summary", null, "More"), settingFields(null)),
    ],
    submit: ({ name, ranges, ...values }) => send("POST", ["networks"], { body: { name, ...settingsEntered(values), ...(ranges ? { ranges: split(ranges) } : {}) } }),
  });
  if (made) go(`/networks/${encodeURIComponent(made.name)}/tokens`);
}

function card(network) {
  return h("article", { class: "card" },
    h("h2", null, h("a", { href: `/networks/${encodeURIComponent(network.name)}` }, network.name)),
    network.description ? h("p", { class: "quiet" }, network.description) : null,
    network.waiting ? h("p", null, badge(`${counted(network.waiting, "host")} ${network.waiting === 1 ? "waits" : "wait"} for approval`, "fair")) : null,
    facts([
      ["Nodes", String(network.nodes)],
      ["Ranges", network.ranges.map((range) => h("div", { class: "mono" }, range))],
    ]));
}

export async function networks() {
  const [found, me] = await Promise.all([list("networks", ["networks"]), who()]);
  const body = found.length
    ? h("div", { class: "cards" }, found.map(card))
    : !me.is_admin ? h("div", { class: "card empty" }, h("h2", null, "Nothing here for you yet"), h("p", null, "Ask an admin for a role on a network."))
    : h("div", { class: "card empty" }, h("h2", null, "No network yet"),
        h("p", null, "A network is a mesh: hosts that reach each other by private addresses, wherever they are."),
        h("button", { class: "primary", onclick: create }, "Create the first network"));
  return h("div", null,
    h("div", { class: "head" }, h("h1", null, "Networks"), found.length ? h("span", { class: "quiet" }, counted(found.length, "network")) : null,
      found.length && me.is_admin ? h("div", { class: "actions" }, h("button", { class: "primary", onclick: create }, "New network")) : null),
    body);
}
