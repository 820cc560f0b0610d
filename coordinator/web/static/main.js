// The page begins here: the bar, the addresses, and what each shows.

import { h, replace } from "./dom.js";
import { onSignedOut, Refusal } from "./api.js";
import { go, onShown, route, show, start } from "./router.js";
import { refusal } from "./dialogs.js";
import { scheme } from "./scheme.js";
import { signOut, who } from "./session.js";
import { networks } from "./networks.js";
import { tab } from "./network.js";
import { nodesPage } from "./nodes.js";
import { meshPage } from "./mesh.js";
import { gatewaysPage } from "./gateways.js";
import { clientsPage } from "./clients.js";
import { namesPage } from "./names.js";
import { tokensPage } from "./tokens.js";
import { settingsPage } from "./network_settings.js";
import { nodePage } from "./node.js";
import { joinPage } from "./devices.js";
import { auditPage } from "./audit.js";
import { peoplePage } from "./people.js";
import { accountPage } from "./account.js";
import { setupPage, signInPage } from "./signin.js";
import { clientLinkPage } from "./client_link.js";

const FOR_EVERYONE = ["/sign-in", "/setup", "/client"];

const main = document.getElementById("main");

/** A view that needs somebody signed in; what it raises is shown in its place. */
function behindSession(view) {
  return async (parameters, signal) => {
    try {
      await who();
      return await view(parameters, signal);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      if (error.status === 401) return null;
      return h("div", null, h("h1", { tabindex: "-1" }, error.status === 404 ? "Not here" : "That did not work"), refusal(error));
    }
  };
}

route("/sign-in", signInPage);
route("/setup", setupPage);
route("/client", clientLinkPage);
route("/", behindSession(networks));
tab("", "Nodes", behindSession(nodesPage));
tab("/mesh", "Mesh", behindSession(meshPage));
tab("/gateways", "Gateways", behindSession(gatewaysPage));
tab("/clients", "Clients", behindSession(clientsPage));
tab("/names", "Names", behindSession(namesPage));
tab("/tokens", "Tokens", behindSession(tokensPage));
tab("/settings", "Settings", behindSession(settingsPage));
route("/networks/:network/nodes/:node", behindSession(nodePage));
route("/join/:network/:join", behindSession(joinPage));
route("/audit", behindSession(auditPage));
route("/people", behindSession(peoplePage));
route("/settings", behindSession(accountPage));

const LINKS = [["/", "Networks"], ["/people", "People"], ["/audit", "Audit"], ["/settings", "Settings"]];

async function bar(path) {
  const me = FOR_EVERYONE.includes(path) ? null : await who().catch(() => null);
  const active = /^\/(networks|join)\//.test(path) ? "/" : path;
  const shown = LINKS.filter(([href]) => me?.is_admin || href === "/" || href === "/settings");
  replace(document.getElementById("bar"), h("div", { class: "bar" },
    h("a", { class: "brand", href: "/" }, h("img", { src: new URL("icon.svg", import.meta.url).pathname, alt: "" }), "wgpy"),
    me ? h("nav", { "aria-label": "Main" }, h("ul", null, shown.map(([href, text]) =>
      h("li", null, h("a", { href, "aria-current": href === active ? "page" : null }, text))))) : null,
    h("div", { class: "end" }, scheme(),
      me ? [h("span", { class: "quiet" }, me.name), h("button", { class: "plain", onclick: signOut }, "Sign out")] : null)));
}

onShown(async (path, element) => {
  if (location.pathname !== path) return;
  await bar(path);
  replace(main, element ?? h("div", null, h("h1", { tabindex: "-1" }, "Not here"), h("p", null, "There is no such page. ", h("a", { href: "/" }, "All networks"))));
  const heading = main.querySelector("h1");
  document.title = heading ? `${heading.textContent} · wgpy` : "wgpy";
  heading?.setAttribute("tabindex", "-1");
  (main.querySelector("[autofocus]") ?? heading ?? main).focus({ preventScroll: true });
  scrollTo(0, 0);
});

onSignedOut(() => {
  const here = location.pathname;
  if (!FOR_EVERYONE.includes(here)) go(here === "/" ? "/sign-in" : `/sign-in?next=${encodeURIComponent(here)}`, { replace: true });
});

addEventListener("unhandledrejection", (event) => {
  replace(main, h("h1", null, "That did not work"), refusal(new Error(String(event.reason?.message ?? event.reason))),
    h("button", { onclick: show }, "Try again"));
});

start();
