// The mesh of one network, live: a graph, what both ends of a tunnel say, and the same as a table.

import { badge, h, redraw, svg, table } from "./dom.js";
import { get, list } from "./api.js";
import { follow } from "./live.js";
import { head } from "./network.js";
import { ago, counted, instant } from "./text.js";
import { bothEnds, flowText, handshakeOf, inOrder, isTrouble, pathText, Rates, reasonsOf, rttOf, rttText, stateBadge, titleOf, TunnelFeed } from "./tunnels.js";
import { Graph, keyOf } from "./graph.js";

const MOST_NODES = 200;
const MOST_ROWS = 100;
const MOST_LISTED = 24;

const LEGEND = [["direct", "direct"], ["lan", "same network"], ["relayed", "relayed"], ["none", "down"], ["disputed", "ends differ"], ["unknown", "not known"]];

function legend() {
  const sample = (kind) => svg("svg", { class: "sample", viewBox: "0 0 44 12", "aria-hidden": "true" },
    kind === "lan" ? svg("line", { class: "line lan-edge", x1: 2, y1: 6, x2: 42, y2: 6, "stroke-width": 5.4 }) : null,
    svg("line", { class: `line ${kind}`, x1: 2, y1: 6, x2: 42, y2: 6, "stroke-width": 2 }));
  return h("ul", { class: "legend", "aria-label": "Kinds of lines" }, LEGEND.map(([kind, text]) => h("li", null, sample(kind), text)));
}

/** At most so many nodes: those that were searched for and their neighbours, else those in trouble and the busiest. */
export function choose(nodes, pairs, rates, found, most = MOST_NODES) {
  if (nodes.length <= most) return nodes;
  const score = new Map(nodes.map((node) => [node.id, (node.online ? 1 : 0) + (found?.has(node.id) ? 1e15 : 0)]));
  const add = (id, value) => score.set(id, (score.get(id) ?? 0) + value);
  for (const pair of pairs) {
    const worth = (isTrouble(pair) ? 1e9 : 0) + Math.min(1e8, rates.total(pair));
    add(pair.a, worth + (found?.has(pair.b) ? 1e12 : 0));
    add(pair.b, worth + (found?.has(pair.a) ? 1e12 : 0));
  }
  const chosen = new Set([...nodes].sort((one, other) => score.get(other.id) - score.get(one.id)).slice(0, most).map((node) => node.id));
  return nodes.filter((node) => chosen.has(node.id));
}

export async function meshPage({ network: name }, signal) {
  const network = await get("networks", name);
  const rates = new Rates(), feed = new TunnelFeed(name);
  let nodes = [], pairs = [], ordered = [], byKey = new Map(), byId = new Map();
  let chosen = null, pointed = null, most = MOST_ROWS, shownPanel = null, isListedWhole = false;

  const search = h("input", { type: "search", class: "search", placeholder: "Find a node", "aria-label": "Find a node", oninput: () => draw(),
    onkeydown: (event) => { if (event.key === "Enter") { const first = nodes.find((node) => found()?.has(node.id)); if (first) select({ node: first.id }); } } });
  const only = h("select", { "aria-label": "Which tunnels", onchange: () => draw() },
    [["", "all tunnels"], ["trouble", "those in trouble"], ["up", "those that are up"]].map(([value, text]) => h("option", { value }, text)));
  const leave = (event) => { if (!panel.contains(event.relatedTarget)) point(null); };
  const panel = h("aside", { class: "card panel", "aria-label": "What is chosen", onpointerleave: leave, onfocusout: leave });
  const note = h("p", { class: "quiet note" });
  const rows = h("div");
  const graph = new Graph({ onpoint: (what, left) => { if (what || !panel.contains(left)) point(what); }, onchoose: (what) => select(what) });

  const found = () => {
    const wanted = search.value.trim().toLowerCase();
    return wanted ? new Set(nodes.filter((node) => [node.name, ...node.addresses].some((text) => text.toLowerCase().includes(wanted))).map((node) => node.id)) : null;
  };

  function select(what) {
    const isSame = JSON.stringify(what) === JSON.stringify(chosen);
    chosen = isSame ? null : what;
    pointed = null;
    isListedWhole = false;
    showPanel();
  }

  function point(what) {
    pointed = what;
    showPanel();
  }

  function showPanel() {
    const what = pointed ?? chosen, now = JSON.stringify([what, chosen]);
    graph.mark(what);
    if (now === shownPanel) return; // what is under the pointer is not replaced under a click
    shownPanel = now;
    redraw(panel, what?.node && byId.has(what.node) ? aboutNode(byId.get(what.node)) : what?.pair && byKey.has(what.pair) ? aboutPair(byKey.get(what.pair)) : aboutAll());
  }

  function aboutAll() {
    const count = (state) => pairs.filter((pair) => pair.state === state).length;
    const bad = ordered.filter(isTrouble);
    return [h("h2", null, "The whole mesh"),
      h("p", { class: "figures" }, h("strong", null, `${count("up")} of ${pairs.length}`), " tunnels are up"),
      h("p", { class: "quiet" }, `${counted(nodes.filter((node) => node.online).length, "node")} online of ${nodes.length}. Point at a node or a line, or choose it, to see what both its ends say.`),
      bad.length ? [h("h3", null, "In trouble"), listOf(bad)] : null];
  }

  function listOf(some, from) {
    const listed = isListedWhole ? some : some.slice(0, MOST_LISTED);
    return [h("ul", { class: "tunnels" }, listed.map((pair) => {
      const other = from === pair.a ? pair.b_name : pair.a_name, label = from ? other : titleOf(pair);
      return h("li", null, h("button", { class: "plain", "data-key": keyOf(pair), onclick: () => select({ pair: keyOf(pair) }),
        onfocus: () => graph.mark({ pair: keyOf(pair) }), onpointerenter: () => graph.mark({ pair: keyOf(pair) }) },
      h("span", { class: "who" }, label), stateBadge(pair), h("span", { class: "quiet" }, [pair.state === "up" ? pathText(pair) : null, rttText(rttOf(pair))].filter(Boolean).join(", "))));
    })), listed.length < some.length ? h("button", { "data-key": "all", onclick: () => { isListedWhole = true; shownPanel = null; showPanel(); } }, `Show all ${some.length}`) : null];
  }

  function aboutNode(node) {
    const mine = ordered.filter((pair) => pair.a === node.id || pair.b === node.id);
    const up = mine.filter((pair) => pair.state === "up").length;
    return [h("h2", null, h("a", { href: `/networks/${encodeURIComponent(name)}/nodes/${encodeURIComponent(node.name)}`, "data-key": "node" }, node.name), " ", badge(node.online ? "online" : "offline", node.online ? "good" : "")),
      h("p", { class: "mono" }, node.addresses.join(", ")),
      h("p", null, `${up} of ${counted(mine.length, "tunnel")} up.`), listOf(mine, node.id)];
  }

  function aboutPair(pair) {
    const flow = flowText(pair, rates, pair.a);
    return [h("h2", null, titleOf(pair), " ", stateBadge(pair)),
      pair.state === "disputed" ? h("p", null, "One end has a path and the other none: news may be on its way, or packets pass one way only.") : null,
      flow ? h("p", { class: "mono", "aria-label": `From ${pair.a_name} to ${pair.b_name} and back: ${flow}` }, flow) : null,
      bothEnds(pair),
      chosen ? h("button", { "data-key": "back", onclick: () => select(null) }, "Back to the whole mesh") : null];
  }

  function drawTable(wanted) {
    const matching = ordered.filter((pair) => (!wanted || wanted.has(pair.a) || wanted.has(pair.b))
      && (!only.value || (only.value === "up") === (pair.state === "up")));
    const cells = matching.slice(0, most).map((pair) => {
      const shaken = handshakeOf(pair);
      return [h("button", { class: "link", "data-key": `row ${keyOf(pair)}`, onclick: () => { select({ pair: keyOf(pair) }); panel.scrollIntoView({ block: "nearest" }); } }, titleOf(pair)),
        stateBadge(pair), pathText(pair), rttText(rttOf(pair)), h("span", { title: instant(shaken) }, shaken === null ? "" : ago(shaken)), flowText(pair, rates, pair.a), reasonsOf(pair)];
    });
    redraw(rows, table(`Tunnels of ${name}`, [["Tunnel", "short"], ["State"], ["Path", "short"], ["Round trip", "short"], ["Handshake", "short"], ["Traffic", "short"], ["Why"]], cells),
      matching.length ? null : h("p", { class: "empty" }, pairs.length ? "No tunnel matches." : "No node has told of a tunnel yet: they do some seconds after they come up."),
      matching.length > most ? h("button", { "data-key": "more", onclick: () => { most *= 4; draw(); } }, `Show more of ${matching.length}`) : null);
  }

  function draw() {
    const wanted = found(), shown = choose(nodes, pairs, rates, wanted);
    graph.show(shown, pairs, rates, wanted);
    note.textContent = shown.length < nodes.length
      ? `${shown.length} of ${nodes.length} nodes are drawn: ${wanted ? "what was found, and its neighbours" : "those in trouble, and the busiest"}. Find a node to see it with its neighbours.`
      : graph.isCrowd ? "Tunnels that are well are a haze, the darker the more of them: point at a node to see its own. What is in trouble is drawn." : "";
    const up = pairs.filter((pair) => pair.state === "up").length;
    graph.element.setAttribute("aria-label", `Graph of ${name}: ${counted(nodes.length, "node")}, ${up} of ${counted(pairs.length, "tunnel")} up. Arrow keys go from node to node; the table below has the same.`);
    shownPanel = null;
    showPanel();
    drawTable(wanted);
  }

  async function refresh() {
    nodes = await list("nodes", ["networks", name, "nodes"]);
    pairs = await feed.refresh(nodes);
    ordered = inOrder(pairs);
    byKey = new Map(pairs.map((pair) => [keyOf(pair), pair]));
    byId = new Map(nodes.map((node) => [node.id, node]));
    rates.update(pairs);
    draw();
  }

  await refresh();
  follow(name, refresh, signal, { tunnels: true });
  return h("div", null, head(network, "/mesh", search),
    nodes.length ? null : h("p", { class: "card empty" }, "No node yet: what joins appears here by itself."),
    h("div", { class: "mesh" }, h("div", { class: "card picture" }, graph.box, legend(), note), panel),
    h("section", { class: "card" }, h("div", { class: "head" }, h("h2", null, "Tunnels"), h("div", { class: "actions" }, only)), rows));
}

