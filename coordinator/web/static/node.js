// One node: what it is, how it is reached, how its tunnels are, and what can be done with it.

import { facts, h, redraw, table } from "./dom.js";
import { get, getTagged, send } from "./api.js";
import { ask, copyable, field, toast } from "./dialogs.js";
import { follow } from "./live.js";
import { placeOf } from "./network.js";
import { stateOf } from "./nodes.js";
import { confirmChange } from "./preview.js";
import { go } from "./router.js";
import { may } from "./session.js";
import { splitTags, tagList } from "./tags.js";
import { ago, instant, lasting } from "./text.js";
import { flowText, getTunnels, handshakeOf, inOrder, pathText, Rates, reasonsOf, rttOf, rttText, stateBadge } from "./tunnels.js";

export async function nodePage({ network, node: name }, signal) {
  const rates = new Rates(), isAdmin = await may("admin", await get("networks", network));
  const body = h("div");
  let where = ["networks", network, "nodes", name];

  async function edit(changes) {
    const { etag } = await getTagged(...where);
    return send("PATCH", where, { body: changes, etag });
  }

  async function rename(node) {
    const made = await ask(`Edit ${node.name}`, {
      action: "Save",
      fields: [
        field({ name: "name", label: "Name", value: node.name, required: true, autofocus: true, autocapitalize: "off", spellcheck: "false", hint: "Small letters, digits and hyphens. The others reach it by this name." }),
        field({ name: "tags", label: "Tags", value: (node.tags ?? []).join(" "), autocapitalize: "off", spellcheck: "false", hint: "Words between spaces: to find it by, and to say who sees whom." }),
      ],
      submit: (values) => edit({ name: values.name, tags: splitTags(values.tags) }),
    });
    if (!made) return;
    toast("Saved.");
    if (made.name !== node.name) go(placeOf(network, "nodes", made.name), { replace: true });
    else await refresh();
  }

  async function disable(node) {
    const isOff = Boolean(node.disabled_at);
    const { etag } = await getTagged(...where);
    const done = await confirmChange(isOff ? `Let ${node.name} in again?` : `Disable ${node.name}?`, {
      text: isOff ? null : "It keeps its addresses and can be let in again.",
      action: isOff ? "Enable" : "Disable", calls: [["PATCH", where, { body: { disabled: !isOff }, etag }]], done: isOff ? `${node.name} is enabled.` : `${node.name} is disabled.`,
    });
    if (done) await refresh();
  }

  async function remove(node) {
    const done = await confirmChange(`Remove ${node.name}?`, { action: "Remove", typed: node.name, calls: [["DELETE", where]], done: `${node.name} is removed.` });
    if (done) go(placeOf(network));
  }

  function tunnels(node, pairs) {
    const ordered = inOrder(pairs), up = pairs.filter((pair) => pair.state === "up").length;
    const rows = ordered.map((pair) => {
      const other = pair.a === node.id ? pair.b_name : pair.a_name, shaken = handshakeOf(pair);
      return [h("a", { href: placeOf(network, "nodes", other), "data-key": other }, other), stateBadge(pair), pathText(pair), rttText(rttOf(pair)),
        h("span", { title: instant(shaken) }, shaken === null ? "" : ago(shaken)), flowText(pair, rates, node.id), reasonsOf(pair)];
    });
    return h("section", { class: "card" }, h("h2", null, "Tunnels ", h("span", { class: "quiet" }, rows.length ? `${up} of ${rows.length} up` : "")),
      rows.length ? table(`Tunnels of ${node.name}`, [["With", "short"], ["State"], ["Path", "short"], ["Round trip", "short"], ["Handshake", "short"], ["Traffic", "short"], ["Why"]], rows)
        : h("p", { class: "quiet" }, "Nothing is told of its tunnels yet: nodes do some seconds after they come up."));
  }

  async function refresh() {
    const [node, pairs] = await Promise.all([get(...where), getTunnels(network, { node: where[3] })]);
    where = ["networks", network, "nodes", node.id];
    rates.update(pairs);
    redraw(body,
      h("div", { class: "crumbs" }, h("a", { href: "/" }, "Networks"), " / ", h("a", { href: placeOf(network) }, network)),
      h("div", { class: "head" }, h("h1", null, node.name), stateOf(node), h("div", { class: "actions" }, isAdmin ? [
        h("button", { "data-key": "edit", onclick: () => rename(node) }, "Edit"),
        h("button", { "data-key": "disable", onclick: () => disable(node) }, node.disabled_at ? "Enable" : "Disable"),
        h("button", { class: "danger", "data-key": "remove", onclick: () => remove(node) }, "Remove")] : null)),
      h("div", { class: "columns" },
        h("section", { class: "card" }, h("h2", null, "Node"), facts([
          ["Addresses", node.addresses.map((address) => h("div", { class: "mono" }, address))],
          ["Endpoints", (node.endpoints ?? []).map((endpoint) => h("div", { class: "mono" }, endpoint))],
          ["Last seen", node.online ? "now" : ago(node.last_seen_at)],
          ["Version", node.version],
          ["Tags", node.tags?.length ? h("span", { class: "row" }, tagList(node.tags)) : null],
          ["Owner", node.owner],
          ["Joined", `${instant(node.joined_at)}${node.id.startsWith(node.token) ? ", by its code" : ", by a token"}`],
          ["Expires", node.expires_at ? `${instant(node.expires_at)} (${ago(node.expires_at)})` : null],
          ["Removed", node.ephemeral_after ? `after ${lasting(node.ephemeral_after)} offline` : null],
          ["Disabled", node.disabled_at ? instant(node.disabled_at) : null],
        ])),
        h("section", { class: "card" }, h("h2", null, "Keys"), h("p", { class: "quiet" }, "WireGuard public key, as `wg show` has it"), copyable(node.wireguard_key, "the WireGuard key"),
          h("p", { class: "quiet" }, "Machine key"), h("code", null, node.machine_key))),
      tunnels(node, pairs));
  }

  await refresh();
  follow(network, async () => { if (!document.querySelector("dialog[open]")) await refresh(); }, signal, { tunnels: true });
  return body;
}
