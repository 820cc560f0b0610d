// The names of a network: its nodes', records of one's own, and who knows other domains.

import { h, redraw, table } from "./dom.js";
import { get, getTagged, list, send, tryOut } from "./api.js";
import { ask, confirm, field, toast } from "./dialogs.js";
import { follow } from "./live.js";
import { head, placeOf } from "./network.js";
import { changeList } from "./preview.js";
import { may } from "./session.js";
import { counted } from "./text.js";

const MOST_ROWS = 100;
const PLAIN = { autocapitalize: "off", spellcheck: "false" };

export async function namesPage({ network: name }, signal) {
  const network = await get("networks", name), isAdmin = await may("admin", network), suffix = network.suffix;
  const where = ["networks", name, "names"], body = h("div");
  const search = h("input", { type: "search", class: "search", placeholder: "Find a name or an address", "aria-label": "Find a name or an address", oninput: () => draw() });
  let nodes = [], names = { records: [], domains: [] }, most = MOST_ROWS;

  const whole = (value) => (/[:]|\.\d+$|^\d/.test(value) ? value : `${value}.${suffix}`);

  /** A dialog whose values make `change(names, values)` of what is there: tried first, then put in its place. */
  async function edit(title, { fields, action, change, danger }) {
    const { value, etag } = await getTagged(...where);
    const options = (values) => ({ body: change(value, values), etag });
    const done = await ask(title, { fields, action, danger,
      review: async (values) => changeList(await tryOut("PUT", where, options(values))), submit: (values) => send("PUT", where, options(values)) });
    if (done) { toast("Saved: nodes hear of it at once."); await refresh(); }
  }

  async function take(title, change) {
    const { value, etag } = await getTagged(...where);
    const options = { body: change(value), etag };
    const changes = await tryOut("PUT", where, options);
    const done = await confirm(title, { text: changeList(changes), action: "Remove", submit: () => send("PUT", where, options) });
    if (done) { toast("Removed."); await refresh(); }
  }

  const same = (one) => (other) => one.name === other.name && one.value === other.value;

  const record = (old) => edit(old ? `${old.name}.${suffix}` : "Add a record", { action: old ? "Save" : "Add", fields: [
    field({ name: "name", label: `Name, without .${suffix}`, value: old?.name, required: true, autofocus: true, placeholder: "nas", ...PLAIN }),
    field({ name: "value", label: "Is", value: old?.value, required: true, placeholder: "192.168.1.9", hint: "An address, or another name of the network, such as that of a node.", ...PLAIN }),
  ], change: (now, values) => {
    const made = { name: values.name, value: values.value };
    return { ...now, records: old ? now.records.map((each) => (same(old)(each) ? made : each)) : [...now.records, made] };
  } });

  const domain = (old) => edit(old ? old.domain : "Add a domain", { action: old ? "Save" : "Add", fields: [
    field({ name: "domain", label: "Domain", value: old?.domain, required: true, autofocus: true, placeholder: "corp.example", hint: "With all that is below it.", ...PLAIN }),
    field({ name: "servers", label: "Its name servers", value: old?.servers.join(", "), required: true, placeholder: "10.20.0.53", hint: "Addresses, up to four.", ...PLAIN }),
  ], change: (now, values) => {
    const made = { domain: values.domain, servers: values.servers.split(/[\s,]+/).filter(Boolean) };
    return { ...now, domains: old ? now.domains.map((each) => (each.domain === old.domain ? made : each)) : [...now.domains, made] };
  } });

  const actions = (key, what, onedit, onremove) => (isAdmin ? h("span", { class: "row" },
    h("button", { "data-key": `edit ${key}`, "aria-label": `Edit ${what}`, onclick: onedit }, "Edit"),
    h("button", { class: "danger", "data-key": `remove ${key}`, "aria-label": `Remove ${what}`, onclick: onremove }, "Remove")) : "");

  function draw() {
    const wanted = search.value.trim().toLowerCase();
    const fits = (...texts) => !wanted || texts.some((text) => text.toLowerCase().includes(wanted));
    const records = names.records.filter((each) => fits(`${each.name}.${suffix}`, whole(each.value)));
    const domains = names.domains.filter((each) => fits(each.domain, ...each.servers));
    const found = nodes.filter((node) => fits(`${node.name}.${suffix}`, ...node.addresses));
    const button = (text, key, onclick) => (isAdmin ? h("div", { class: "actions" }, h("button", { "data-key": key, onclick }, text)) : null);
    redraw(body,
      h("section", { class: "card" }, h("div", { class: "head" }, h("h2", null, "Records"), button("Add a record", "add record", () => record())),
        records.length ? table(`Records of ${name}`, [["Name"], ["Is"], ["", "end"]], records.map((each) => [
          h("span", { class: "mono" }, `${each.name}.${suffix}`), h("span", { class: "mono" }, whole(each.value)),
          actions(`${each.name} ${each.value}`, `${each.name}, ${each.value}`, () => record(each), () => take(`Remove ${each.name}.${suffix}?`, (now) => ({ ...now, records: now.records.filter((one) => !same(each)(one)) })))]))
          : h("p", { class: "quiet" }, wanted && names.records.length ? "No record matches." : `None yet. A record gives a name to anything with an address, such as nas.${suffix} to the one behind a gateway.`)),
      h("section", { class: "card" }, h("div", { class: "head" }, h("h2", null, "Other domains"), button("Add a domain", "add domain", () => domain())),
        domains.length ? table(`Domains with name servers of their own in ${name}`, [["Domain"], ["Asked of"], ["", "end"]], domains.map((each) => [
          h("span", { class: "mono" }, each.domain), h("span", { class: "mono" }, each.servers.join(", ")),
          actions(each.domain, each.domain, () => domain(each), () => take(`Forget ${each.domain}?`, (now) => ({ ...now, domains: now.domains.filter((one) => one.domain !== each.domain) })))]))
          : h("p", { class: "quiet" }, wanted && names.domains.length ? "No domain matches." : "None yet. Names of a domain can be asked of name servers that only this network reaches."),
        names.domains.length ? h("p", { class: "quiet" }, "Hosts follow a domain once they accept it: ", h("code", null, `wgpy set --accept-domain ${names.domains[0].domain}`)) : null),
      h("section", { class: "card" }, h("h2", null, "Nodes ", h("span", { class: "quiet" }, found.length === nodes.length ? "" : `${found.length} of ${nodes.length}`)),
        found.length ? table(`Names of the nodes of ${name}`, [["Name"], ["Addresses"]], found.slice(0, most).map((node) => [
          h("a", { class: "mono", href: placeOf(name, "nodes", node.name), "data-key": node.id }, `${node.name}.${suffix}`),
          h("span", { class: "mono" }, node.addresses.map((address) => h("div", null, address)))])) : h("p", { class: "quiet" }, nodes.length ? "No node matches." : "No node yet."),
        found.length > most ? h("button", { "data-key": "more", onclick: () => { most *= 4; draw(); } }, `Show more of ${counted(found.length, "node")}`) : null,
        h("p", { class: "quiet" }, "A host uses these names after ", h("code", null, "wgpy set --dns on"), ".")));
  }

  async function refresh() {
    [nodes, names] = await Promise.all([list("nodes", ["networks", name, "nodes"]), get(...where)]);
    draw();
  }

  await refresh();
  follow(name, refresh, signal);
  return h("div", null, head(network, "/names", search), body);
}
