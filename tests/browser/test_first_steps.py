"""What somebody does who has just started a coordinator, in the browser that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PASSWORD, begin, keep, setup_link
from tests.coordinator.process import Coordinator, RemoteHost, wait_until
from wgpy.mesh.token import Token

pytestmark = [pytest.mark.slow]


def sign_in(page: Page, coordinator: Coordinator, name: str = "ada") -> None:
    begin(coordinator)
    page.goto("/sign-in")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Networks")).to_be_visible()


def test_the_set_up_link_makes_the_first_admin_once(
    make_page: Callable[..., Page], coordinator: Coordinator
) -> None:
    link = setup_link(coordinator)
    page = make_page()
    page.goto(link)
    expect(page.get_by_role("heading", name="Welcome")).to_be_visible()
    page.get_by_label("Name").fill("Ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("The same again").fill("something else altogether")
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("alert")).to_contain_text("differ")
    keep(page, "set-up")
    page.get_by_label("The same again").fill(PASSWORD)
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("heading", name="No network yet")).to_be_visible()
    assert "wgpys_" not in page.url
    other = make_page()
    other.goto(link)
    expect(other.get_by_role("alert")).to_contain_text("was used")
    assert link.partition("#")[2] not in coordinator.text().replace(link, "")


def test_without_signing_in_nothing_is_shown_and_a_wrong_password_says_so(
    make_page: Callable[..., Page], coordinator: Coordinator
) -> None:
    begin(coordinator)
    page = make_page()
    page.goto("/audit")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Audit")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto("/")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_network_is_made_a_node_joins_by_the_token_shown_and_appears_by_itself(
    make_page: Callable[..., Page], coordinator: Coordinator
) -> None:
    page = make_page()
    sign_in(page, coordinator)
    page.get_by_role("button", name="Create the first network").click()
    page.get_by_label("Name").fill("Not A Label")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Name").fill("home")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_role("heading", name="home")).to_be_visible()
    page.get_by_role("button", name="New token").click()
    page.get_by_role("button", name="Create the token").click()
    shown = page.get_by_role("dialog").locator("code").inner_text()
    expect(page.get_by_alt_text("The same as a QR code")).to_be_visible()
    keep(page, "token")
    page.get_by_role("button", name="Done").click()
    page.get_by_role("link", name="Nodes", exact=True).click()
    expect(page.get_by_role("heading", name="No node yet")).to_be_visible()
    host = RemoteHost(1, Token.decode(shown.removeprefix("wgpy up ")))
    host.join()
    expect(page.get_by_role("link", name="host-1")).to_be_visible()
    keep(page, "nodes-first")
    page.get_by_role("link", name="host-1").click()
    expect(page.get_by_text(str(host.wireguard_key.public_key()))).to_be_visible()
    page.get_by_role("button", name="Remove").click()
    page.get_by_label("Type host-1 to go on").fill("host-2")
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("alert")).to_contain_text("host-2")
    page.get_by_label("Type host-1 to go on").fill("host-1")
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("heading", name="No node yet")).to_be_visible()


def test_a_change_made_elsewhere_is_shown_without_a_reload(
    make_page: Callable[..., Page], coordinator: Coordinator
) -> None:
    page = make_page()
    coordinator.run("network", "create", "live")
    sign_in(page, coordinator)
    page.goto("/networks/live")
    expect(page.get_by_role("heading", name="No node yet")).to_be_visible()
    expect(page.locator("body")).to_have_attribute("data-live", "yes")
    host = RemoteHost(2, coordinator.token("live"))
    host.join()
    expect(page.get_by_role("link", name="host-2")).to_be_visible()


def test_somebody_else_gets_a_link_and_sees_no_more_than_their_role(
    make_page: Callable[..., Page], coordinator: Coordinator
) -> None:
    page = make_page()
    sign_in(page, coordinator)
    page.get_by_role("link", name="People").click()
    page.get_by_role("button", name="Add somebody").click()
    page.get_by_label("Name").fill("grace")
    page.get_by_role("button", name="Add", exact=True).click()
    link = page.get_by_role("dialog").locator("code").inner_text()
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("cell", name="grace")).to_be_visible()
    keep(page, "people")
    guest = make_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
    guest.goto(link)
    guest.get_by_label("Password").fill(PASSWORD)
    guest.get_by_label("The same again").fill(PASSWORD)
    guest.get_by_role("button", name="Set the password").click()
    expect(guest.get_by_role("button", name="Sign out")).to_be_visible()
    expect(guest.get_by_role("heading", name="Nothing here for you yet")).to_be_visible()
    keep(guest, "guest-on-a-phone")
    expect(guest.get_by_role("link", name="People")).to_have_count(0)
    answer = guest.request.get("/v1/admin/people")
    assert answer.status == 403


def test_keys_are_shown_once_and_stop_when_revoked(
    make_page: Callable[..., Page], coordinator: Coordinator
) -> None:
    page = make_page()
    sign_in(page, coordinator)
    page.get_by_role("link", name="Settings").click()
    page.get_by_role("button", name="New key").click()
    page.get_by_label("What it is for").fill("watching")
    page.get_by_role("button", name="Create", exact=True).click()
    key = page.get_by_role("dialog").locator("code").last.inner_text()
    page.get_by_role("button", name="Done").click()
    headers = {"authorization": f"Bearer {key}"}
    outside = make_page()
    assert outside.request.get("/v1/admin/networks", headers=headers).status == 200
    refused = outside.request.post("/v1/admin/networks", headers=headers, data=json.dumps({"name": "x"}))
    assert refused.status == 403
    page.get_by_role("row", name=re.compile("watching")).get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("row", name=re.compile("watching"))).to_contain_text("revoked")
    # Everybody here is one address to the coordinator, and strangers are counted by address.
    wait_until(
        lambda: outside.request.get("/v1/admin/networks", headers=headers).status == 401,
        "the revoked key is refused",
        30,
    )
    page.get_by_role("link", name="Audit").click()
    expect(page.get_by_text("key.revoke").first).to_be_visible()
    keep(page, "audit")
