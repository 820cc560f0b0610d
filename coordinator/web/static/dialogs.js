// Questions, forms and short words to the one who looks at the page.

import { h, replace } from "./dom.js";
import { Refusal } from "./api.js";

/** A short word at the edge; it is read out and goes by itself. */
export function toast(text) {
  const element = h("div", { class: "toast" }, text);
  document.getElementById("toasts").append(element);
  setTimeout(() => element.remove(), 6000);
}

/** A refusal as an element. */
export function refusal(error) {
  return h("div", { class: "refusal", role: "alert" }, error.message);
}

function open(title, content, { onclose } = {}) {
  const heading = h("h2", { id: `dialog-${crypto.randomUUID()}` }, title);
  const dialog = h("dialog", { "aria-labelledby": heading.id }, heading, content);
  dialog.addEventListener("close", () => { dialog.remove(); onclose?.(dialog.returnValue); });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Show something until it is closed. */
export function tell(title, ...content) {
  const dialog = open(title, [content, h("div", { class: "actions" }, h("button", { class: "primary", onclick: () => dialog.close() }, "Done"))]);
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve()));
}

/** One field of a form. Kinds: text (default), password, number, select, tick. */
export function field(spec) {
  const { name, label, kind = "text", value, hint, options, ...rest } = spec;
  const id = `field-${name}-${crypto.randomUUID().slice(0, 8)}`;
  const attributes = { id, name, "aria-describedby": hint ? `${id}-hint` : undefined, ...rest };
  let control;
  if (kind === "select") {
    control = h("select", attributes, options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)));
  } else if (kind === "tick") {
    control = h("input", { type: "checkbox", checked: Boolean(value), ...attributes });
  } else {
    control = h("input", { type: kind, value: value === undefined || value === null ? "" : String(value), autocomplete: "off", ...attributes });
  }
  const hinted = hint ? h("p", { class: "hint", id: `${id}-hint` }, hint) : null;
  return kind === "tick"
    ? h("div", { class: "field tick" }, h("label", null, control, label), hinted)
    : h("div", { class: "field" }, h("label", { for: id }, label), control, hinted);
}

/** What was entered: numbers as numbers, ticks as booleans, empty as null. */
export function entered(form) {
  const values = {};
  for (const control of form.elements) {
    if (!control.name) continue;
    if (control.type === "checkbox") values[control.name] = control.checked;
    else if (control.type === "number") values[control.name] = control.value === "" ? null : Number(control.value);
    else values[control.name] = control.type === "password" ? control.value : control.value.trim() || null;
  }
  return values;
}

/** A form that stays until `submit(values)` succeeds; a refusal is shown inside and nothing entered is lost.
 *  With `review(values)`, an element that tells what would come of it is shown first, and the same button then does it. */
export function form({ fields, action, submit, review, danger = false, cancel }) {
  const fault = h("div"), outlook = h("div", { role: "status" });
  const first = review ? "See what changes" : action;
  const button = h("button", { class: danger ? "danger" : "primary", type: "submit" }, first);
  let reviewed = null;
  const element = h("form", {
    oninput: () => { if (reviewed !== null) { reviewed = null; replace(outlook); button.textContent = first; } },
    onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      replace(fault);
      try {
        const values = entered(element), asked = JSON.stringify(values);
        if (review && reviewed !== asked) {
          replace(outlook, await review(values));
          reviewed = asked;
          button.textContent = action;
          outlook.scrollIntoView({ block: "nearest" });
        } else await submit(values);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        replace(fault, refusal(error));
      } finally {
        button.disabled = false;
        if (reviewed !== null) button.focus();
      }
    },
  }, fields, outlook, fault, h("div", { class: "actions row" }, cancel ? h("button", { type: "button", onclick: cancel }, "Cancel") : null, button));
  return element;
}

/** A form in a dialog → what `submit` gave, or undefined when it was closed. */
export function ask(title, { intro, fields, action, submit, review, danger }) {
  return new Promise((resolve) => {
    let result;
    const content = form({
      fields, action, review, danger,
      cancel: () => dialog.close(),
      submit: async (values) => { result = await submit(values) ?? true; dialog.close(); },
    });
    const dialog = open(title, [intro ? h("div", null, intro) : null, content], { onclose: () => resolve(result) });
  });
}

/** Ask before something that cannot be taken back; `text` may be elements. With `typed`, that word has to be typed. */
export function confirm(title, { text, action, typed, submit }) {
  const fields = typed ? [field({ name: "typed", label: `Type ${typed} to go on`, required: true, autocapitalize: "off", spellcheck: "false" })] : [];
  return ask(title, {
    intro: typeof text === "string" ? h("p", null, text) : text, fields, action, danger: true,
    submit: async (values) => {
      if (typed && values.typed !== typed) throw new Refusal(0, { detail: `that was “${values.typed ?? ""}”; “${typed}” is expected` });
      return submit();
    },
  });
}

/** Something to copy, with a button that does. */
export function copyable(text, label) {
  const button = h("button", { type: "button", "aria-label": `Copy ${label}`, onclick: async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  } }, "Copy");
  return h("div", { class: "copy" }, h("code", null, text), button);
}
