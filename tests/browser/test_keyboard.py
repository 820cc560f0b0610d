"""Everything that an admin does, from signing in to deleting the network, without a pointer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PASSWORD, begin
from tests.browser.test_members import ask_keyless
from tests.coordinator.process import Coordinator, RemoteHost
from wgpy.mesh.token import Token

pytestmark = [pytest.mark.slow]

MOST_STOPS = 60


def tab_to(page: Page, target: Locator) -> None:
    """Press Tab until the target has the focus."""
    expect(target).to_be_visible()
    for _ in range(MOST_STOPS):
        if target.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{MOST_STOPS} presses of Tab do not lead to {target}")


def press(page: Page, role: str, name: str, key: str = "Enter") -> None:
    scope = page.get_by_role("dialog") if page.get_by_role("dialog").count() else page
    tab_to(page, scope.get_by_role(role, name=name, exact=True).first)  # type: ignore[arg-type]
    page.keyboard.press(key)


def write(page: Page, label: str, text: str) -> None:
    tab_to(page, page.get_by_label(label))
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type(text)


def test_an_admin_needs_no_pointer(make_page: Callable[..., Page], coordinator: Coordinator) -> None:
    begin(coordinator)
    page = make_page(permissions=["clipboard-read", "clipboard-write"])
    page.goto("/sign-in")
    write(page, "Name", "ada")
    write(page, "Password", PASSWORD)
    page.keyboard.press("Enter")

    press(page, "button", "Create the first network")
    page.keyboard.type("office")  # the dialog has put the focus there
    tab_to(page, page.get_by_text("More", exact=True))
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_label("Hosts may ask to join without a token"))
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="office", level=1)).to_be_visible()

    press(page, "button", "New token")
    press(page, "button", "Create the token")
    press(page, "button", "Copy the command")
    expect(page.get_by_role("button", name="Copy the command")).to_have_text("Copied")
    line = page.evaluate("navigator.clipboard.readText()")
    press(page, "button", "Done")
    expect(page.get_by_role("dialog")).to_have_count(0)

    press(page, "link", "Nodes")
    host = RemoteHost(61, Token.decode(line.removeprefix("wgpy up ")))
    _, code = ask_keyless(coordinator, host, "office")
    write(page, "The code that host-61 shows", code)
    page.keyboard.press("Enter")
    press(page, "link", "host-61")
    press(page, "button", "Edit")
    write(page, "Name", "printer")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="printer", level=1)).to_be_visible()
    for name in ("Disable", "Enable"):
        press(page, "button", name)
        expect(page.get_by_role("dialog")).to_be_visible()
        press(page, "button", name)
        expect(page.get_by_role("dialog")).to_have_count(0)
    press(page, "button", "Remove")
    write(page, "Type printer to go on", "printer")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="No node yet")).to_be_visible()

    press(page, "link", "Tokens")
    press(page, "button", "Revoke")
    press(page, "button", "Revoke")
    expect(page.get_by_role("cell", name="revoked")).to_be_visible()

    press(page, "link", "Audit")
    tab_to(page, page.locator("summary").first)
    page.keyboard.press("Enter")
    expect(page.locator("details.card").first).to_have_attribute("open", "")

    press(page, "link", "Networks")
    press(page, "link", "office")
    tab_to(page, page.get_by_role("navigation", name="Pages of office").get_by_role("link", name="Settings"))
    page.keyboard.press("Enter")
    write(page, "Description", "Ours")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Saved: the nodes follow at once.")).to_be_visible()
    press(page, "button", "Delete this network")
    write(page, "Type office to go on", "office")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="No network yet")).to_be_visible()
