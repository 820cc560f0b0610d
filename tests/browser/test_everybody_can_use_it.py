"""Every page and dialog, as eyes and hands meet it: contrast, the Tab key, a phone's width."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import begin, enter
from tests.browser.crowd import Crowd, direct, lost
from tests.browser.eyes import contrasts, too_faint, too_wide, unreached
from tests.coordinator.process import Coordinator

pytestmark = [pytest.mark.slow]

NARROW = {"width": 320, "height": 640}
WIDE = {"width": 1280, "height": 800}

PAGES = {
    "/": "Networks",
    "/networks/office": "office",
    "/networks/office/mesh": "office",
    "/networks/office/gateways": "office",
    "/networks/office/clients": "office",
    "/networks/office/names": "office",
    "/networks/office/tokens": "office",
    "/networks/office/settings": "office",
    "/networks/office/nodes/a-host-with-a-rather-long-name-that-somebody-chose": "a-host-with",
    "/networks/empty": "empty",
    "/audit": "Audit",
    "/people": "People",
    "/settings": "Settings",
    "/networks/no-such-network": "Not here",
    "/api": "API",
}
"""Address and its heading."""

DIALOGS = {
    "/": ["New network"],
    "/networks/office": ["Add a node"],
    "/networks/office/nodes/a-host-with-a-rather-long-name-that-somebody-chose": [
        "Edit",
        "Disable",
        "Remove",
    ],
    "/networks/office/gateways": ["Publish a range", "Add an exit node", "Edit 192.168.1.0/24 at paris"],
    "/networks/office/names": ["Add a record", "Add a domain", "Remove nas, 192.168.1.9"],
    "/networks/office/tokens": ["New token", "Revoke"],
    "/networks/office/settings": ["Delete this network"],
    "/people": ["Add somebody", "Roles", "Keep out"],
    "/settings": ["New key", "Add a provider"],
}
"""What opens one, by address."""


@pytest.fixture(scope="module")
def office(coordinator: Coordinator) -> Iterator[Crowd]:
    begin(coordinator)
    coordinator.run("network", "create", "office")
    coordinator.run("network", "create", "empty")
    names = ["a-host-with-a-rather-long-name-that-somebody-chose", "paris", "tokyo", "berlin"]
    crowd = Crowd(coordinator, "office", names)
    crowd.say(0, 1, direct(12.0))
    crowd.say(0, 2, direct(240.0), lost())
    crowd.say(1, 2, lost("no answer from 203.0.113.4:51820 for 31 s; is UDP blocked in between?"))
    crowd.watch()
    crowd.report()
    coordinator.run("gateway", "add", "paris", "192.168.1.0/24", "--network", "office")
    coordinator.run("gateway", "add", "tokyo", "192.168.0.0/16", "--network", "office")
    coordinator.run("gateway", "add", "berlin", "--exit", "--network", "office")
    coordinator.run("names", "add", "nas", "192.168.1.9", "--network", "office")
    coordinator.run("names", "domain", "corp.example", "10.20.0.53", "--network", "office")
    yield crowd
    crowd.close()


@pytest.fixture
def page(make_page: Callable[..., Page], office: Crowd) -> Page:
    page = make_page(viewport=WIDE)
    enter(page)
    page.request.post(
        "/v1/admin/people",
        data=json.dumps({"name": "grace"}),
        headers={
            "idempotency-key": "grace",
            "sec-fetch-site": "same-origin",
            "content-type": "application/json",
        },
    )
    return page


def visit(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.get_by_role("heading", level=1).filter(has_text=PAGES[address])).to_be_visible()
    # A page that follows what changes has looked once more by then.
    expect(page.locator("body")).not_to_have_attribute("data-live", "begins")


def faults_of(page: Page, where: str) -> list[str]:
    """In both schemes, wide and narrow; leaves the page wide."""
    found: list[str] = []
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        found += [f"{where} at {size['width']}: scrolls sideways for {wide}" for wide in too_wide(page)]
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            found += [f"{where} in {scheme}: {seen}" for seen in too_faint(page)]
    page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    return found


def test_every_page_is_legible_in_light_and_dark_and_fits_a_narrow_phone(page: Page) -> None:
    found: list[str] = []
    counts: dict[str, int] = {}
    for address in PAGES:
        visit(page, address)
        found += faults_of(page, address)
        counts[address] = len(contrasts(page))
    assert not found, "\n".join(found)
    assert min(counts.values()) >= 5, counts  # it has looked at something


def test_every_dialog_is_legible_and_fits_and_gives_the_focus_back(page: Page) -> None:
    found: list[str] = []
    for address, names in DIALOGS.items():
        visit(page, address)
        for name in names:
            opener = page.get_by_role("button", name=name, exact=True).first
            opener.click()
            expect(page.get_by_role("dialog")).to_be_visible()
            found += faults_of(page, f"{name} of {address}")
            found += [f"{name} of {address}: {missed} by Tab" for missed in unreached(page)]
            page.keyboard.press("Escape")
            expect(page.get_by_role("dialog")).to_have_count(0)
            expect(opener).to_be_focused()
    assert not found, "\n".join(found)


def test_the_tab_key_comes_to_everything_and_shows_where_it_is(page: Page) -> None:
    found: list[str] = []
    for address in PAGES:
        visit(page, address)
        found += [f"{address}: {missed}" for missed in unreached(page)]
    assert not found, "\n".join(found)


def test_signing_in_and_out_needs_no_pointer_and_is_legible(
    make_page: Callable[..., Page], office: Crowd
) -> None:
    page = make_page(viewport=WIDE)
    page.goto("/people")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert faults_of(page, "sign-in") == []
    assert unreached(page) == []
    page.goto("/setup#wgpys_nothing")
    expect(page.get_by_role("alert")).to_be_visible()
    assert faults_of(page, "set-up") == []


def test_what_is_too_faint_too_wide_or_out_of_reach_is_found(page: Page) -> None:
    visit(page, "/networks/empty")
    page.evaluate("document.querySelector('h1').style.color = 'rgb(128 128 128 / 60%)'")
    assert [seen.text for seen in too_faint(page)] == ["empty"]
    page.evaluate("document.querySelector('h1').style.cssText = 'min-width: 2000px'")
    assert too_wide(page)
    page.evaluate("document.querySelector('h1').removeAttribute('style')")
    page.evaluate("document.querySelector('main a').style.outline = 'none'")
    assert unreached(page) == ["a Networks"]
