// Who may sign in.

import { badge, h, table } from "./dom.js";
import { getTagged, list, send } from "./api.js";
import { ask, confirm, copyable, field, tell, toast } from "./dialogs.js";
import { show } from "./router.js";
import { ago, instant } from "./text.js";

const ROLES = [["", "nothing"], ["viewer", "look"], ["member", "bring in own devices"], ["admin", "administer"]];

async function giveLink(person) {
  const link = await send("POST", ["setup-links"], { body: { person: person.name } });
  await tell(`A link for ${person.name}`, h("p", null, "With it they choose a password, once. It is not shown again."),
    copyable(link.url, "the link"), h("p", { class: "quiet" }, `Good until ${instant(link.expires_at)}.`));
}

async function add() {
  const made = await ask("Add somebody", {
    action: "Add",
    fields: [
      field({ name: "name", label: "Name", required: true, autofocus: true, autocapitalize: "off", spellcheck: "false", hint: "What they sign in with." }),
      field({ name: "is_admin", label: "May do everything on this coordinator", kind: "tick" }),
    ],
    submit: (values) => send("POST", ["people"], { body: values }),
  });
  if (made) { await giveLink(made); show(); }
}

async function edit(person, change, said) {
  const { etag } = await getTagged("people", person.id);
  await send("PATCH", ["people", person.id], { body: change, etag });
  toast(said);
}

function roles(person, networks) {
  return ask(`What ${person.name} may do`, {
    fields: networks.map((network) => field({ name: network.id, label: network.name, kind: "select", options: ROLES, value: person.roles[network.id] ?? "" })),
    action: "Save",
    submit: async (values) => {
      for (const network of networks) {
        const role = values[network.id];
        if (role === (person.roles[network.id] ?? null)) continue;
        const { etag } = await getTagged("people", person.id);
        await send("PUT", ["people", person.id, "roles", network.name], { body: { role }, etag });
      }
      toast("Saved.");
    },
  });
}

function actions(person, networks) {
  const after = (work) => async () => { if (await work()) show(); };
  return h("span", { class: "row" },
    person.is_admin || !networks.length ? null : h("button", { onclick: after(() => roles(person, networks)) }, "Roles"),
    h("button", { onclick: () => giveLink(person) }, "New password"),
    h("button", { onclick: after(() => confirm(person.disabled_at ? `Let ${person.name} in again?` : `Keep ${person.name} out?`, {
      text: person.disabled_at ? "They can sign in again." : "They are signed out at once and cannot sign in.",
      action: person.disabled_at ? "Let in" : "Keep out",
      submit: () => edit(person, { disabled: !person.disabled_at }, "Saved."),
    })) }, person.disabled_at ? "Let in" : "Keep out"),
    h("button", { class: "danger", onclick: after(() => confirm(`Remove ${person.name}?`, {
      text: "With their sessions and roles.", action: "Remove", submit: async () => { await send("DELETE", ["people", person.id]); toast("Removed."); return true; },
    })) }, "Remove"));
}

function may(person, names) {
  if (person.is_admin) return badge("administers everything", "good");
  const held = Object.entries(person.roles).map(([id, role]) => h("div", null, `${names.get(id) ?? id.slice(0, 8)}: ${role}`));
  return held.length ? held : h("span", { class: "quiet" }, "nothing yet");
}

export async function peoplePage() {
  const [people, networks] = await Promise.all([list("people", ["people"]), list("networks", ["networks"])]);
  const names = new Map(networks.map((network) => [network.id, network.name]));
  const rows = people.map((person) => [
    person.name, may(person, names),
    person.disabled_at ? badge("kept out", "bad") : person.has_password || person.issuer ? "" : badge("no password yet", "fair"),
    ago(person.created_at), actions(person, networks),
  ]);
  return h("div", null,
    h("div", { class: "head" }, h("h1", null, "People"), h("div", { class: "actions" }, h("button", { class: "primary", onclick: add }, "Add somebody"))),
    h("div", { class: "card" }, table("People who can sign in", [["Name"], ["May"], [""], ["Added"], ["", "end"]], rows)));
}
