// What all pages of one network share: its tabs, which main.js fills, and the head.

import { h } from "./dom.js";
import { route } from "./router.js";

const tabs = [];

/** A page of each network: tab("/tokens", "Tokens", view) has it at /networks/NAME/tokens, with a place in the tabs. */
export function tab(path, text, view) {
  tabs.push([path, text]);
  route(`/networks/:network${path}`, view);
}

/** The address of a network, or of what is below it. */
export function placeOf(network, ...parts) {
  return ["", "networks", network, ...parts].map(encodeURIComponent).join("/");
}

/** The head that all pages of a network share. `current` is the path of the tab. */
export function head(network, current, ...actions) {
  return [
    h("div", { class: "crumbs" }, h("a", { href: "/" }, "Networks")),
    h("div", { class: "head" }, h("h1", null, network.name), h("div", { class: "actions" }, actions)),
    h("nav", { class: "tabs", "aria-label": `Pages of ${network.name}` }, h("ul", null, tabs.map(([path, text]) =>
      h("li", null, h("a", { href: placeOf(network.name) + path, "aria-current": path === current ? "page" : null }, text))))),
  ];
}
