// External clients: phones, and whatever else runs stock WireGuard, by the gateways of an ingress group.

import { badge, h, redraw, table } from "./dom.js";
import { get, getTagged, list, Refusal, send, tryOut } from "./api.js";
import { ask, copyable, field, tell, toast } from "./dialogs.js";
import { follow } from "./live.js";
import { head, placeOf } from "./network.js";
import { changeList, confirmChange } from "./preview.js";
import { may } from "./session.js";
import { qr } from "./qr.js";
import { ago, counted, instant, size, split } from "./text.js";

const PLAIN = { autocapitalize: "off", spellcheck: "false" };
const KEYS = [["browser", "in this browser: the coordinator never sees it"], ["server", "by the coordinator: shown once, not kept"], ["link", "by the coordinator, for a link that is good once"], ["own", "on the device: I have its public key"]];
const ENDS = [["", "never"], ["86400", "in a day"], ["604800", "in a week"], ["2592000", "in 30 days"], ["31536000", "in a year"]];
const LINK_FOR = 86_400;
const STATES = { active: ["on", "good"], disabled: ["off", ""], expired: ["expired", "bad"], stale: ["needs a new file", "fair"] };

/** A WireGuard key pair, made here → { secret, open }, both as WireGuard writes them. Raises Refusal where the browser cannot. */
async function makeKey() {
  const text = (octets) => btoa(String.fromCharCode(...new Uint8Array(octets)));
  try {
    const pair = await crypto.subtle.generateKey({ name: "X25519" }, true, ["deriveBits"]);
    const [secret, open] = await Promise.all([crypto.subtle.exportKey("pkcs8", pair.privateKey), crypto.subtle.exportKey("raw", pair.publicKey)]);
    return { secret: text(secret.slice(-32)), open: text(open) };
  } catch {
    throw new Refusal(0, { detail: "this browser cannot make such a key (X25519): have it made by the coordinator, or on the device" });
  }
}

/** The file with the key that was made here. */
const withKey = (config, secret) => config.replace("[Interface]\n", `[Interface]\nPrivateKey = ${secret}\n`);

/** An element to save a file by. WireGuard takes the interface's name from the file's: 15 characters at most. */
function saving(config, name) {
  return h("a", { class: "button", download: `${name.slice(0, 15).replace(/-+$/, "")}.conf`, href: URL.createObjectURL(new Blob([config], { type: "application/octet-stream" })) }, "Save the file");
}

async function showOnce(client, secret) {
  if (client.link) {
    await tell(`A link for ${client.name}`, h("p", null, "Whoever opens it first has the file. It is not shown again."), copyable(client.link, "the link"), await qr(client.link),
      h("p", { class: "quiet" }, `Good until ${instant(client.link_until)}.`));
    return;
  }
  const config = secret ? withKey(client.config, secret) : client.config;
  const isWhole = config.includes("PrivateKey");
  await tell(`The file of ${client.name}`, h("p", null, isWhole ? "Scan it with the WireGuard app, or save the file. It is not shown again." : "The device has its private key itself: put it below [Interface]."),
    isWhole ? await qr(config) : null, h("pre", { class: "file", tabindex: "0", "aria-label": "The file" }, config), h("div", { class: "row" }, saving(config, client.name)));
}

const keyFields = () => [
  field({ name: "key", label: "Its key is made", kind: "select", options: KEYS, value: "browser" }),
  field({ name: "public_key", label: "Public key, when it is made on the device", placeholder: "wg genkey | tee key | wg pubkey", ...PLAIN }),
];

/** What was chosen there, as the API takes it, but for a key that is made here: one is made once it is to be kept. */
function keyTried({ key, public_key }) {
  if (key === "link") return { link_for: LINK_FOR };
  return key === "own" ? { public_key: public_key ?? "" } : {};
}

/** The same → [what the API takes, the private key when it was made here]. */
async function keyEntered(values) {
  if (values.key !== "browser") return [keyTried(values), null];
  const made = await makeKey();
  return [{ public_key: made.open }, made.secret];
}

const reachFields = (client) => [
  field({ name: "nodes", label: "Nodes that it may reach", value: client?.reach_nodes.map((node) => node.name ?? node.id).join(" "), placeholder: "all", ...PLAIN }),
  field({ name: "ranges", label: "Ranges that it may reach", value: client?.reach.ranges.join(" "), placeholder: "all that its gateway reaches", hint: "Several between spaces. The gateway sees to it, whatever the device has in its own file. Both empty: everything.", ...PLAIN }),
  field({ name: "internet", label: "All that it sends goes by the gateway, the internet too", kind: "tick", value: client?.reach.internet ?? false, hint: "The gateway's host has to agree: wgpy set --advertise exit,ingress" }),
];
const endsAt = (seconds) => Date.now() / 1000 + Number(seconds);
const reachEntered = ({ nodes, ranges, internet }) => ({ everything: !nodes && !ranges, nodes: split(nodes ?? ""), ranges: split(ranges ?? ""), internet });

const reachOf = (client) => [...(client.reach.everything ? [h("div", { class: "quiet" }, "everything")]
  : [...client.reach_nodes.map((node) => h("div", null, node.name ?? node.id.slice(0, 8))), ...client.reach.ranges.map((range) => h("div", { class: "mono" }, range))]), client.reach.internet ? h("div", null, "the internet") : null];

export async function clientsPage({ network: name }, signal) {
  const network = await get("networks", name), isAdmin = await may("admin", network);
  const where = ["networks", name, "clients"], groupsAt = ["networks", name, "ingress"], body = h("div"), actions = h("div", { class: "row" });
  let groups = [], clients = [], nodes = [];

  const groupFields = (group) => [
    field({ name: "endpoint", label: "Where clients connect to", value: group?.endpoint, required: true, autofocus: true, placeholder: "vpn.example.org:51820", hint: "HOST:PORT of the gateway as the internet sees it. It is in every file.", ...PLAIN }),
    field({ name: "nodes", label: "Gateways", value: group?.nodes.join(" "), required: true, placeholder: nodes.slice(0, 2).map((node) => node.name).join(" "), hint: "Nodes, with spaces between. The first takes the clients, the others stand by.", ...PLAIN }),
    field({ name: "name", label: "Name", value: group?.name ?? "clients", required: true, ...PLAIN }),
    field({ name: "dns", label: "Clients use the names of the network", kind: "tick", value: group?.dns ?? true }),
  ];
  const groupEntered = (values) => ({ ...values, nodes: split(values.nodes) });

  /** A form whose button shows what `call(values)` would change before it does it. */
  const askFirst = (title, { call, ...more }) => ask(title, { ...more, review: async (values) => changeList(await tryOut(...call(values))), submit: (values) => send(...call(values)) });

  async function addGroup() {
    const made = await askFirst("Let clients in", { action: "Set it up", fields: groupFields(), intro: h("p", { class: "quiet" }, "Phones and others with stock WireGuard come in by a gateway that they can always reach."), call: (values) => ["POST", groupsAt, { body: groupEntered(values) }] });
    if (!made) return;
    await refresh();
    await tell("One step more", h("p", null, `The host of ${made.nodes.join(" and ")} has to agree. Run this there, as root:`), copyable("wgpy set --advertise ingress", "the command"));
  }

  async function editGroup(group) {
    const { etag } = await getTagged(...groupsAt, group.id);
    const made = await askFirst(`Edit ${group.name}`, { action: "Save", fields: groupFields(group), call: (values) => ["PATCH", [...groupsAt, group.id], { body: groupEntered(values), etag }] });
    if (made) { toast("Saved."); await refresh(); }
  }

  async function removeGroup(group) {
    if (await confirmChange(`Delete ${group.name}?`, { action: "Delete", calls: [["DELETE", [...groupsAt, group.id]]], done: "Deleted." })) await refresh();
  }

  /** A new client as the API takes it. */
  function wished(values, key) {
    return { name: values.name, ...key, ...(values.group ? { group: values.group } : {}), reach: reachEntered(values), ...(values.expires_in ? { expires_at: endsAt(values.expires_in) } : {}) };
  }

  async function add() {
    let secret = null;
    const made = await ask("Add a client", { action: "Make it", fields: [
      field({ name: "name", label: "Name", required: true, autofocus: true, placeholder: "phone", ...PLAIN }), keyFields(),
      groups.length > 1 ? field({ name: "group", label: "Comes in by", kind: "select", options: groups.map((group) => [group.name, group.name]) }) : null,
      h("details", null, h("summary", null, "What it may, and until when"), reachFields(), field({ name: "expires_in", label: "Ends", kind: "select", options: ENDS })),
    ], review: async (values) => changeList(await tryOut("POST", where, { body: wished(values, keyTried(values)) })), submit: async (values) => {
      const [key, made_here] = await keyEntered(values);
      secret = made_here;
      return send("POST", where, { body: wished(values, key) });
    } });
    if (!made) return;
    await refresh();
    await showOnce(made, secret);
  }

  async function edit(client) {
    const { etag } = await getTagged(...where, client.id);
    const done = await askFirst(`Edit ${client.name}`, { action: "Save", fields: [field({ name: "name", label: "Name", value: client.name, required: true, autofocus: true, ...PLAIN }), reachFields(client),
      field({ name: "expires_in", label: "Ends", kind: "select", options: [["keep", client.expires_at ? instant(client.expires_at) : "never"], ...ENDS.slice(client.expires_at ? 0 : 1)], value: "keep" })],
    call: (values) => ["PATCH", [...where, client.id], { etag, body: { name: values.name, reach: reachEntered(values), ...(values.expires_in === "keep" ? {} : { expires_at: values.expires_in ? endsAt(values.expires_in) : null }) } }] });
    if (done) { toast("Saved."); await refresh(); }
  }

  async function toggle(client) {
    const isOff = Boolean(client.disabled_at), { etag } = await getTagged(...where, client.id);
    if (await confirmChange(isOff ? `Let ${client.name} in again?` : `Switch ${client.name} off?`, { text: isOff ? null : "It keeps its addresses and its file.", action: isOff ? "Switch on" : "Switch off",
      calls: [["PATCH", [...where, client.id], { body: { disabled: !isOff }, etag }]], done: isOff ? "It is on." : "It is off." })) await refresh();
  }

  async function renew(client) {
    let secret = null;
    const made = await ask(`A new key for ${client.name}`, { action: "Make it", fields: keyFields(), review: async (values) => changeList(await tryOut("POST", [...where, client.id, "key"], { body: keyTried(values) })), submit: async (values) => {
      const [key, made_here] = await keyEntered(values);
      secret = made_here;
      return send("POST", [...where, client.id, "key"], { body: key });
    } });
    if (made) { await refresh(); await showOnce(made, secret); }
  }

  async function remove(client) {
    if (await confirmChange(`Remove ${client.name}?`, { action: "Remove", calls: [["DELETE", [...where, client.id]]], done: `${client.name} is removed.` })) await refresh();
  }

  const button = (client, text, onclick, kind) => h("button", { class: kind, "data-key": `${text} ${client.id}`, "aria-label": `${text}: ${client.name}`, onclick: () => onclick(client) }, text);

  function gatewayState(gateway) {
    if (gateway.problem) return h("span", null, gateway.state === "active" ? badge("not all works", "fair") : badge("does not work", "bad"), " ", gateway.problem);
    if (gateway.state !== "active") return badge("waits for the node", "fair");
    if (!gateway.online) return badge("offline", gateway.elected ? "bad" : "");
    return gateway.elected ? badge("in use", "good") : badge("stands by");
  }

  function groupCard() {
    const rows = groups.map((group) => [group.name, h("span", { class: "mono" }, group.endpoint),
      group.gateways.map((gateway) => h("div", null, h("a", { href: placeOf(name, "nodes", gateway.node_name), "data-key": `${group.id} ${gateway.node}` }, gateway.node_name), " ", gatewayState(gateway))),
      String(group.clients),
      isAdmin ? h("span", { class: "row" }, button(group, "Edit", editGroup), button(group, "Delete", removeGroup, "danger")) : ""]);
    return h("section", { class: "card" }, h("div", { class: "head" }, h("h2", null, "Where they come in")), table(`Gateways for clients of ${name}`, [["Name"], ["Endpoint"], ["Gateways"], ["Clients"], ["", "end"]], rows));
  }

  function clientCard() {
    if (!clients.length) return h("section", { class: "card empty" }, h("h2", null, "No client yet"), h("p", null, "A client is a phone, or anything else with stock WireGuard: it scans a QR code, or takes a file."));
    const rows = clients.map((client) => [client.name,
      [badge(...STATES[client.state]), client.expires_at ? h("div", { class: "quiet", title: instant(client.expires_at) }, `ends ${ago(client.expires_at)}`) : null, client.link_until ? h("div", { class: "quiet" }, "its link waits") : null],
      h("span", { class: "mono" }, client.addresses.map((address) => h("div", null, address))), reachOf(client),
      h("span", { title: instant(client.latest_handshake_at) }, client.latest_handshake_at ? `${ago(client.latest_handshake_at)}${client.gateway_name ? ` at ${client.gateway_name}` : ""}` : "never"),
      h("span", { class: "mono" }, client.endpoint ?? ""), client.rx_bytes || client.tx_bytes ? `${size(client.rx_bytes)} in, ${size(client.tx_bytes)} out` : "",
      isAdmin ? h("span", { class: "row" }, button(client, "Edit", edit), button(client, client.disabled_at ? "On" : "Off", toggle), button(client, "New key", renew), button(client, "Remove", remove, "danger")) : ""]);
    return h("section", { class: "card" }, h("h2", null, counted(clients.length, "client")), table(`Clients of ${name}`, [["Name"], ["State", "short"], ["Addresses"], ["May reach"], ["Handshake"], ["Endpoint"], ["Traffic"], ["", "end"]], rows));
  }

  async function refresh() {
    [groups, clients, nodes] = await Promise.all([list("groups", groupsAt), list("clients", where), list("nodes", ["networks", name, "nodes"])]);
    redraw(actions, isAdmin && nodes.length ? [h("button", { class: groups.length ? null : "primary", "data-key": "group", onclick: addGroup }, groups.length ? "Another way in" : "Let clients in"), groups.length ? h("button", { class: "primary", "data-key": "add", onclick: add }, "Add a client") : null] : null);
    redraw(body, groups.length ? [clientCard(), groupCard()] : h("section", { class: "card empty" }, h("h2", null, "No way in yet"), h("p", null, "Phones and others with stock WireGuard come in by a node that they can always reach: an ingress gateway.")));
  }

  await refresh();
  follow(name, refresh, signal, { tunnels: true });
  return h("div", null, head(network, "/clients", actions), body);
}
