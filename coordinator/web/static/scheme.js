// Light, dark, or as the system has it; remembered in this browser.

import { h } from "./dom.js";

const NAMES = { "": "System", light: "Light", dark: "Dark" };
const KEY = "wgpy-scheme";

function apply(value) {
  if (value) document.documentElement.dataset.scheme = value;
  else delete document.documentElement.dataset.scheme;
}

function remembered() {
  try { return localStorage.getItem(KEY) ?? ""; } catch { return ""; }
}

apply(remembered());

/** The control in the bar. */
export function scheme() {
  return h("label", null, h("span", { class: "visually-hidden" }, "Colours"),
    h("select", { onchange: (event) => {
      apply(event.target.value);
      try { localStorage.setItem(KEY, event.target.value); } catch { /* private window */ }
    } }, Object.entries(NAMES).map(([value, text]) => h("option", { value, selected: value === remembered() }, text))));
}
