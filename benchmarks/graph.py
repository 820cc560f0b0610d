"""How quick is the page's graph of a full mesh: until it is drawn, to point at a node, to show a report?

    python -m benchmarks.graph [--nodes 200] [--no-write]

A real coordinator, nodes that join and report over the real wire, and the distribution's Chromium without a
window. A frame is 16.7 ms where nothing holds it up.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks import machine
from benchmarks.results import DIRECTORY
from tests.browser.conftest import begin, chromium_flags, enter, free_port
from tests.browser.crowd import Crowd, direct, lost
from tests.coordinator.process import Coordinator

JOIN_PAUSE = 0.045
"""Seconds between joins: one address may ask 50 times a second."""

_POINT = """async () => {
  const frames = [], handlers = [];
  let isOn = true, last = performance.now();
  const tick = (now) => { frames.push(now - last); last = now; if (isOn) requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
  const dots = [...document.querySelectorAll("svg.graph [data-node] .hit")];
  for (let i = 0; i < 60; i++) {
    const began = performance.now();
    dots[(i * 7) % dots.length].dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
    handlers.push(performance.now() - began);
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  }
  isOn = false;
  return { frames, handlers };
}"""


def quantile(samples: list[float], share: float) -> float:
    return round(sorted(samples)[min(len(samples) - 1, int(len(samples) * share))], 1)


def fill(coordinator: Coordinator, nodes: int) -> Crowd:
    """Everybody has a tunnel with everybody, in five sites; six tunnels are down."""
    coordinator.run("network", "create", "big")
    crowd = Crowd(coordinator, "big", [f"node-{number:03}" for number in range(nodes)], pause=JOIN_PAUSE)
    for one, other in itertools.combinations(range(nodes), 2):
        is_near = one % 5 == other % 5
        crowd.say(
            one, other, direct(1.5 + one % 7 if is_near else 40.0 + 30 * ((one + other) % 3) + one % 5 * 7)
        )
    for number in range(6):
        crowd.say(3 * number, 3 * number + nodes // 2, lost())
    crowd.watch()
    crowd.report()
    return crowd


def measure(page: Page, crowd: Crowd) -> dict[str, Any]:
    answers: list[int] = []
    page.on(
        "response",
        lambda answer: (
            answers.append(int(answer.headers.get("content-length", 0)))
            if "/tunnels?" in answer.url
            else None
        ),
    )
    began = time.monotonic()
    page.goto("/networks/big/mesh")
    page.wait_for_selector("svg.graph [data-node]")
    found: dict[str, Any] = {"drawn_s": round(time.monotonic() - began, 2)}
    found |= {"requests": len(answers), "octets": sum(answers)}
    pointed = page.evaluate(_POINT)
    for name in ("frames", "handlers"):
        found[f"{name}_p50_ms"] = quantile(pointed[name], 0.5)
        found[f"{name}_p95_ms"] = quantile(pointed[name], 0.95)
    answers.clear()
    began = time.monotonic()
    crowd.say(1, 2, lost("cut for a measurement"))
    crowd.report(1, 2)
    page.get_by_text("cut for a measurement").first.wait_for()
    return found | {"report_shown_s": round(time.monotonic() - began, 2), "report_requests": len(answers)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--no-write", action="store_true", help="print alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        coordinator = Coordinator(Path(folder) / "state", free_port())
        coordinator.start()
        try:
            begin(coordinator)
            crowd = fill(coordinator, arguments.nodes)
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=chromium_flags()
            )
            view: dict[str, Any] = {"width": 1280, "height": 900}
            context = browser.new_context(base_url=coordinator.url, ignore_https_errors=True, viewport=view)  # type: ignore[arg-type]
            page = context.new_page()
            page.set_default_timeout(120_000)
            enter(page)
            found = measure(page, crowd)
            found |= {"nodes": arguments.nodes, "tunnels": arguments.nodes * (arguments.nodes - 1) // 2}
            found["chromium"] = browser.version
            browser.close()
            crowd.close()
        finally:
            coordinator.stop()
    for name, value in found.items():
        print(f"{name:20} {value}")
    if not arguments.no_write:
        result = {"commit": machine.commit(), "machine": machine.describe(), **found}
        (DIRECTORY / "graph.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
