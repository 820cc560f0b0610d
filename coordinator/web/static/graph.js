// The mesh as a picture: nodes where layout.js puts them, a line for each tunnel. It shows what it is given and tells
// what was pointed at; what that means is the page's (mesh.js).

import { replace, svg } from "./dom.js";
import { arrange, fit, lengthOf } from "./layout.js";
import { isTrouble, lineOf, rttOf, rttText } from "./tunnels.js";

const SINGLE_LINES = 400; // more tunnels than that are drawn as one path of each kind
const LABELLED_LINES = 15;
const LABELLED_NODES = 60;
const MOVE_TIME = 350;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export const keyOf = (pair) => `${pair.a}.${pair.b}`;

export class Graph {
  #nodes = []; #pairs = []; #rates = null; #counts = new Map(); #places = new Map(); #shape = "";
  #at = new Map(); #circles = new Map(); #marked = null; #current = null; #found = null;
  #size = { width: 800, height: 480 }; #move = 0;

  /** `onpoint(what, left)`: pointed at or focused, or null and what it was left for; `onchoose(what)`: clicked. `what` is { node }, { pair } or null. */
  constructor({ onpoint, onchoose }) {
    this.lines = svg("g", { class: "lines", "aria-hidden": "true" });
    this.dots = svg("g", { class: "dots" });
    this.element = svg("svg", { class: "graph", role: "group", tabindex: "-1" }, this.lines, this.dots);
    const at = (event) => this.#what(event.target);
    this.element.addEventListener("pointerover", (event) => { const what = at(event); if (what) onpoint(what); });
    this.element.addEventListener("pointerleave", (event) => onpoint(null, event.relatedTarget));
    this.element.addEventListener("focusin", (event) => { const what = at(event); if (what) { this.#rove(what.node); onpoint(what); } });
    this.element.addEventListener("focusout", (event) => onpoint(null, event.relatedTarget));
    this.element.addEventListener("click", (event) => onchoose(at(event)));
    this.element.addEventListener("keydown", (event) => this.#key(event, onchoose));
    new ResizeObserver(([{ contentRect: { width, height } }]) => {
      if (!width || !height) return;
      this.#size = { width, height };
      this.#settle(false);
    }).observe(this.element);
  }

  #what(target) {
    const node = target.closest?.("[data-node]")?.dataset.node, pair = target.closest?.("[data-pair]")?.dataset.pair;
    return node ? { node } : pair ? { pair } : null;
  }

  /** Show these. `found` is a set of ids that a search found, null without one. */
  show(nodes, pairs, rates, found = null) {
    [this.#nodes, this.#rates, this.#found] = [nodes, rates, found];
    const index = new Map(nodes.map((node, i) => [node.id, i]));
    this.#pairs = pairs.filter((pair) => index.has(pair.a) && index.has(pair.b));
    this.#counts = new Map(nodes.map((node) => [node.id, { all: 0, up: 0, isTroubled: false }]));
    for (const pair of this.#pairs) for (const count of [this.#counts.get(pair.a), this.#counts.get(pair.b)]) {
      count.all += 1;
      if (pair.state === "up") count.up += 1;
      if (isTrouble(pair)) count.isTroubled = true;
    }
    const lengths = new Map(this.#pairs.map((pair) => {
      const [i, j] = [index.get(pair.a), index.get(pair.b)];
      return [Math.max(i, j) * nodes.length + Math.min(i, j), lengthOf(pair.state === "up", rttOf(pair))];
    }));
    const shape = JSON.stringify([nodes.map((node) => node.id), [...lengths]]);
    const isNew = shape !== this.#shape;
    if (isNew) {
      this.#shape = shape;
      const between = (i, j) => lengths.get(Math.max(i, j) * nodes.length + Math.min(i, j)) ?? null;
      this.#places = arrange(nodes.map((node) => node.id), between, this.#places);
    }
    this.#settle(isNew);
  }

  /** What stands out: { node } or { pair }, or null. */
  mark(what) {
    if (JSON.stringify(what) === JSON.stringify(this.#marked)) return;
    this.#marked = what;
    this.#draw();
  }

  focus(node) {
    this.#circles.get(node)?.focus();
  }

  // --- where things are ---

  #settle(isMoving) {
    const { width, height } = this.#size;
    const goal = fit(this.#places, width, height, { x: Math.min(90, width / 6), y: 48 });
    const start = this.#at;
    cancelAnimationFrame(this.#move);
    if (!isMoving || calm.matches || !start.size || goal.size > LABELLED_NODES) {
      this.#at = goal;
      this.#draw();
      return;
    }
    const began = performance.now();
    const step = (now) => {
      const passed = Math.min(1, (now - began) / MOVE_TIME), eased = 1 - (1 - passed) ** 3;
      this.#at = new Map([...goal].map(([id, to]) => {
        const from = start.get(id) ?? to;
        return [id, { x: from.x + (to.x - from.x) * eased, y: from.y + (to.y - from.y) * eased }];
      }));
      this.#draw();
      if (passed < 1) this.#move = requestAnimationFrame(step);
    };
    this.#move = requestAnimationFrame(step);
  }

  // --- drawing ---

  #near(pair) {
    const marked = this.#marked;
    return marked?.node ? pair.a === marked.node || pair.b === marked.node : marked?.pair === keyOf(pair);
  }

  #draw() {
    const { width, height } = this.#size;
    this.element.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.element.classList.toggle("marking", Boolean(this.#marked));
    this.element.classList.toggle("crowded", this.#nodes.length > LABELLED_NODES);
    const isSingle = this.#pairs.length <= SINGLE_LINES;
    const loud = this.#pairs.filter((pair) => isSingle || this.#near(pair) || isTrouble(pair));
    const quiet = isSingle ? [] : this.#pairs.filter((pair) => !isTrouble(pair));
    replace(this.lines, this.#bundles(quiet), loud.slice(0, 2 * SINGLE_LINES).map((pair) => this.#line(pair)));
    this.#drawNodes();
  }

  #bundles(pairs) {
    const kinds = new Map();
    for (const pair of pairs) {
      const a = this.#at.get(pair.a), b = this.#at.get(pair.b), kind = lineOf(pair);
      if (!a || !b) continue;
      if (!kinds.has(kind)) kinds.set(kind, []);
      kinds.get(kind).push(`M${a.x.toFixed(1)} ${a.y.toFixed(1)}L${b.x.toFixed(1)} ${b.y.toFixed(1)}`);
    }
    return [...kinds].map(([kind, lines]) => svg("path", { class: `line bundle ${kind}`, d: lines.join("") }));
  }

  #line(pair) {
    const a = this.#at.get(pair.a), b = this.#at.get(pair.b);
    if (!a || !b) return null;
    const ends = { x1: a.x, y1: a.y, x2: b.x, y2: b.y }, kind = lineOf(pair), isNear = this.#near(pair);
    const rate = this.#rates?.total(pair) ?? 0, width = 1.6 + Math.min(4, Math.log10(1 + rate / 1000) * 1.3);
    const isBusy = rate > 10_000 && pair.state === "up";
    const isBack = (this.#rates?.flow(pair, pair.b) ?? 0) > (this.#rates?.flow(pair, pair.a) ?? 0);
    return svg("g", { class: `tunnel ${isNear ? "near" : ""}`, "data-pair": keyOf(pair) },
      svg("line", { class: "hit", ...ends }),
      kind === "lan" ? svg("line", { class: "line lan-edge", ...ends, "stroke-width": width + 3.4 }) : null,
      svg("line", { class: `line ${kind}`, ...ends, "stroke-width": width }),
      isBusy ? svg("line", { class: isBack ? "flow back" : "flow", ...ends, "stroke-width": width }) : null,
      this.#label(pair, a, b, kind, isNear));
  }

  #label(pair, a, b, kind, isNear) {
    const wanted = this.#pairs.length <= LABELLED_LINES || (isNear && this.#marked?.pair) || (isNear && this.#nodes.length <= 40);
    const sign = { none: "✕", disputed: "?", unknown: "·" }[kind];
    const words = [sign, wanted && kind === "relayed" ? "relayed" : null, wanted && kind === "lan" ? "lan" : null,
      wanted && pair.state === "up" ? rttText(rttOf(pair)) : null].filter(Boolean).join(" ");
    if (!words) return null;
    const part = this.#marked?.node === pair.b ? 0.42 : 0.58;
    return svg("text", { class: `label ${kind}`, x: a.x + (b.x - a.x) * part, y: a.y + (b.y - a.y) * part, dy: ".32em" }, words);
  }

  #drawNodes() {
    const shown = new Set(this.#nodes.map((node) => node.id));
    for (const [id, circle] of this.#circles) if (!shown.has(id)) { circle.remove(); this.#circles.delete(id); }
    const marked = this.#marked, pairEnds = marked?.pair?.split(".") ?? [];
    const beside = new Set(this.#pairs.filter((pair) => this.#near(pair)).flatMap((pair) => [pair.a, pair.b]));
    if (!shown.has(this.#current)) this.#current = this.#nodes[0]?.id ?? null;
    for (const node of this.#nodes) {
      const at = this.#at.get(node.id);
      if (!at) continue;
      let group = this.#circles.get(node.id);
      if (!group) {
        group = svg("g", { "data-node": node.id, role: "button" },
          svg("circle", { class: "hit", r: 18 }), svg("circle", { class: "ring", r: 12 }), svg("circle", { class: "dot", r: 8 }), svg("text", { y: 26 }));
        this.#circles.set(node.id, group);
        this.dots.append(group);
      }
      const { all, up, isTroubled } = this.#counts.get(node.id);
      const isMarked = marked?.node === node.id || pairEnds.includes(node.id);
      group.setAttribute("class", ["node", node.online ? "online" : "offline", isMarked ? "marked" : "", beside.has(node.id) ? "beside" : "",
        isTroubled ? "troubled" : "", this.#found && !this.#found.has(node.id) ? "missed" : this.#found ? "found" : ""].filter(Boolean).join(" "));
      group.setAttribute("transform", `translate(${at.x.toFixed(1)} ${at.y.toFixed(1)})`);
      group.setAttribute("tabindex", node.id === this.#current ? "0" : "-1");
      group.setAttribute("aria-pressed", String(marked?.node === node.id));
      group.setAttribute("aria-label", `${node.name}, ${node.online ? "online" : "offline"}, ${up} of ${all} tunnels up`);
      const text = group.querySelector("text");
      if (text.textContent !== node.name) text.textContent = node.name;
    }
  }

  // --- by the keyboard: one stop for Tab, arrows go from node to node ---

  #rove(node) {
    if (!node || node === this.#current) return;
    this.#circles.get(this.#current)?.setAttribute("tabindex", "-1");
    this.#current = node;
    this.#circles.get(node)?.setAttribute("tabindex", "0");
  }

  #key(event, onchoose) {
    const node = this.#what(event.target)?.node;
    if (event.key === "Escape") onchoose(null);
    else if (!node) return;
    else if (event.key === "Enter" || event.key === " ") onchoose({ node });
    else if (ARROWS[event.key]) this.focus(this.#next(node, ARROWS[event.key]));
    else return;
    event.preventDefault();
  }

  #next(from, [dx, dy]) {
    const here = this.#at.get(from);
    let best = from, least = Infinity;
    for (const [id, at] of this.#at) {
      const ahead = (at.x - here.x) * dx + (at.y - here.y) * dy, aside = Math.abs((at.x - here.x) * dy) + Math.abs((at.y - here.y) * dx);
      if (id === from || ahead < 1) continue;
      const cost = ahead + 2 * aside;
      if (cost < least) { best = id; least = cost; }
    }
    return best;
  }
}
