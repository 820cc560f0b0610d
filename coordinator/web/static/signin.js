// Signing in, and the first set-up by the link that the coordinator printed.

import { h, replace } from "./dom.js";
import { request, Refusal } from "./api.js";
import { field, form, refusal } from "./dialogs.js";
import { go } from "./router.js";
import { forget } from "./session.js";

const NAME = { name: "name", label: "Name", required: true, autocomplete: "username", autocapitalize: "off", spellcheck: "false" };

function enter() {
  forget();
  const next = new URLSearchParams(location.search).get("next") ?? "/";
  return go(/^\/(?!\/)/.test(next) ? next : "/", { replace: true });
}

const REFUSED = {
  not_admitted: "You are signed in there, but nobody here is known by that account: ask an admin to add your e-mail address.",
  kept_out: "An admin of this coordinator keeps this account out.",
  provider_failed: "The provider did not answer as it should. Try again; the coordinator's log says more.",
  sign_in_lost: "That sign-in was begun in another browser, at another address or over ten minutes ago: begin again.",
  taken: "That account belongs to somebody else here.",
  unauthorized: "You were signed out meanwhile: sign in, then connect the account again.",
  not_found: "There is no such provider here any more.",
  rate_limited: "Too many attempts to sign in: wait a little.",
};

/** Buttons that lead to the providers; nothing where there are none. */
function providerLinks(providers, next) {
  if (!providers.length) return null;
  return h("div", { class: "ways" }, providers.map(({ name, label }) =>
    h("a", { class: "button", href: `/v1/oidc/${encodeURIComponent(name)}/begin?next=${encodeURIComponent(next)}` }, `Continue with ${label}`)),
  h("p", { class: "or" }, h("span", null, "or")));
}

export async function signInPage() {
  const query = new URLSearchParams(location.search), refused = query.get("refused");
  const { value } = await request("GET", "/v1/sign-in");
  return h("div", { class: "card narrow" }, h("h1", null, "Sign in"),
    refused ? refusal(new Error(REFUSED[refused] ?? "That did not work: try again.")) : null,
    providerLinks(value.providers, query.get("next") ?? "/"),
    form({
      fields: [field({ ...NAME, autofocus: !value.providers.length }), field({ name: "password", label: "Password", kind: "password", required: true, autocomplete: "current-password" })],
      action: "Sign in",
      submit: async (values) => { await request("POST", "/v1/sign-in", { body: values, fresh: false }); await enter(); },
    }),
    h("p", { class: "quiet" }, "No way in? On the coordinator's host, ", h("code", null, "wgpy coordinator setup-link"), " prints one."));
}

export async function setupPage() {
  const secret = location.hash.slice(1);
  const card = h("div", { class: "card narrow" });
  let link;
  try {
    if (!secret) throw new Refusal(0, { detail: "this address lacks the part behind #: copy the whole link that the coordinator printed" });
    link = (await request("POST", "/v1/setup/look", { body: { secret }, fresh: false })).value;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return replace(card, h("h1", null, "Set-up link"), refusal(error), h("p", null, h("a", { href: "/sign-in" }, "Sign in")));
  }
  const again = field({ name: "again", label: "The same again", kind: "password", required: true, autocomplete: "new-password" });
  return replace(card,
    h("h1", null, link.name ? "A new password" : "Welcome"),
    h("p", null, link.name ? `For ${link.name}.` : "You are the first here: choose how you will sign in from now on."),
    form({
      fields: [
        link.name ? null : field({ ...NAME, autofocus: true }),
        field({ name: "password", label: "Password", kind: "password", required: true, autocomplete: "new-password", autofocus: Boolean(link.name), hint: "A few words that only you would put together." }),
        again,
      ],
      action: link.name ? "Set the password" : "Begin",
      submit: async ({ name, password, again: repeated }) => {
        if (password !== repeated) throw new Refusal(0, { detail: "the two passwords differ" });
        await request("POST", "/v1/setup", { body: { secret, password, name: link.name ?? name }, fresh: false });
        history.replaceState(null, "", "/setup");
        await enter();
      },
    }));
}
