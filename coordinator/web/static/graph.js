// The mesh as a picture: nodes where layout.js puts them, a line for each tunnel. It shows what it is given and tells
// what was pointed at; what that means is the page's (mesh.js).

import { h, replace, svg } from "./dom.js";
import { arrange, fit, lengthOf } from "./layout.js";
import { isTrouble, lineOf, rttOf, rttText } from "./tunnels.js";

const SINGLE_LINES = 400; // of more tunnels than that the healthy ones are a haze on a canvas
const SINGLE_NEAR = 60;
const LABELLED_LINES = 15;
const LABELLED_NODES = 60;
const MOVE_TIME = 350;
const BELOW = { x: 0, y: 26 };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export const keyOf = (pair) => `${pair.a}.${pair.b}`;

export class Graph {
  #nodes = []; #pairs = []; #rates = null; #counts = new Map(); #places = new Map(); #shape = "";
  #at = new Map(); #circles = new Map(); #drawn = new Map(); #marked = null; #current = null; #found = null;
  #size = { width: 800, height: 480 }; #move = 0;

  /** `onpoint(what, left)`: pointed at or focused, or null and what it was left for; `onchoose(what)`: clicked. `what` is { node }, { pair } or null. */
  constructor({ onpoint, onchoose }) {
    this.haze = h("canvas", { class: "haze", "aria-hidden": "true" });
    this.lines = svg("g", { class: "lines", "aria-hidden": "true" });
    this.near = svg("g", { class: "lines", "aria-hidden": "true" });
    this.dots = svg("g", { class: "dots" });
    this.element = svg("svg", { class: "graph", role: "group", tabindex: "-1" }, this.lines, this.near, this.dots);
    this.box = h("div", { class: "drawing" }, this.haze, this.element);
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
    const repaint = () => this.#paintHaze();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
    new MutationObserver(repaint).observe(document.documentElement, { attributeFilter: ["data-scheme"] });
  }

  /** Whether there are too many tunnels for a line each. */
  get isCrowd() {
    return this.#pairs.length > SINGLE_LINES;
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
    if (this.isCrowd) { this.#drawNear(); this.#drawNodes(); } else this.#draw();
  }

  focus(node) {
    this.#circles.get(node)?.focus();
  }

  // --- where things are ---

  #settle(isMoving) {
    const { width, height } = this.#size;
    const goal = fit(this.#places, width, height, { x: Math.min(90, width / 6), y: 48 }, { stretch: this.#nodes.length > LABELLED_NODES ? 1.7 : 1 });
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
    const loud = this.#pairs.filter((pair) => !this.isCrowd || isTrouble(pair));
    replace(this.lines, loud.slice(0, 2 * SINGLE_LINES).map((pair) => this.#line(pair)));
    this.#paintHaze();
    this.#drawNear();
    this.#drawNodes();
  }

  /** The tunnels of what is marked, above the haze. */
  #drawNear() {
    const near = this.isCrowd && this.#marked ? this.#pairs.filter((pair) => this.#near(pair) && !isTrouble(pair)) : [];
    replace(this.near, near.length > SINGLE_NEAR ? this.#bundles(near) : near.map((pair) => this.#line(pair)));
  }

  /** One path of each kind. */
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

  /** A canvas, painted when places or reports change and not when one points at something. */
  #paintHaze() {
    const { width, height } = this.#size, scale = Math.min(2, devicePixelRatio || 1);
    const pairs = this.isCrowd ? this.#pairs.filter((pair) => !isTrouble(pair)) : [];
    this.haze.hidden = !pairs.length;
    if (!pairs.length) return;
    [this.haze.width, this.haze.height] = [width * scale, height * scale];
    const pen = this.haze.getContext("2d");
    pen.scale(scale, scale);
    pen.globalAlpha = Math.max(0.014, Math.min(0.3, 70 / pairs.length));
    const kinds = new Map();
    for (const pair of pairs) {
      const kind = lineOf(pair), a = this.#at.get(pair.a), b = this.#at.get(pair.b);
      if (!a || !b) continue;
      if (!kinds.has(kind)) kinds.set(kind, this.#colourOf(kind));
      pen.strokeStyle = kinds.get(kind);
      pen.beginPath();
      pen.moveTo(a.x, a.y);
      pen.lineTo(b.x, b.y);
      pen.stroke(); // each by itself, so that where many pass it is darker
    }
  }

  #colourOf(kind) {
    const sample = svg("line", { class: `line ${kind === "lan" ? "lan-edge" : kind}` });
    this.lines.append(sample);
    const colour = getComputedStyle(sample).stroke;
    sample.remove();
    return colour;
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
    for (const [id, circle] of this.#circles) if (!shown.has(id)) { circle.remove(); this.#circles.delete(id); this.#drawn.delete(id); }
    const marked = this.#marked, pairEnds = marked?.pair?.split(".") ?? [];
    const beside = new Set(marked ? this.#pairs.filter((pair) => this.#near(pair)).flatMap((pair) => [pair.a, pair.b]) : []);
    if (!shown.has(this.#current)) this.#current = this.#nodes[0]?.id ?? null;
    const looks = this.#nodes.filter((node) => this.#at.has(node.id)).map((node) => {
      const isMarked = marked?.node === node.id || pairEnds.includes(node.id), isBeside = beside.has(node.id);
      const { isTroubled } = this.#counts.get(node.id), found = this.#found?.has(node.id);
      return { node, isMarked, isBeside, isTroubled, found };
    });
    const named = this.#named(looks);
    for (const { node, isMarked, isBeside, isTroubled, found } of looks) {
      const at = this.#at.get(node.id), { all, up } = this.#counts.get(node.id);
      const kinds = ["node", node.online ? "online" : "offline", isMarked ? "marked" : "", isBeside ? "beside" : "", isTroubled ? "troubled" : "",
        found === undefined ? "" : found ? "found" : "missed", named.has(node.id) ? "named" : ""].filter(Boolean).join(" ");
      const look = { class: kinds, transform: `translate(${at.x.toFixed(1)} ${at.y.toFixed(1)})`, tabindex: node.id === this.#current ? "0" : "-1",
        "aria-pressed": String(marked?.node === node.id), "aria-label": `${node.name}, ${node.online ? "online" : "offline"}, ${up} of ${all} tunnels up` };
      const group = this.#circles.get(node.id) ?? this.#newNode(node.id), before = this.#drawn.get(node.id) ?? {};
      for (const [name, value] of Object.entries(look)) if (before[name] !== value) group.setAttribute(name, value);
      const text = group.lastChild, { x, y } = named.get(node.id) ?? BELOW;
      if (text.textContent !== node.name) text.textContent = node.name;
      if (before.x !== x || before.y !== y) { text.setAttribute("x", x); text.setAttribute("y", y); }
      Object.assign(look, { x, y });
      this.#drawn.set(node.id, look);
    }
  }

  #newNode(id) {
    const group = svg("g", { "data-node": id, role: "button" },
      svg("circle", { class: "hit", r: 18 }), svg("circle", { class: "ring", r: 12 }), svg("circle", { class: "dot", r: 8 }), svg("text", { y: 26 }));
    this.#circles.set(id, group);
    this.dots.append(group);
    return group;
  }

  /** Whose names are written, and where beside the node: everybody's, or in a crowd as many as have room, those that matter first. */
  #named(looks) {
    if (looks.length <= LABELLED_NODES) return new Map(looks.map(({ node }) => [node.id, BELOW]));
    const worth = ({ isMarked, found, isTroubled, isBeside }) => (isMarked ? 8 : 0) + (found ? 4 : 0) + (isTroubled ? 2 : 0) + (isBeside ? 1 : 0);
    const taken = [], named = new Map(), dots = looks.map(({ node }) => this.#at.get(node.id));
    const apart = (one, other) => one.x2 < other.x1 || one.x1 > other.x2 || one.y2 < other.y1 || one.y1 > other.y2;
    const hidden = (box) => dots.filter((at) => at.x + 5 > box.x1 && at.x - 5 < box.x2 && at.y + 5 > box.y1 && at.y - 5 < box.y2).length;
    for (const look of [...looks].sort((one, other) => worth(other) - worth(one))) {
      const at = this.#at.get(look.node.id), half = 3.7 * look.node.name.length + 3;
      const places = [BELOW, { x: 0, y: -15 }, { x: half + 12, y: 5 }, { x: -half - 12, y: 5 }].map((by) => ({ by, box: {
        x1: at.x + by.x - half, x2: at.x + by.x + half, y1: at.y + by.y - 13, y2: at.y + by.y + 5 } }));
      const free = places.filter(({ box }) => taken.every((other) => apart(box, other)));
      const best = free.find(({ box }) => !hidden(box)) ?? (worth(look) > 1 ? free.sort((one, other) => hidden(one.box) - hidden(other.box))[0] : null)
        ?? (look.isMarked ? places[0] : null);
      if (!best) continue;
      taken.push(best.box);
      named.set(look.node.id, best.by);
    }
    return named;
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
