"""Somebody lets in a device of their own, at the address that `wgpy up` prints, by the code it shows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import begin, enter, keep
from tests.browser.eyes import too_faint, unreached
from tests.browser.test_members import ask_keyless
from tests.coordinator.openid import CLIENT_ID, openid_provider
from tests.coordinator.process import Coordinator, RemoteHost

pytestmark = [pytest.mark.slow]


def test_who_signs_in_at_the_provider_lets_their_device_in_by_its_code(
    make_page: Callable[..., Page], coordinator: Coordinator
) -> None:
    begin(coordinator)
    coordinator.run("network", "create", "office", "--keyless")
    with openid_provider() as provider:
        provider.secret = None
        provider.people = {"grace": {"email": "grace@example.org", "email_verified": True}}
        provider.redirect_uris = {f"{coordinator.url}/v1/oidc/callback"}
        coordinator.run(
            "provider", "set", "company", "--issuer", provider.issuer, "--client-id", CLIENT_ID,
            "--label", "Example Company", "--admits", "everyone", "--role", "office=member",
        )  # fmt: skip
        host = RemoteHost(91, coordinator.token("office"))
        join, code = ask_keyless(coordinator, host, "office")
        phone = make_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
        phone.goto(f"/join/office/{join}")
        phone.get_by_role("link", name="Continue with Example Company").click()
        phone.get_by_role("link", name="grace").click()
        expect(phone.get_by_role("heading", name="Let host-91 in?")).to_be_visible()
    field = phone.get_by_label("The code that it shows")
    expect(field).to_be_focused()
    field.fill("AAA-AAA" if code != "AAA-AAA" else "BBB-BBB")
    phone.keyboard.press("Enter")
    expect(phone.get_by_role("alert")).to_contain_text("not the code of this host")
    keep(phone, "own-device")
    assert too_faint(phone) == []
    assert unreached(phone) == []
    field.fill(code)
    phone.keyboard.press("Enter")
    expect(phone.get_by_role("heading", name="Settings")).to_be_visible()
    devices = phone.get_by_role("table", name="Your devices")
    expect(devices.get_by_role("cell", name="host-91")).to_be_visible()
    # Nobody who may not approve is offered to.
    phone.goto("/networks/office")
    expect(phone.get_by_role("link", name="host-91")).to_be_visible()
    expect(phone.get_by_role("button", name="Add a node")).to_have_count(0)
    phone.goto("/networks/office/nodes/host-91")
    expect(phone.get_by_text("grace@example.org").last).to_be_visible()
    expect(phone.get_by_role("button", name="Remove")).to_have_count(0)

    admin = make_page()
    enter(admin)
    admin.goto("/people")
    row = admin.get_by_role("row", name="grace@example.org")
    row.get_by_role("button", name="Keep out").click()
    admin.get_by_role("dialog").get_by_role("button", name="Keep out").click()
    expect(row).to_contain_text("kept out")
    admin.goto("/networks/office/nodes/host-91")
    expect(admin.get_by_text("disabled", exact=True).first).to_be_visible()
    phone.goto("/settings")
    expect(phone.get_by_role("heading", name="Sign in")).to_be_visible()


def test_an_address_of_a_host_that_waits_no_more_says_so(
    make_page: Callable[..., Page], coordinator: Coordinator
) -> None:
    page = make_page()
    enter(page)
    page.goto("/join/office/" + "0" * 32)
    expect(page.get_by_role("heading", name="Not waiting")).to_be_visible()
