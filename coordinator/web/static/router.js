// Addresses of the page and what they show. Views are functions: (parameters, signal) → element, or a promise of one.

const routes = [];
let current = new AbortController();
let shown = () => {};

/** A view for a path such as "/networks/:network/nodes". */
export function route(pattern, view) {
  const names = [];
  const source = pattern.replace(/:(\w+)/g, (_, name) => { names.push(name); return "([^/]+)"; });
  routes.push({ match: new RegExp(`^${source}/?$`), names, view });
}

/** What to call with (path, element) once a view is ready. */
export function onShown(handler) {
  shown = handler;
}

/** Go to a path of the page. */
export function go(path, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", path);
  return show();
}

/** Show what the address names. What the former view follows ends with its signal. */
export async function show() {
  current.abort();
  const mine = (current = new AbortController());
  const path = location.pathname;
  for (const { match, names, view } of routes) {
    const found = match.exec(path);
    if (!found) continue;
    const parameters = Object.fromEntries(names.map((name, i) => [name, decodeURIComponent(found[i + 1])]));
    const element = await view(parameters, mine.signal);
    if (!mine.signal.aborted) shown(path, element);
    return;
  }
  shown(path, null);
}

/** Links of the page are followed without loading it anew. */
export function start() {
  addEventListener("popstate", show);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    if (link.target || link.hasAttribute("download") || link.origin !== location.origin || link.hash) return;
    if (/^\/(v1|static)\//.test(link.pathname)) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
  return show();
}
