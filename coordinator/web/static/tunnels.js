// What both ends of a tunnel say, in words and figures.

import { badge, facts, h } from "./dom.js";
import { list } from "./api.js";
import { ago, instant, size, speed } from "./text.js";

const STATES = { up: ["up", "good"], down: ["down", "bad"], disputed: ["ends differ", "fair"], unknown: ["not known", ""] };
const ORDER = { down: 0, disputed: 1, unknown: 2, up: 3 };
const WAYS = { direct: "direct", lan: "same network", relayed: "relayed", none: "no path" };

const byName = new Intl.Collator(undefined, { numeric: true }).compare;

/** A pair as the page has it: the end whose name comes first is `a`. */
function named(pair) {
  const turned = byName(pair.a_name, pair.b_name) <= 0 ? pair : { ...pair, a: pair.b, b: pair.a, a_name: pair.b_name, b_name: pair.a_name };
  return { ...turned, ends: pair.ends.length > 1 && pair.ends[0].from !== turned.a ? [...pair.ends].reverse() : pair.ends };
}

/** All pairs of a network, or of one node. */
export async function getTunnels(network, query = {}) {
  return (await list("tunnels", ["networks", network, "tunnels"], { limit: 1000, ...query }, 25_000)).map(named);
}

const WHOLE_EVERY = 600_000;

/** The tunnels of a network as they move: all of them at first, then what is new. */
export class TunnelFeed {
  #known = new Map(); #at = null; #wholeAt = -Infinity;

  constructor(network) {
    this.network = network;
  }

  /** All pairs, up to date; `nodes` are those of the network now. */
  async refresh(nodes) {
    const isWhole = this.#at === null || performance.now() - this.#wholeAt > WHOLE_EVERY;
    const query = { limit: 1000, ...(isWhole ? {} : { since: this.#at }) };
    let at = null;
    const found = await list("tunnels", ["networks", this.network, "tunnels"], query, 25_000, (answer) => { at ??= answer.at; });
    if (isWhole) { this.#known.clear(); this.#wholeAt = performance.now(); }
    for (const pair of found) this.#known.set(`${pair.a}.${pair.b}`, named(pair));
    this.#at = at;
    const online = new Map(nodes.map((node) => [node.id, node.online]));
    for (const [key, pair] of this.#known) {
      if (!online.has(pair.a) || !online.has(pair.b)) this.#known.delete(key);
      else if (pair.ends.some((end) => end.stale === online.get(end.from))) this.#known.set(key, aged(pair, online));
    }
    return [...this.#known.values()];
  }
}

/** The same once somebody came or went: what is said by who is offline is stale (as the API has it, §9 of docs/wire.md). */
function aged(pair, online) {
  const ends = pair.ends.map((end) => ({ ...end, stale: !online.get(end.from) }));
  const words = new Set(ends.filter((end) => !end.stale).map((end) => end.path !== "none"));
  return { ...pair, ends, state: words.size === 2 ? "disputed" : words.size === 0 ? "unknown" : words.has(true) ? "up" : "down" };
}

/** The ends that count: what a node said that is offline by now counts only where nobody else speaks. */
function speaking(pair) {
  const fresh = pair.ends.filter((end) => !end.stale);
  return fresh.length ? fresh : pair.ends;
}

/** "alice – bob". */
export function titleOf(pair) {
  return `${pair.a_name} – ${pair.b_name}`;
}

export function endOf(pair, id) {
  return pair.ends.find((end) => end.from === id);
}

/** The path in the words of those who speak: "direct", "direct / relayed". */
export function pathText(pair) {
  return [...new Set(speaking(pair).map((end) => WAYS[end.path] ?? end.path))].join(" / ");
}

/** What somebody should look at. */
export const isTrouble = (pair) => pair.state === "down" || pair.state === "disputed";

/** One of direct, lan, relayed, none, disputed, unknown: how the line is drawn. */
export function lineOf(pair) {
  if (pair.state !== "up") return pair.state === "down" ? "none" : pair.state;
  const paths = speaking(pair).map((end) => end.path);
  return paths.includes("relayed") ? "relayed" : paths.includes("direct") ? "direct" : "lan";
}

/** Milliseconds, the shorter of the two: one path, and what is on top is work at an end. */
export function rttOf(pair) {
  const known = speaking(pair).map((end) => end.rtt_ms).filter((rtt) => rtt !== null);
  return known.length ? Math.min(...known) : null;
}

export function rttText(rtt) {
  return rtt === null || rtt === undefined ? "" : `${rtt >= 10 ? Math.round(rtt) : rtt.toPrecision(2)} ms`;
}

export function handshakeOf(pair) {
  const known = speaking(pair).map((end) => end.latest_handshake_at).filter((at) => at !== null);
  return known.length ? Math.max(...known) : null;
}

export function reasonsOf(pair) {
  return [...new Set(speaking(pair).map((end) => end.reason).filter(Boolean))].join("; ");
}

export function stateBadge(pair) {
  return badge(...(STATES[pair.state] ?? [pair.state, ""]));
}

export function stateText(pair) {
  return (STATES[pair.state] ?? [pair.state])[0];
}

/** What needs a look comes first, then by name. */
export function inOrder(pairs) {
  return [...pairs].sort((one, other) => ORDER[one.state] - ORDER[other.state]
    || byName(one.a_name, other.a_name) || byName(one.b_name, other.b_name));
}

/** Octets a second, from what each end says from one time to the next. */
export class Rates {
  #known = new Map();

  update(pairs) {
    const next = new Map();
    for (const pair of pairs) {
      for (const end of pair.ends) {
        const key = `${pair.a}.${pair.b}.${end.from}`;
        const before = this.#known.get(key);
        const passed = before ? end.at - before.at : 0;
        const rate = (name) => Math.max(0, (end[name] - before[name]) / passed);
        next.set(key, passed > 0 ? { ...end, rx: rate("rx_bytes"), tx: rate("tx_bytes") }
          : before ?? { ...end, rx: null, tx: null });
      }
    }
    this.#known = next;
  }

  /** From one to the other: what arrives there, else what is sent here; null while it is not known. */
  flow(pair, from) {
    const to = from === pair.a ? pair.b : pair.a;
    const of = (id) => this.#known.get(`${pair.a}.${pair.b}.${id}`);
    return of(to)?.rx ?? of(from)?.tx ?? null;
  }

  total(pair) {
    return (this.flow(pair, pair.a) ?? 0) + (this.flow(pair, pair.b) ?? 0);
  }
}

/** What one end says of the tunnel. */
function endFacts(pair, id, name) {
  const end = endOf(pair, id);
  if (!end) return h("section", { class: "said" }, h("h3", null, `${name} says`), h("p", { class: "quiet" }, "Nothing yet."));
  return h("section", { class: "said" }, h("h3", null, `${name} says`, end.stale ? h("span", { class: "quiet" }, " (offline by now)") : null),
    facts([
      ["Path", WAYS[end.path] ?? end.path], ["Why", end.reason], ["Endpoint", end.endpoint ? h("span", { class: "mono" }, end.endpoint) : null],
      ["Tried", end.tried.length ? end.tried.map((each) => h("div", null, each)) : null], ["Next try", end.next_try_at === null ? null : instant(end.next_try_at)],
      ["Round trip", rttText(end.rtt_ms)], ["Handshake", ago(end.latest_handshake_at)],
      ["Received", size(end.rx_bytes)], ["Sent", size(end.tx_bytes)], ["Told", ago(end.at)],
    ]));
}

/** Both ends of one tunnel. */
export function bothEnds(pair) {
  return h("div", { class: "ends" }, endFacts(pair, pair.a, pair.a_name), endFacts(pair, pair.b, pair.b_name));
}

/** "↑ 1.2 MB/s  ↓ 3 kB/s" as seen from one node; "" while nothing moves. */
export function flowText(pair, rates, from) {
  const to = from === pair.a ? pair.b : pair.a;
  const out = rates.flow(pair, from), back = rates.flow(pair, to);
  return [out === null ? null : `↑ ${speed(out)}`, back === null ? null : `↓ ${speed(back)}`].filter(Boolean).join("  ");
}
