// The settings of one network.

import { facts, h } from "./dom.js";
import { getTagged, Refusal, send } from "./api.js";
import { confirm, field, form, toast } from "./dialogs.js";
import { head } from "./network.js";
import { go, show } from "./router.js";
import { may } from "./session.js";
import { counted, split } from "./text.js";

const ROTATION = [["0", "never"], ["86400", "each day"], ["604800", "each week"], ["2592000", "each 30 days"], ["7776000", "each 90 days"]];

/** "laptops:servers admin:*" → pairs; empty: null, all see all. Raises Refusal. */
function parsePairs(text) {
  const pairs = (text ?? "").split(/[\s,]+/).filter(Boolean).map((word) => word.split(":"));
  const odd = pairs.find((pair) => pair.length !== 2 || !pair[0] || !pair[1]);
  if (odd) throw new Refusal(0, { detail: `“${odd.join(":")}” is no pair: two tags with a colon between, such as laptops:servers, or admin:* for all` });
  return pairs.length ? pairs : null;
}

/** What an admin may set of a network, as fields; without one, the defaults. */
export function settingFields(network) {
  return [
    field({ name: "description", label: "Description", value: network?.description, maxlength: 500 }),
    field({ name: "keyless", label: "Hosts may ask to join without a token", kind: "tick", value: network?.keyless, hint: "They show a code, and wait until somebody who may types it here." }),
    field({ name: "approval", label: "Hosts with a token wait for approval too", kind: "tick", value: network?.approval, hint: "A token may say otherwise." }),
    field({ name: "mtu", label: "MTU", kind: "number", value: network?.mtu, placeholder: "1380", hint: "Of the nodes' interfaces. 1380 fits through most lines." }),
    field({ name: "keepalive", label: "Keepalive, seconds", kind: "number", min: 0, value: network?.keepalive, placeholder: "20", hint: "How often an idle tunnel is kept open through NAT; 0 for never." }),
    field({ name: "listen_port", label: "UDP port of the nodes", kind: "number", min: 0, max: 65535, value: network?.listen_port, placeholder: "0", hint: "0: any. A node may choose its own." }),
    field({ name: "rotate_after", label: "Nodes renew their WireGuard keys", kind: "select", options: rotations(network?.rotate_after), value: String(network?.rotate_after ?? 0) }),
    field({ name: "suffix", label: "DNS suffix", value: network?.suffix, autocapitalize: "off", spellcheck: "false", hint: "Of the nodes' names." }),
    field({ name: "visibility", label: "Who sees whom", value: (network?.visibility ?? []).map(([one, other]) => (one === "*" ? `${other}:*` : `${one}:${other}`)).join(" "), placeholder: "all see all", autocapitalize: "off", spellcheck: "false",
      hint: "Pairs of tags, such as laptops:servers admin:*. Empty: all see all." }),
  ];
}

const rotations = (seconds) => (seconds && !ROTATION.some(([value]) => value === String(seconds)) ? [...ROTATION, [String(seconds), `after ${seconds} s`]] : ROTATION);

/** What was entered there, as the API takes it; what was left empty is left out. Raises Refusal. */
export function settingsEntered({ visibility, rotate_after, description, ...rest }) {
  const filled = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== null));
  return { ...filled, description: description ?? "", rotate_after: Number(rotate_after), visibility: parsePairs(visibility) };
}

/** Its name and ranges, which a new network is asked for apart from its settings. */
function identityFields(network) {
  return [
    field({ name: "name", label: "Name", value: network.name, required: true, autocapitalize: "off", spellcheck: "false", hint: "Part of the nodes' DNS names, which change with it." }),
    field({ name: "ranges", label: "Address ranges", value: network.ranges.join(", "), required: true, autocapitalize: "off", spellcheck: "false",
      hint: "Nodes keep their addresses, so each has to be inside. A family that is left out stays as it is." }),
  ];
}

/** What has changed of them: a range is checked anew even when it is the same. */
function identityEntered({ name, ranges }, network) {
  const wanted = split(ranges);
  return { ...(name !== network.name ? { name } : {}), ...(wanted.join() !== network.ranges.join() ? { ranges: wanted } : {}) };
}

export async function settingsPage({ network: name }) {
  const { value: network, etag } = await getTagged("networks", name), isAdmin = await may("admin", network);
  const remove = () => confirm(`Delete ${name}?`, {
    text: `Its ${counted(network.nodes, "node")} will forget it and each other. This cannot be undone.`, action: "Delete the network", typed: name,
    submit: async () => { await send("DELETE", ["networks", name]); toast(`${name} is deleted.`); go("/"); },
  });
  return h("div", null, head(network, "/settings"),
    h("div", { class: "columns" },
      isAdmin ? h("section", { class: "card" }, h("h2", null, "Settings"), form({
        fields: [identityFields(network), settingFields(network)], action: "Save",
        submit: async ({ name: newName, ranges, ...values }) => {
          const body = { ...identityEntered({ name: newName, ranges }, network), ...settingsEntered(values) };
          const { name: nowNamed } = await send("PATCH", ["networks", name], { body, etag });
          toast("Saved: the nodes follow at once.");
          if (nowNamed === name) await show();
          else go(`/networks/${encodeURIComponent(nowNamed)}/settings`, { replace: true });
        },
      })) : null,
      h("div", null,
        h("section", { class: "card" }, h("h2", null, "Fixed"), facts([
          ...(isAdmin ? [] : [["Ranges", network.ranges.map((range) => h("div", { class: "mono" }, range))]]), ["Nodes", String(network.nodes)], ["Revision", String(network.revision)],
          ["URLs for nodes", network.coordinator.urls.map((url) => h("div", { class: "mono" }, url))],
        ])),
        isAdmin ? h("section", { class: "card" }, h("h2", null, "Delete"), h("p", null, "Every node forgets this network and its tunnels end."),
          h("button", { class: "danger", onclick: remove }, "Delete this network")) : null)));
}
