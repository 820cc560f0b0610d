// What would change, told before it is done: the coordinator tries it, and undoes it.

import { h } from "./dom.js";
import { Refusal, send, tryOut } from "./api.js";
import { confirm, toast } from "./dialogs.js";
import { counted } from "./text.js";

const MOST_NAMED = 8;

/** On which nodes, in a few words. */
function whereOf({ nodes, count }) {
  const named = nodes.slice(0, MOST_NAMED);
  if (!named.length) return null;
  const rest = count - named.length;
  return h("span", { class: "quiet" }, ` ${counted(count, "node")}: ${named.join(", ")}${rest ? ` and ${rest} more` : ""}`);
}

/** What `tryOut` told, as a list. */
export function changeList(changes) {
  return h("section", { class: "changes", "aria-label": "What would change" }, h("h3", null, "What would change"),
    changes.length ? h("ul", null, changes.map((change) => h("li", { class: change.warning ? "warning" : null },
      change.warning ? h("strong", null, "Mind: ") : null, change.text, whereOf(change)))) : h("p", { class: "quiet" }, "Nothing: it is like that already."));
}

/** Ask before doing `calls`, [method, parts, options?] each, with what they would change → whether it was done. */
export async function confirmChange(title, { text, action, typed, calls, done }) {
  const changes = [];
  try {
    for (const call of calls) changes.push(...await tryOut(...call));
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    toast(error.message);
    return false;
  }
  const isDone = await confirm(title, { text: [text ? h("p", null, text) : null, changeList(changes)], action, typed,
    submit: async () => { for (const call of calls) await send(...call); return true; } });
  if (isDone) toast(done);
  return Boolean(isDone);
}
