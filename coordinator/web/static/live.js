// What changes while one looks: the coordinator's event stream, and a refresh that never runs twice at once.

/** Call `refresh` at each change of the network until `signal` ends; changes in between are one. Returns nothing. */
export function follow(network, refresh, signal) {
  let running = false;
  let again = false;
  const run = async () => {
    if (running) { again = true; return; }
    running = true;
    do {
      again = false;
      try { await refresh(); } catch { /* the next change, or the stream's next start, tries again */ }
      await new Promise((resolve) => setTimeout(resolve, 150));
    } while (again && !signal.aborted);
    running = false;
  };
  const source = new EventSource(`/v1/admin/networks/${encodeURIComponent(network)}/events`);
  let opened = false;
  source.addEventListener("open", () => { document.body.dataset.live = "yes"; if (opened) run(); opened = true; });
  source.addEventListener("error", () => { document.body.dataset.live = "no"; });
  source.addEventListener("change", run);
  signal.addEventListener("abort", () => { source.close(); delete document.body.dataset.live; });
}
