// What eyes.py asks of a page: colours as Chromium computed them, through every half-transparent layer.
({
  contrasts() {
    const canvas = new OffscreenCanvas(1, 1), pen = canvas.getContext("2d", { willReadFrequently: true });
    const known = new Map();
    const rgba = (text) => {  // any CSS colour, as the browser paints it
      if (!known.has(text)) {
        pen.clearRect(0, 0, 1, 1); pen.fillStyle = text; pen.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
        known.set(text, [r, g, b, a / 255]);
      }
      return known.get(text);
    };
    const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
    const line = (value) => { const c = value / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
    const light = ([r, g, b]) => 0.2126 * line(r) + 0.7152 * line(g) + 0.0722 * line(b);
    const ratio = (one, other) => {
      const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
      return (high + 0.05) / (low + 0.05);
    };
    const bottom = over(rgba(getComputedStyle(document.documentElement).backgroundColor), [255, 255, 255, 1]);
    const opacity = (element) => {
      let found = 1;
      for (let at = element; at; at = at.parentElement) found *= Number(getComputedStyle(at).opacity);
      return found;
    };
    const ground = (element) => {  // what stands behind its text
      const layers = [];
      for (let at = element; at; at = at.parentElement) {
        const colour = rgba(getComputedStyle(at).backgroundColor);
        if (colour[3] > 0) layers.push(colour);
        if (colour[3] === 1) break;
        if (at.matches("dialog")) break;
      }
      return layers.reduceRight((below, above) => over(above, below), bottom);
    };
    const modal = [...document.querySelectorAll("dialog[open]")].at(-1);
    const isSeen = (element) => (!modal || modal.contains(element) || element.closest("#toasts"))
      && element.checkVisibility({ opacityProperty: true, visibilityProperty: true, contentVisibilityAuto: true })
      && !element.closest(".visually-hidden, :disabled, [aria-disabled=true], noscript, option");
    const isClipped = (element) => {
      for (let at = element; at; at = at.parentElement) if (getComputedStyle(at).clipPath === "inset(50%)") return true;
      return false;
    };
    const found = [];
    const note = (element, text, colour, behind, needed) => {
      const got = ratio(over([colour[0], colour[1], colour[2], colour[3] * opacity(element)], behind), behind);
      found.push([got, needed, `${element.tagName.toLowerCase()}.${element.getAttribute("class") ?? ""}`, text.trim().slice(0, 40)]);
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode, element = text.parentElement;
      if (!text.data.trim() || !isSeen(element) || isClipped(element)) continue;
      const box = document.createRange(); box.selectNodeContents(text);
      const { width, height } = box.getBoundingClientRect();
      if (!width || !height) continue;
      const style = getComputedStyle(element), size = parseFloat(style.fontSize);
      const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      const colour = element instanceof SVGElement ? style.fill : style.color;
      note(element, text.data, rgba(colour), ground(element), isLarge ? 3 : 4.5);
    }
    for (const element of document.querySelectorAll("input, select, textarea")) {
      if (!isSeen(element)) continue;
      const style = getComputedStyle(element);
      note(element, element.value, rgba(style.color), ground(element), 4.5);
      if (element.placeholder) note(element, element.placeholder, rgba(getComputedStyle(element, "::placeholder").color), ground(element), 4.5);
      if (!element.matches("[type=checkbox]")) note(element, "its border", rgba(style.borderTopColor), ground(element.parentElement), 3);
    }
    for (const element of document.querySelectorAll("svg.graph .line:not(.lan, .bundle), svg.graph .dot, .legend .line:not(.lan)")) {
      if (!isSeen(element) || element.closest(".marking")) continue;
      const style = getComputedStyle(element);
      note(element, "its stroke", rgba(element.matches(".dot") && style.fill !== "none" && !element.closest(".offline") ? style.fill : style.stroke), ground(element.closest("svg")), 3);
    }
    return found;
  },

  wide() {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    return [...document.querySelectorAll("main *, #bar *, dialog *")]
      .filter((element) => element.getBoundingClientRect().right > width + 1 && !element.closest("table.stack thead, svg"))
      .map((element) => `${element.tagName.toLowerCase()}.${element.getAttribute("class") ?? ""}`).slice(-5);
  },

  stops() {
    const modal = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;
    const all = [...modal.querySelectorAll("a[href], button, input, select, summary, textarea, [tabindex='0']")]
      .filter((element) => !element.disabled && element.checkVisibility({ visibilityProperty: true }) && element.tabIndex >= 0
        && !element.closest(".panel")); // it follows what has the focus: test_mesh.py walks it
    all.forEach((element, i) => { element.dataset.stop = i; });
    return all.map((element) => `${element.tagName.toLowerCase()} ${element.getAttribute("aria-label") ?? element.textContent.trim().slice(0, 40)}`);
  },

  focused() {
    const element = document.activeElement;
    if (!element || element === document.body) return null;
    const style = getComputedStyle(element), ring = element.querySelector?.(".ring");
    const isShown = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2)
      || Boolean(ring && getComputedStyle(ring).stroke !== "none");
    const box = element.getBoundingClientRect();
    return { stop: element.dataset.stop ?? null, isShown, width: box.width, height: box.height };
  },
})
