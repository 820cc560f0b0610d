// What concerns the one signed in, and the keys of programs.

import { badge, h, table } from "./dom.js";
import { list, request, Refusal, send } from "./api.js";
import { ask, confirm, copyable, field, form, tell, toast } from "./dialogs.js";
import { go, show } from "./router.js";
import { forget, who } from "./session.js";
import { ago, browserOf } from "./text.js";
import { devices } from "./devices.js";
import { providers } from "./providers.js";

const SCOPES = [["read", "look"], ["enrol", "make tokens, approve nodes"], ["admin", "do everything"]];

async function createKey(networks) {
  const made = await ask("New API key", {
    action: "Create",
    fields: [
      field({ name: "name", label: "What it is for", required: true, autofocus: true }),
      field({ name: "scope", label: "It may", kind: "select", options: SCOPES, value: "read" }),
      field({ name: "network", label: "On", kind: "select", options: [["", "all networks"], ...networks.map((one) => [one.name, one.name])] }),
    ],
    submit: ({ network, ...values }) => send("POST", ["keys"], { body: { ...values, ...(network ? { network } : {}) } }),
  });
  if (!made) return;
  await tell("The key", h("p", null, "Programs send it as ", h("code", null, "Authorization: Bearer …"), ". It is not shown again."), copyable(made.key, "the key"));
  show();
}

async function keys() {
  const [found, networks] = await Promise.all([list("keys", ["keys"]), list("networks", ["networks"])]);
  const names = new Map(networks.map((one) => [one.id, one.name]));
  const rows = found.map((key) => [
    key.name, h("code", null, key.id), `${key.scope}, ${key.network_id ? names.get(key.network_id) ?? "a deleted network" : "all networks"}`, ago(key.created_at),
    key.revoked_at ? badge("revoked", "bad") : h("button", { class: "danger", onclick: async () => {
      const done = await confirm(`Revoke ${key.name}?`, { text: "Programs that use it are refused at once.", action: "Revoke", submit: () => send("DELETE", ["keys", key.id]) });
      if (done) { toast("Revoked."); show(); }
    } }, "Revoke"),
  ]);
  return h("section", { class: "card" },
    h("div", { class: "head" }, h("h2", null, "API keys"), h("div", { class: "actions" }, h("button", { onclick: () => createKey(networks) }, "New key"))),
    table("API keys", [["For"], ["Id"], ["May"], ["Made"], ["", "end"]], rows));
}

async function sessions() {
  const { value } = await request("GET", "/v1/sessions");
  const rows = value.sessions.map((one) => [
    one.person, one.mine ? badge("this browser", "good") : "", h("span", { class: "mono" }, one.address), h("span", { title: one.agent }, browserOf(one.agent)), ago(one.used_at),
    h("button", { onclick: async () => {
      await request("DELETE", `/v1/sessions/${encodeURIComponent(one.id)}`);
      if (one.mine) { forget(); go("/sign-in", { replace: true }); } else { toast("Signed out."); show(); }
    } }, "Sign out"),
  ]);
  return h("section", { class: "card" }, h("h2", null, "Signed in"), table("Browsers that are signed in", [["Who"], [""], ["From", "short"], ["Browser"], ["Last used", "short"], ["", "end"]], rows));
}

/** Coming in by a provider too; nothing where there is none. */
async function connections() {
  const { value } = await request("GET", "/v1/sign-in");
  if (!value.providers.length) return null;
  return h("section", { class: "card" }, h("h2", null, "Sign in without a password"),
    h("p", { class: "quiet" }, "Connect your account there, and its button on the sign-in page lets you in."),
    h("div", { class: "row" }, value.providers.map(({ name, label }) => h("button", { onclick: async () => {
      const { value: to } = await request("POST", `/v1/me/providers/${encodeURIComponent(name)}`, { fresh: false });
      location.assign(to.url);
    } }, `Connect ${label}`))));
}

function password() {
  return h("section", { class: "card form" }, h("h2", null, "Password"), form({
    fields: [
      field({ name: "old", label: "The present one", kind: "password", required: true, autocomplete: "current-password" }),
      field({ name: "new", label: "The new one", kind: "password", required: true, autocomplete: "new-password" }),
      field({ name: "again", label: "The same again", kind: "password", required: true, autocomplete: "new-password" }),
    ],
    action: "Change it",
    submit: async (values) => {
      if (values.new !== values.again) throw new Refusal(0, { detail: "the two new passwords differ" });
      await request("POST", "/v1/me/password", { body: { old: values.old, new: values.new }, fresh: false });
      toast("Changed; other browsers are signed out.");
      show();
    },
  }));
}

export async function accountPage() {
  const me = await who();
  return h("div", null, h("div", { class: "head" }, h("h1", null, "Settings")), await devices(), await sessions(),
    me.is_admin ? [await providers(), await keys()] : null, await connections(), password());
}
