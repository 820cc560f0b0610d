// Devices of one's own: the page to which `wgpy up` leads, and a list of those one has.

import { h, table } from "./dom.js";
import { get, list, request, send } from "./api.js";
import { confirm, field, form, toast } from "./dialogs.js";
import { placeOf } from "./network.js";
import { stateOf } from "./nodes.js";
import { go, show } from "./router.js";
import { may } from "./session.js";
import { ago } from "./text.js";

/** A host that waits, for who sits before it: they type the code that it shows. */
export async function joinPage({ network: name, join: id }) {
  const network = await get("networks", name);
  const [joins, mayOwn, mayEnrol] = await Promise.all([list("joins", ["networks", name, "joins"]), may("own", network), may("enrol", network)]);
  const join = joins.find((one) => one.id === id);
  const card = (...content) => h("div", { class: "card narrow" }, content);
  if (!join) return card(h("h1", null, "Not waiting"), h("p", null, "That host was let in or refused already, or its hour is over: start ", h("code", null, "wgpy up"), " on it again."), h("p", null, h("a", { href: placeOf(name) }, `To ${name}`)));
  const about = [h("h1", null, `Let ${join.name} in?`),
    h("p", null, "It asks to join ", h("strong", null, name), ", from ", h("span", { class: "mono" }, join.address), `, ${ago(join.created_at)}.`)];
  if (!mayOwn) return card(about, h("p", { class: "refusal" }, `You may not bring devices into ${name}: ask an admin of it for that role.`));
  const code = () => field({ name: "code", label: "The code that it shows", class: "code", required: true, autofocus: true, autocapitalize: "characters", spellcheck: "false", maxlength: 16, placeholder: "K7P-3XW",
    hint: "Type it from the screen of the host that is before you. If somebody sent it to you, it is their host: do not." });
  const letIn = (action, done) => async (values) => {
    const node = await send("POST", ["networks", name, "joins", id, action], { body: { code: values.code }, fresh: false });
    toast(done(node.name));
    await go(mayEnrol ? placeOf(name, "nodes", node.name) : "/settings", { replace: true });
  };
  return card(about,
    form({ fields: [code()], action: "It is my device: let it in", submit: letIn("claim", (node) => `${node} is your device now.`) }),
    mayEnrol ? h("details", null, h("summary", null, "It is not mine"), form({ fields: [field({ name: "code", label: "Its code", class: "code", required: true, maxlength: 16 })], action: "Approve", submit: letIn("approve", (node) => `${node} is a node now.`) })) : null);
}

/** One's devices on all networks; nothing without any. */
export async function devices() {
  const { value } = await request("GET", "/v1/me/devices");
  if (!value.devices.length) return null;
  const rows = value.devices.map((one) => [
    one.name, one.network, stateOf(one), h("span", { class: "mono" }, one.addresses[0]),
    h("button", { class: "danger", onclick: async () => {
      const done = await confirm(`Remove ${one.name}?`, { text: `It leaves ${one.network}, and has to ask again to come back.`, action: "Remove", submit: () => request("DELETE", `/v1/me/devices/${encodeURIComponent(one.id)}`) });
      if (done) { toast(`${one.name} is removed.`); show(); }
    } }, "Remove"),
  ]);
  return h("section", { class: "card" }, h("h2", null, "Your devices"), table("Your devices", [["Name"], ["Network"], ["State"], ["Address"], ["", "end"]], rows));
}
