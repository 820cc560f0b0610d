// Hosts that wait for approval. One that came without a token shows a code, which whoever approves it types here: so it is
// that host that comes in, and none that somebody else put in between.

import { badge, h, replace } from "./dom.js";
import { list, Refusal, send } from "./api.js";
import { confirm, refusal, toast } from "./dialogs.js";
import { ago, counted } from "./text.js";

/** Fill `element` with the joins that wait; those that are there already stay as they are, with what was typed. */
export async function waiting(element, network, { isEnroller, ondone }) {
  const joins = await list("joins", ["networks", network, "joins"]);
  if (!joins.length) { replace(element); return; }
  if (!element.firstChild) replace(element, h("section", { class: "card waiting", "aria-label": "Waiting for approval" }, h("h2"), h("ul", { class: "joins" })));
  const items = element.querySelector(".joins"), wanted = new Set(joins.map((join) => join.id));
  element.querySelector("h2").textContent = `${counted(joins.length, "host")} ${joins.length === 1 ? "waits" : "wait"} for approval`;
  for (const known of [...items.children]) if (!wanted.delete(known.dataset.join)) known.remove();
  for (const join of joins) if (wanted.has(join.id)) items.append(item(network, join, { isEnroller, ondone }));
}

function item(network, join, { isEnroller, ondone }) {
  const where = ["networks", network, "joins", join.id];
  const fault = h("div");
  const code = join.needs_code
    ? h("input", { name: "code", class: "code", required: true, autocomplete: "off", autocapitalize: "characters", spellcheck: "false", maxlength: 16, placeholder: "the code it shows", "aria-label": `The code that ${join.name} shows` })
    : null;
  const approve = async (event) => {
    event.preventDefault();
    replace(fault);
    try {
      const node = await send("POST", [...where, "approve"], { body: code ? { code: code.value } : {}, fresh: false });
      toast(`${node.name} is a node now.`);
      await ondone();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      replace(fault, refusal(error));
      code?.select();
    }
  };
  const refuse = async () => {
    const done = await confirm(`Refuse ${join.name}?`, { text: "It hears of it and stays out. It may ask again.", action: "Refuse", submit: () => send("POST", [...where, "refuse"], { fresh: false }) });
    if (done) { toast(`${join.name} is refused.`); await ondone(); }
  };
  return h("li", { "data-join": join.id }, h("form", { class: "join", onsubmit: approve },
    h("div", { class: "about" }, h("strong", null, join.name), " ", join.needs_code ? badge("no token") : badge("with a token"),
      h("p", { class: "quiet" }, "from ", h("span", { class: "mono" }, join.address), `, asked ${ago(join.created_at)}`)),
    isEnroller ? h("div", { class: "row" }, code, h("button", { class: "primary", type: "submit" }, "Approve"), h("button", { type: "button", class: "danger", onclick: refuse }, "Refuse")) : null,
    fault));
}
