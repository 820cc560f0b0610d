// What changes while one looks: the coordinator's event stream, and a refresh that never runs twice at once.

/** Call `refresh` at each change of the network until `signal` ends; changes in between are one. Returns nothing.
 *  What nodes report of their tunnels is a change only with `tunnels`, and then a refresh takes a twentieth of the time at most. */
export function follow(network, refresh, signal, { tunnels = false } = {}) {
  let running = false;
  let again = false;
  let isOpen = false;
  const run = async () => {
    if (running) { again = true; return; }
    running = true;
    do {
      again = false;
      const began = performance.now(), isLive = isOpen;
      try { await refresh(); } catch { /* the next change, or the stream's next start, tries again */ }
      if (isLive && !signal.aborted) document.body.dataset.live = "yes";
      await new Promise((resolve) => setTimeout(resolve, Math.max(150, tunnels ? 20 * (performance.now() - began) : 0)));
    } while (again && !signal.aborted);
    running = false;
  };
  const source = new EventSource(`/v1/admin/networks/${encodeURIComponent(network)}/events`);
  document.body.dataset.live = "begins";
  // Also the first time: what changed while the page was being made is in no event.
  source.addEventListener("open", () => { isOpen = true; run(); });
  source.addEventListener("error", () => { isOpen = false; document.body.dataset.live = "no"; });
  let seen = "";
  source.addEventListener("change", (event) => {
    const counts = String(event.data).split(" ");
    const looked = (tunnels ? counts : counts.slice(0, 2)).join(" ");
    if (looked !== seen) { seen = looked; run(); }
  });
  signal.addEventListener("abort", () => { source.close(); delete document.body.dataset.live; });
}
