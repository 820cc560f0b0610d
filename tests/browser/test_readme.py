"""The pictures in the README: a small mesh as somebody would have it.

`make screenshots` writes them anew into docs/images/; here they go where all screenshots go.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SCREENSHOTS, begin, enter, keep
from tests.browser.crowd import Crowd, direct, lost
from tests.browser.test_members import ask_keyless
from tests.coordinator.process import Coordinator, RemoteHost

pytestmark = [pytest.mark.slow]

ROOT = Path(__file__).parents[2]
NODES = {
    "paris-1": ["servers"],
    "paris-2": ["servers"],
    "berlin": ["servers"],
    "osaka": ["servers"],
    "nas": ["home"],
    "laptop": ["home"],
    "phone-bridge": [],
}
SITES = [0, 0, 1, 2, 3, 3, 4]
PICTURES = ("nodes", "mesh")


def between(one: int, other: int) -> float:
    """Milliseconds, as far as the sites are apart."""
    return 0.6 + 14.0 * abs(SITES[one] - SITES[other]) ** 1.7 + (one + other) / 9


def say_all(crowd: Crowd) -> None:
    for one, other in itertools.combinations(range(len(NODES)), 2):
        tunnel = direct(between(one, other), 300_000 * (one + other + 1))
        if SITES[one] == SITES[other]:
            tunnel = dataclasses.replace(tunnel, path="lan")
        elif other == 6:
            tunnel = dataclasses.replace(tunnel, path="relayed")
        crowd.say(one, other, tunnel)
    crowd.say(3, 6, lost("no answer from 198.51.100.7:51820 for 31 s; is UDP blocked in between?"))
    crowd.watch()
    crowd.report()


def test_the_pictures_of_the_readme_show_the_page_as_it_is(
    make_page: Callable[..., Page], coordinator: Coordinator
) -> None:
    begin(coordinator)
    ranges = ("--cidr", "10.7.0.0/16", "--cidr", "fd07:5c9a:21e4::/64")
    coordinator.run("network", "create", "home", "--keyless", *ranges)
    network = "home"
    crowd = Crowd(coordinator, network, list(NODES))
    say_all(crowd)
    page = make_page(viewport={"width": 1200, "height": 760})
    enter(page)
    for host, tags in zip(crowd.hosts, NODES.values(), strict=True):
        answer = page.request.patch(
            f"/v1/admin/networks/{network}/nodes/{host.id}",
            data=json.dumps({"tags": tags}),
            headers={"if-match": "*", "sec-fetch-site": "same-origin", "content-type": "application/json"},
        )
        assert answer.ok, answer.text()
    newcomer = RemoteHost(99, coordinator.token("home"))
    newcomer.name = "new-laptop"
    ask_keyless(coordinator, newcomer, "home")
    page.goto("/networks/home")
    expect(page.get_by_role("heading", name="1 host waits for approval")).to_be_visible()
    expect(page.get_by_role("table", name="Nodes of home").get_by_role("row")).to_have_count(len(NODES) + 1)
    expect(page.get_by_text("online").first).to_be_visible()
    keep(page, "nodes")
    page.goto("/networks/home/mesh")
    expect(page.locator("svg.graph [data-pair]")).to_have_count(21)
    keep(page, "mesh", whole=False)
    crowd.close()
    shown = re.findall(r"\(docs/images/(\w+)\.png\)", (ROOT / "README.md").read_text())
    assert sorted(shown) == sorted(PICTURES)
    for name in PICTURES:
        picture = ROOT / "docs" / "images" / f"{name}.png"
        if os.environ.get("README_IMAGES"):
            shutil.copyfile(SCREENSHOTS / f"{name}.png", picture)
        assert picture.stat().st_size < 300_000
