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

const SINCE = [["", "since ever"], ["86400", "the last day"], ["604800", "the last week"], ["2592000", "the last 30 days"]];
const ABOUT = [["", "everything"], ["network", "networks"], ["node", "nodes"], ["join", "joins"], ["token", "tokens"], ["person", "people"], ["session", "sessions"], ["provider", "providers"], ["key", "API keys"]];

const options = (pairs) => pairs.map(([value, text]) => h("option", { value }, text));

export async function auditPage() {
  const found = h("div");
  const more = h("button", { onclick: () => load(false) }, "Older");
  const search = h("input", { type: "search", class: "search", placeholder: "Search by name, action or address", "aria-label": "Search the audit log", onchange: () => load(true) });
  const about = h("select", { "aria-label": "About what", onchange: () => load(true) }, options(ABOUT));
  const since = h("select", { "aria-label": "Since when", onchange: () => load(true) }, options(SINCE));
  const exports = [["csv", "as CSV"], ["ndjson", "as JSON lines"]].map(([form, text]) => [form, h("a", { class: "button", download: `audit.${form}` }, `Export ${text}`)]);
  let next = null, asked = 0;

  function wanted() {
    return new URLSearchParams({ ...(search.value ? { text: search.value } : {}), ...(about.value ? { action: about.value } : {}),
      ...(since.value ? { since: Math.floor(Date.now() / 1000 - Number(since.value)) } : {}) });
  }

  async function load(anew) {
    const query = wanted();
    for (const [form, link] of exports) link.href = `/v1/admin/audit/export?${new URLSearchParams([["format", form], ...query])}`;
    query.set("limit", PAGE);
    if (!anew && next) query.set("after", next);
    const mine = (asked += 1);
    const { value } = await request("GET", `/v1/admin/audit?${query}`);
    if (mine !== asked) return; // something else was asked for meanwhile
    const entries = value.entries.map(entry);
    if (anew) replace(found, entries.length ? entries : h("div", { class: "card empty" }, h("p", null, search.value || about.value || since.value ? "Nothing matches." : "Nothing has been changed yet.")));
    else found.append(...entries);
    next = value.next;
    more.hidden = !next;
  }

  await load(true);
  return h("div", null,
    h("div", { class: "head" }, h("h1", null, "Audit"), h("div", { class: "actions" }, search)),
    h("div", { class: "row filters" }, about, since, h("div", { class: "row end" }, exports.map(([, link]) => link))),
    found, more);
}
