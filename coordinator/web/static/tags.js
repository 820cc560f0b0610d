// Tags: words by which nodes are found, and by which a network says who sees whom.

import { h } from "./dom.js";

/** What was typed as tags. */
export function splitTags(text) {
  return (text ?? "").toLowerCase().split(/[\s,#]+/).filter(Boolean);
}

/** Tags as elements; with `onclick(tag)` they are buttons, whose `key` keeps the focus through a redraw. */
export function tagList(tags, { onclick, key = "" } = {}) {
  return (tags ?? []).map((tag) => (onclick
    ? h("button", { class: "tag", "data-key": `tag ${key} ${tag}`, "aria-label": `Nodes tagged ${tag}`, onclick: () => onclick(tag) }, tag)
    : h("span", { class: "tag" }, tag)));
}
