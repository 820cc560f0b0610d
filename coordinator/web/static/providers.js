// OpenID providers by which people sign in: an admin's part of the settings.

import { badge, h, table } from "./dom.js";
import { getTagged, list, send } from "./api.js";
import { ask, confirm, copyable, field, tell, toast } from "./dialogs.js";
import { show } from "./router.js";

const ADMITS = [["known", "people who were added here, by their e-mail address"], ["everyone", "everyone it knows"]];
const ROLES = [["", "nothing"], ["viewer", "look"], ["member", "bring in own devices"], ["admin", "administer"]];

async function edit(known, networks) {
  const made = await ask(known ? `Change ${known.label}` : "New provider", {
    action: known ? "Save" : "Add",
    intro: h("p", { class: "quiet" }, "Any OpenID Connect provider: Keycloak, Authentik, Entra, Google and others. Register this coordinator there as a web client first."),
    fields: [
      known ? null : field({ name: "name", label: "Name", required: true, autofocus: true, autocapitalize: "off", spellcheck: "false", pattern: "[a-z0-9]([a-z0-9\\-]{0,61}[a-z0-9])?", hint: "Small letters, digits and hyphens." }),
      field({ name: "label", label: "What the button says", value: known?.label, required: true, hint: "“Continue with …”" }),
      field({ name: "issuer", label: "Issuer", kind: "url", value: known?.issuer, required: true, placeholder: "https://login.example.org/realms/company", hint: "Exactly as the provider writes it." }),
      field({ name: "client_id", label: "Client id", value: known?.client_id, required: true }),
      field({ name: "client_secret", label: "Client secret", kind: "password", hint: known?.has_secret ? "Left empty, the one that is known stays." : "Left empty: a public client." }),
      field({ name: "admits", label: "Lets in", kind: "select", options: ADMITS, value: known?.admits ?? "known" }),
      h("fieldset", null, h("legend", null, "Everyone may at first"), networks.length
        ? networks.map((one) => field({ name: `role ${one.id}`, label: `On ${one.name}`, kind: "select", options: ROLES, value: known?.roles[one.id] ?? "" }))
        : h("p", { class: "quiet" }, "There is no network yet.")),
    ],
    submit: async (values) => {
      const roles = Object.fromEntries(networks.map((one) => [one.id, values[`role ${one.id}`]]).filter(([, role]) => role));
      const { label, issuer, client_id, client_secret, admits } = values;
      const etag = known ? (await getTagged("providers", known.name)).etag : "*";
      const body = { label, issuer, client_id, admits, roles, ...(client_secret ? { client_secret } : {}) };
      return send("PUT", ["providers", known?.name ?? values.name], { body, etag });
    },
  });
  if (!made) return;
  if (!known) await tell(`${made.label} is set up`, h("p", null, "Allow this redirect URI for the client at the provider:"), made.redirect_uris.map((uri) => copyable(uri, "the redirect URI")));
  show();
}

export async function providers() {
  const [found, networks] = await Promise.all([list("providers", ["providers"]), list("networks", ["networks"])]);
  const rows = found.map((one) => [
    one.label, h("span", { class: "mono" }, one.issuer), h("span", { class: "mono" }, one.client_id),
    badge(one.admits === "everyone" ? "everyone" : "who was added"),
    h("span", { class: "row" }, h("button", { onclick: () => edit(one, networks) }, "Change"),
      h("button", { class: "danger", onclick: async () => {
        const done = await confirm(`Remove ${one.label}?`, { text: "Nobody comes in by it any more. Who did stays signed in until their session ends.", action: "Remove", submit: () => send("DELETE", ["providers", one.name]) });
        if (done) { toast("Removed."); show(); }
      } }, "Remove")),
  ]);
  return h("section", { class: "card" },
    h("div", { class: "head" }, h("h2", null, "Sign-in providers"), h("div", { class: "actions" }, h("button", { onclick: () => edit(null, networks) }, "Add a provider"))),
    rows.length ? table("Sign-in providers", [["Button"], ["Issuer"], ["Client"], ["Lets in"], ["", "end"]], rows)
      : h("p", { class: "quiet" }, "People can sign in at an OpenID provider that you have, in place of a password here."));
}
