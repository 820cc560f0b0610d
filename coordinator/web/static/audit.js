// Who changed what, when and from where.

import { facts, h, replace } from "./dom.js";
import { request } from "./api.js";
import { ago, instant } from "./text.js";

const PAGE = 50;

/** What differs between two readings of a thing: [name, before, after]. */
function differences(before, after) {
  const names = new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})]);
  return [...names].map((name) => [name, before?.[name], after?.[name]])
    .filter(([, was, is]) => JSON.stringify(was) !== JSON.stringify(is));
}

const shown = (value) => (value === undefined || value === null ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));

function entry(one) {
  const changed = differences(one.before, one.after);
  return h("details", { class: "card" },
    h("summary", null, h("strong", null, one.action), ` ${one.subject} `, h("span", { class: "quiet" }, `by ${one.actor}${one.address ? ` from ${one.address}` : ""}, `,
      h("time", { datetime: new Date(one.at * 1000).toISOString(), title: instant(one.at) }, ago(one.at)))),
    facts(changed.map(([name, was, is]) => [name, h("code", null, one.before ? (one.after ? `${shown(was)} → ${shown(is)}` : shown(was)) : shown(is))])));
}

export async function auditPage() {
  const found = h("div");
  const more = h("button", { onclick: () => load(false) }, "Older");
  const search = h("input", { type: "search", class: "search", placeholder: "Search by name, action or address", "aria-label": "Search the audit log", onchange: () => load(true) });
  let next = null;

  async function load(anew) {
    const query = new URLSearchParams({ limit: PAGE, ...(search.value ? { text: search.value } : {}), ...(!anew && next ? { after: next } : {}) });
    const { value } = await request("GET", `/v1/admin/audit?${query}`);
    const entries = value.entries.map(entry);
    if (anew) replace(found, entries.length ? entries : h("div", { class: "card empty" }, h("p", null, search.value ? "Nothing matches." : "Nothing has been changed yet.")));
    else found.append(...entries);
    next = value.next;
    more.hidden = !next;
  }

  await load(true);
  return h("div", null,
    h("div", { class: "head" }, h("h1", null, "Audit"), h("div", { class: "actions" }, search)),
    found, more);
}
