// Ranges behind nodes and exit nodes: what is offered, what is published, who forwards it now, and what is in the way.

import { badge, h, redraw, table } from "./dom.js";
import { get, list, send, tryOut } from "./api.js";
import { ask, copyable, field, tell, toast } from "./dialogs.js";
import { follow } from "./live.js";
import { head, placeOf } from "./network.js";
import { changeList, confirmChange } from "./preview.js";
import { may } from "./session.js";
import { counted } from "./text.js";

const EXITS = ["0.0.0.0/0", "::/0"];
const isExit = (row) => EXITS.includes(row.target);

/** How a range at a gateway is doing, in a word. */
function stateOf(row) {
  if (row.state === "pending") return badge("offered", "fair");
  if (row.problem) return badge("does not work", "bad");
  if (row.state === "waiting") return badge("waits for the node", "fair");
  if (!row.online) return badge("offline", row.elected ? "bad" : "");
  if (isExit(row)) return badge("can be chosen", "good");
  return row.elected ? badge("in use", "good") : badge("stands by");
}

/** What is behind it, and under what name the others see it. */
const rangeOf = (row) => (row.range === row.target ? h("span", { class: "mono" }, row.range)
  : [h("span", { class: "mono" }, row.range), h("div", { class: "quiet" }, "stands for ", h("span", { class: "mono" }, row.target))]);

const splitRanges = (text) => (text ?? "").split(/[\s,]+/).filter(Boolean);

/** The fields that say how a range is forwarded, as `row` has them. */
const wayFields = (row) => [
  field({ name: "nat", label: "With NAT: machines there see the gateway’s address", kind: "tick", value: row?.nat ?? true, hint: "Without, the router there needs a route to this network by the gateway, which is yours to set." }),
  field({ name: "virtual", label: "The others see it as", value: row && row.range !== row.target ? row.range : "", placeholder: "what it is", autocapitalize: "off", spellcheck: "false",
    hint: "Another range of the same size, or “auto” for a free one: when the same range is in use at another place, too." }),
  field({ name: "interface", label: "By which interface", value: row?.interface, placeholder: "found by the route", maxlength: 15, autocapitalize: "off", spellcheck: "false" }),
];

const wayEntered = ({ nat, virtual, interface: by }) => ({ nat, virtual, interface: by ?? "" });

/** What is left to do on the hosts, when they have not agreed yet. */
async function tellNext(made) {
  const waiting = made.ranges.filter((row) => row.state === "waiting" && !row.offered);
  if (!waiting.length) { toast("Done: the nodes hear of it at once."); return; }
  const words = [...new Set(waiting.map((row) => (isExit(row) ? "exit" : row.target)))].join(",");
  await tell("One step more", h("p", null, `The host of ${waiting[0].node_name} has to agree to forward. Run this there, as root:`), copyable(`wgpy set --advertise ${words}`, "the command"),
    h("p", { class: "quiet" }, "The page shows by itself when it has."));
}

export async function gatewaysPage({ network: name }, signal) {
  const network = await get("networks", name), isAdmin = await may("admin", network);
  const where = ["networks", name, "ranges"], body = h("div");
  let nodes = [];

  async function publish(title, action, fields, bodyOf, intro) {
    const made = await ask(title, { intro, fields, action,
      review: async (values) => changeList(await tryOut("POST", where, { body: bodyOf(values) })),
      submit: (values) => send("POST", where, { body: bodyOf(values) }) });
    if (!made) return;
    await refresh();
    await tellNext(made);
  }

  const nodeField = () => field({ name: "node", label: "Gateway", kind: "select", options: nodes.map((node) => [node.name, node.online ? node.name : `${node.name} (offline)`]) });

  const add = () => publish("Publish ranges behind a node", "Publish", [nodeField(),
    field({ name: "ranges", label: "Ranges behind it", required: true, autofocus: true, placeholder: "192.168.1.0/24, fd12:3456::/64", autocapitalize: "off", spellcheck: "false", hint: "Several with commas. The same range at two nodes is one place with two gateways." }),
    h("details", null, h("summary", null, "How it is reached"), wayFields())],
  (values) => ({ node: values.node, ranges: splitRanges(values.ranges), ...wayEntered(values) }));

  const addExit = () => publish("Make a node an exit", "Make it an exit", [nodeField()], ({ node }) => ({ node, exit: true }),
    h("p", { class: "quiet" }, "Others can then send all that they send to the internet through it, IPv4 and IPv6. Each chooses for itself."));

  const edit = (row) => publish(`${row.target} at ${row.node_name}`, "Save", wayFields(row), (values) => ({ node: row.node, ranges: [row.target], ...wayEntered(values) }));

  const approve = (row) => (isExit(row)
    ? publish(`Approve ${row.node_name} as an exit?`, "Approve", [], () => ({ node: row.node, exit: true }))
    : publish(`Approve ${row.target} at ${row.node_name}?`, "Approve", wayFields(row), (values) => ({ node: row.node, ranges: [row.target], ...wayEntered(values) })));

  async function remove(rows) {
    const [row] = rows, what = isExit(row) ? "exit" : row.range;
    const done = await confirmChange(isExit(row) ? `Is ${row.node_name} no exit any more?` : `Take ${what} back from ${row.node_name}?`, {
      action: isExit(row) ? "Take it back" : "Take back", calls: rows.map((each) => ["DELETE", [...where, each.id]]), done: `${row.node_name} forwards it no longer.`,
      text: rows.some((each) => each.offered) ? "Its host goes on offering it, so it can be approved again." : null });
    if (done) await refresh();
  }

  const nodeLink = (row) => h("a", { href: placeOf(name, "nodes", row.node_name), "data-key": `node ${row.id}` }, row.node_name);

  function conflictCard(conflicts) {
    if (!conflicts.length) return null;
    return h("section", { class: "card conflict", "aria-label": "Conflicts" }, h("h2", null, counted(conflicts.length, "conflict")),
      h("ul", { class: "plain-list" }, conflicts.map(({ text }) => h("li", null, text, "."))));
  }

  function offeredCard(rows) {
    if (!rows.length) return null;
    return h("section", { class: "card waiting", "aria-label": "Offered" }, h("h2", null, "Offered, and waiting for approval"),
      h("ul", { class: "joins" }, rows.map((row) => h("li", { class: "join" },
        h("div", { class: "about" }, h("strong", { class: isExit(row) ? null : "mono" }, isExit(row) ? `The internet, ${row.target === "::/0" ? "IPv6" : "IPv4"}` : row.target), " at ", nodeLink(row)),
        isAdmin ? h("div", { class: "row" }, h("button", { class: "primary", "data-key": `approve ${row.id}`, "aria-label": `Approve ${row.target} at ${row.node_name}`, onclick: () => approve(row) }, "Approve")) : null))));
  }

  function rangeCard(rows) {
    const cells = rows.map((row) => [rangeOf(row), nodeLink(row), stateOf(row), row.nat ? "yes" : "no", row.interface ? h("span", { class: "mono" }, row.interface) : "", row.problem,
      isAdmin ? h("span", { class: "row" }, h("button", { "data-key": `edit ${row.id}`, "aria-label": `Edit ${row.range} at ${row.node_name}`, onclick: () => edit(row) }, "Edit"),
        h("button", { class: "danger", "data-key": `remove ${row.id}`, "aria-label": `Take back ${row.range} at ${row.node_name}`, onclick: () => remove([row]) }, "Take back")) : ""]);
    return h("section", { class: "card" }, h("h2", null, "Ranges behind nodes"),
      rows.length ? table(`Ranges behind nodes of ${name}`, [["Range", "short"], ["Gateway"], ["State", "short"], ["NAT"], ["Interface"], ["Problem"], ["", "end"]], cells)
        : h("div", { class: "empty" }, h("p", null, "A node can forward a network behind it, such as the one at home, to all the others: their routes follow by themselves."),
          isAdmin && nodes.length ? h("button", { "data-key": "first", onclick: add }, "Publish a range") : null));
  }

  function exitCard(rows) {
    const byNode = [...Map.groupBy(rows, (row) => row.node).values()];
    const cells = byNode.map((some) => [nodeLink(some[0]), stateOf(some.find((row) => row.problem) ?? some[0]), some.map((row) => (row.target === "::/0" ? "IPv6" : "IPv4")).join(", "),
      some.map((row) => row.problem).filter(Boolean).join("; "),
      isAdmin ? h("button", { class: "danger", "data-key": `remove ${some[0].id}`, "aria-label": `Take back the exit at ${some[0].node_name}`, onclick: () => remove(some) }, "Take back") : ""]);
    return h("section", { class: "card" }, h("h2", null, "Exit nodes"),
      rows.length ? [table(`Exit nodes of ${name}`, [["Node"], ["State", "short"], ["Families", "short"], ["Problem"], ["", "end"]], cells),
        h("p", { class: "quiet" }, "Each host chooses for itself: ", h("code", null, `wgpy set --exit-node ${byNode[0][0].node_name}`))]
        : h("p", { class: "quiet" }, "None: through an exit node others reach the internet with its address."));
  }

  async function refresh() {
    const [answer, found] = await Promise.all([get(...where), list("nodes", ["networks", name, "nodes"])]);
    nodes = found;
    const pending = answer.ranges.filter((row) => row.state === "pending"), rest = answer.ranges.filter((row) => row.state !== "pending");
    redraw(body, conflictCard(answer.conflicts), offeredCard(pending), rangeCard(rest.filter((row) => !isExit(row))), exitCard(rest.filter(isExit)));
  }

  await refresh();
  follow(name, refresh, signal);
  const actions = isAdmin && nodes.length ? [h("button", { onclick: addExit }, "Add an exit node"), h("button", { class: "primary", onclick: add }, "Publish a range")] : [];
  return h("div", null, head(network, "/gateways", ...actions), body);
}
