"""External clients in the page: a way in, files and QR codes, links that are good once."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import begin, keep
from tests.browser.crowd import Crowd
from tests.coordinator.process import Connection, Coordinator
from wgpy.config import parse_config
from wgpy.keys import PrivateKey
from wgpy.mesh.ingress import KeyHandover
from wgpy.mesh.sealing import seal

pytestmark = [pytest.mark.slow]

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def office(coordinator: Coordinator) -> Iterator[Crowd]:
    begin(coordinator)
    coordinator.run("network", "create", "office", "--cidr", "10.7.0.0/16")
    crowd = Crowd(coordinator, "office", ["router", "spare", "laptop"])
    crowd.watch()
    crowd.report()
    yield crowd
    crowd.close()


def agree(crowd: Crowd, number: int) -> None:
    """What a gateway does after `wgpy set --advertise ingress`: it makes the group's key."""
    host, key = crowd.hosts[number], PrivateKey(bytes(range(32)))
    body = KeyHandover(key.public_key(), {host.id: seal(bytes(key), host.machine_key.public_key())})
    with Connection(host.url) as connection:
        status, answer = connection.call("PUT", "/v1/node/ingress/key", body.to_json(), host.bearer)
    assert status == 200, answer


def decode(image: bytes, folder: Path) -> str:
    """What a camera reads, by zbar."""
    if shutil.which("zbarimg") is None:
        pytest.skip("zbarimg is not installed: apt-get install zbar-tools")
    file = folder / "qr.png"
    file.write_bytes(image)
    done = subprocess.run(["zbarimg", "--raw", "-q", file], capture_output=True, text=True, check=True)
    return done.stdout


def look(dialog: Locator) -> None:
    """At what would change: the button does it the second time."""
    dialog.get_by_role("button", name="See what changes").click()


def outlook(dialog: Locator) -> Locator:
    return dialog.get_by_role("region", name="What would change")


def test_a_way_in_is_made_and_a_client_with_a_key_of_this_browser(
    page: Page, office: Crowd, tmp_path: Path
) -> None:
    page.goto("/networks/office")
    page.get_by_role("link", name="Clients").click()
    expect(page.get_by_role("heading", name="No way in yet")).to_be_visible()
    page.get_by_role("button", name="Let clients in").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Where clients connect to").fill("127.0.0.1:5")
    dialog.get_by_label("Gateways").fill("router")
    look(dialog)
    expect(dialog.get_by_role("alert")).to_contain_text("connect to")
    dialog.get_by_label("Where clients connect to").fill("vpn.example.org:51820")
    look(dialog)
    expect(outlook(dialog)).to_contain_text(
        "clients come in by vpn.example.org:51820, at router, once its host"
    )
    assert page.request.get("/v1/admin/networks/office/ingress").json()["groups"] == []
    dialog.get_by_role("button", name="Set it up").click()
    expect(page.get_by_text("wgpy set --advertise ingress")).to_be_visible()
    page.get_by_role("button", name="Done").click()
    agree(office, 0)
    page.get_by_role("button", name="Add a client").click()
    dialog.get_by_label("Name").fill("phone")
    look(dialog)
    expect(outlook(dialog)).to_contain_text("and reaches whatever its gateway reaches 1 node: router")
    assert page.request.get("/v1/admin/networks/office/clients").json()["clients"] == []
    dialog.get_by_role("button", name="Make it").click()
    expect(page.get_by_role("heading", name="The file of phone")).to_be_visible()
    text = dialog.get_by_label("The file", exact=True).inner_text()
    config = parse_config(text, "phone.conf")
    [listed] = page.request.get("/v1/admin/networks/office/clients").json()["clients"]
    assert config.private_key is not None
    assert str(config.private_key.public_key()) == listed["public_key"]  # the coordinator had that half alone
    assert str(config.peers[0].endpoint) == "vpn.example.org:51820"
    with page.expect_download() as caught:
        dialog.get_by_role("link", name="Save the file").click()
    assert caught.value.suggested_filename == "phone.conf"
    assert Path(caught.value.path()).read_text() == text
    keep(page, "client-file", whole=False)
    image = dialog.get_by_role("img", name="The same as a QR code").screenshot()
    assert decode(image, tmp_path).strip() == text.strip()
    page.get_by_role("button", name="Done").click()
    table = page.get_by_role("table", name="Clients of office")
    expect(table.get_by_role("row", name="phone")).to_contain_text("everything")


def test_a_client_is_edited_switched_off_and_removed(page: Page, office: Crowd) -> None:
    page.goto("/networks/office/clients")
    row = page.get_by_role("table", name="Clients of office").get_by_role("row", name="phone")
    dialog = page.get_by_role("dialog")
    row.get_by_role("button", name="Edit: phone").click()
    dialog.get_by_label("Nodes that it may reach").fill("nobody")
    look(dialog)
    expect(dialog.get_by_role("alert")).to_contain_text("no node of this network is called 'nobody'")
    dialog.get_by_label("Nodes that it may reach").fill("laptop")
    dialog.get_by_label("Ends", exact=True).select_option("604800")
    look(dialog)
    expect(outlook(dialog)).to_contain_text("phone reaches laptop; it was whatever its gateway reaches")
    dialog.get_by_role("button", name="Save").click()
    expect(row).to_contain_text("laptop")
    expect(row).to_contain_text("ends in 7 d")
    expect(row).not_to_contain_text("the internet")
    row.get_by_role("button", name="Edit: phone").click()
    dialog.get_by_label("All that it sends goes by the gateway").check()
    look(dialog)
    expect(outlook(dialog)).to_contain_text("phone reaches laptop and the internet; it was laptop")
    dialog.get_by_role("button", name="Save").click()
    expect(row).to_contain_text("the internet")
    file = page.request.get("/v1/admin/networks/office/clients/phone/config").text()
    assert "AllowedIPs = 0.0.0.0/0, ::/0\n" in file
    row.get_by_role("button", name="Off: phone").click()
    expect(outlook(dialog)).to_contain_text("phone is kept out")
    dialog.get_by_role("button", name="Switch off").click()
    expect(row.locator(".badge")).to_have_text("off")
    row.get_by_role("button", name="On: phone").click()
    dialog.get_by_role("button", name="Switch on").click()
    expect(row.locator(".badge")).to_have_text("on")
    keep(page, "clients")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    keep(page, "clients-phone")


def test_a_link_gives_the_file_once_to_whoever_presses_the_button(
    make_page: Callable[..., Page], page: Page, office: Crowd
) -> None:
    page.goto("/networks/office/clients")
    page.get_by_role("button", name="Add a client").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("tablet")
    dialog.get_by_label("Its key is made").select_option("link")
    look(dialog)
    expect(outlook(dialog)).to_contain_text("tablet comes in as")
    dialog.get_by_role("button", name="Make it").click()
    expect(page.get_by_role("heading", name="A link for tablet")).to_be_visible()
    link = dialog.locator("code").inner_text()
    stranger = make_page()
    stranger.goto(link)
    expect(stranger.get_by_role("heading", name="Your WireGuard file")).to_be_visible()
    stranger.get_by_role("button", name="Get the file").click()
    file = stranger.get_by_label("The file", exact=True)
    expect(file).to_contain_text("PrivateKey = ")
    assert "#" not in stranger.url
    keep(stranger, "client-link")
    again = make_page()
    again.goto(link)
    again.get_by_role("button", name="Get the file").click()
    expect(again.get_by_role("alert")).to_contain_text("this link was used")
    page.get_by_role("button", name="Done").click()
    row = page.get_by_role("table", name="Clients of office").get_by_role("row", name="tablet")
    row.get_by_role("button", name="New key: tablet").click()
    dialog.get_by_label("Its key is made").select_option("own")
    public = base64.b64encode(bytes(PrivateKey(bytes(range(7, 39))).public_key())).decode()
    dialog.get_by_label("Public key, when").fill(public)
    look(dialog)
    expect(outlook(dialog)).to_contain_text("the file that it has is of no use any more")
    dialog.get_by_role("button", name="Make it").click()
    expect(dialog).to_contain_text("put it below [Interface]")
    expect(dialog.get_by_role("img")).to_have_count(0)
    page.get_by_role("button", name="Done").click()
    row.get_by_role("button", name="Remove: tablet").click()
    dialog.get_by_role("button", name="Remove", exact=True).click()
    expect(row).to_have_count(0)
