// Elements from values. Text is always text here: nothing in this page parses markup that came over the wire.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.setAttribute("class", value);
    else if (name in element && typeof value !== "string" && !(element instanceof SVGElement)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** An HTML element: h("a", { href, class, onclick }, "text", child, [more]). */
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same for SVG. */
export function svg(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

/** Put these in place of what is inside. */
export function replace(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** Replace what is inside, and put the focus back where it was. */
export function redraw(element, ...children) {
  const key = element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  replace(element, ...children);
  if (key) element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

/** A table whose rows become cards on a narrow screen. `columns`: [heading, class?]; `rows`: arrays of cells. */
export function table(caption, columns, rows) {
  const head = columns.map(([name, kind]) => h("th", { scope: "col", class: kind }, name));
  const body = rows.map((cells) =>
    h("tr", null, cells.map((cell, i) => h("td", { class: columns[i][1], "data-label": columns[i][0] }, cell))));
  return h("div", { class: "table" },
    h("table", { class: "stack" }, h("caption", { class: "visually-hidden" }, caption),
      h("thead", null, h("tr", null, head)), h("tbody", null, body)));
}

/** Terms and what they are: [term, value] pairs, without those that have no value. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return h("dl", { class: "facts" }, shown.map(([term, value]) => [h("dt", null, term), h("dd", null, value)]));
}

/** A small word in a coloured pill; the word says it, the colour only repeats it. */
export function badge(text, kind) {
  return h("span", { class: kind ? `badge ${kind}` : "badge" }, text);
}
