"""The page that a client's link leads to: nobody is signed in, and the file is there once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.coordinator.process import Connection, Coordinator, RemoteHost
from wgpy.keys import PrivateKey
from wgpy.mesh.ingress import KeyHandover
from wgpy.mesh.sealing import seal

pytestmark = [pytest.mark.slow]


def test_a_link_gives_the_file_once_to_whoever_presses_the_button(
    coordinator: Coordinator, make_page: Callable[..., Page]
) -> None:
    coordinator.run("network", "create", "home")
    gateway, key = RemoteHost(1, coordinator.token("home")), PrivateKey(bytes(range(32)))
    gateway.join()
    coordinator.run("clients", "gateway", "add", gateway.name, "--endpoint", "vpn.example.org:51820")
    handover = KeyHandover(key.public_key(), {gateway.id: seal(bytes(key), gateway.machine_key.public_key())})
    with Connection(coordinator.url) as connection:
        status, answer = connection.call("PUT", "/v1/node/ingress/key", handover.to_json(), gateway.bearer)
    assert status == 200, answer
    link = coordinator.run("clients", "add", "phone", "--link", "1h").stdout.strip()

    page = make_page()
    page.goto(link)
    expect(page.get_by_role("heading", level=1)).to_have_text("Your WireGuard file")
    # Looking at the page, as previews of links do, uses nothing up.
    page.reload()
    page.get_by_role("button", name="Get the file").click()
    expect(page.locator("pre")).to_contain_text("PrivateKey = ")
    shown = page.locator("pre").inner_text()
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Save wgpy.conf").click()
    saved = downloading.value.path().read_text()
    assert saved.strip() == shown.strip()
    assert f"PublicKey = {key.public_key()}" in saved
    assert page.url == f"{coordinator.url}/client"

    again = make_page()
    again.goto(link)
    again.get_by_role("button", name="Get the file").click()
    expect(again.get_by_text("this link was used, is over or not from here")).to_be_visible()
