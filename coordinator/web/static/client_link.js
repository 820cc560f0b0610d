// Where a link to a client's file leads: the file, once. Nobody is signed in here.

import { h, replace } from "./dom.js";
import { request, Refusal } from "./api.js";
import { refusal } from "./dialogs.js";

function given(card, name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
  replace(card, h("h1", { tabindex: "-1" }, "Your WireGuard file"),
    h("p", null, "Save it and open it in the WireGuard app, or put it where wg-quick finds it. The link is used up: this page is the only place that has the file."),
    h("p", null, h("a", { class: "button", href: address, download: name }, `Save ${name}`)),
    h("pre", { class: "file", tabindex: "0", "aria-label": "The file" }, text));
}

/** The secret stands behind the #, so that it was sent to nobody yet. */
export function clientLinkPage() {
  const card = h("div", { class: "card narrow" });
  const link = location.hash.slice(1);
  const fetchIt = async () => {
    try {
      const { value } = await request("POST", "/v1/client-file", { body: { link }, fresh: false });
      history.replaceState(null, "", "/client");
      given(card, "wgpy.conf", value);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      replace(card, h("h1", { tabindex: "-1" }, "Your WireGuard file"), refusal(error));
    }
  };
  return replace(card, h("h1", null, "Your WireGuard file"),
    h("p", null, "It lets this device into a network, and can be fetched once. Do it on the device that will use it."),
    h("button", { onclick: fetchIt, autofocus: true }, "Get the file"));
}
