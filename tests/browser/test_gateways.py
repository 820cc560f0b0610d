"""Ranges, exits and names in the page: each change is told before it is made, on which nodes it would be."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import begin, keep
from tests.browser.crowd import Crowd
from tests.coordinator.process import Connection, Coordinator

pytestmark = [pytest.mark.slow]

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def office(coordinator: Coordinator) -> Iterator[Crowd]:
    begin(coordinator)
    coordinator.run("network", "create", "office", "--cidr", "10.7.0.0/24")
    crowd = Crowd(coordinator, "office", ["router", "spare", "laptop"])
    crowd.watch()
    crowd.report()
    yield crowd
    crowd.close()


def offer(crowd: Crowd, number: int, *ranges: str) -> None:
    """What `wgpy set --advertise` makes a node say."""
    host = crowd.hosts[number]
    with Connection(host.url) as connection:
        body = {"ranges": list(ranges), "problems": []}
        status, answer = connection.call("PUT", "/v1/node/offer", body, host.bearer)
    assert status == 200, answer


def problem(crowd: Crowd, number: int, range_: str, reason: str) -> None:
    host = crowd.hosts[number]
    with Connection(host.url) as connection:
        body = {"ranges": [range_], "problems": [{"range": range_, "reason": reason}]}
        status, answer = connection.call("PUT", "/v1/node/offer", body, host.bearer)
    assert status == 200, answer


def test_a_range_is_published_after_its_changes_were_seen(page: Page, office: Crowd) -> None:
    page.goto("/networks/office")
    page.get_by_role("link", name="Gateways").click()
    expect(page.get_by_text("A node can forward a network behind it")).to_be_visible()
    keep(page, "gateways-empty")
    page.get_by_role("button", name="Publish a range").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Gateway", exact=True).select_option("router")
    dialog.get_by_label("Ranges behind it").fill("192.168.1.5/24")
    dialog.get_by_role("button", name="See what changes").click()
    expect(dialog.get_by_role("alert")).to_contain_text("publish 192.168.1.0/24")
    dialog.get_by_label("Ranges behind it").fill("10.7.0.0/25")
    dialog.get_by_role("button", name="See what changes").click()
    expect(dialog.get_by_role("alert")).to_contain_text("where the network's own nodes are")
    dialog.get_by_label("Ranges behind it").fill("192.168.1.0/24, fd12:3456::/64")
    dialog.get_by_role("button", name="See what changes").click()
    told = dialog.get_by_role("region", name="What would change")
    expect(told).to_contain_text("router forwards 192.168.1.0/24")
    expect(told).to_contain_text("192.168.1.0/24 is reached by router")
    expect(told).to_contain_text("2 nodes: laptop, spare")
    keep(page, "gateways-preview", whole=False)
    # Nothing was done, and what is edited has to be seen anew.
    assert page.request.get("/v1/admin/networks/office/ranges").json()["ranges"] == []
    dialog.get_by_text("How it is reached").click()
    dialog.get_by_label("With NAT").uncheck()
    expect(told).to_have_count(0)
    dialog.get_by_role("button", name="See what changes").click()
    expect(told).to_contain_text("needs a route to 10.7.0.0/24 by router")
    dialog.get_by_label("With NAT").check()
    dialog.get_by_role("button", name="See what changes").click()
    expect(told).to_contain_text("machines there see the address of router")
    dialog.get_by_role("button", name="Publish", exact=True).click()
    expect(page.get_by_text("wgpy set --advertise 192.168.1.0/24,fd12:3456::/64")).to_be_visible()
    page.get_by_role("button", name="Done").click()
    table = page.get_by_role("table", name="Ranges behind nodes of office")
    expect(table.get_by_role("row", name="192.168.1.0/24")).to_contain_text("waits for the node")


def test_what_a_node_offers_is_approved_and_a_conflict_is_shown_with_both_sides(
    page: Page, office: Crowd
) -> None:
    page.goto("/networks/office/gateways")
    expect(page.locator("body")).to_have_attribute("data-live", "yes")
    offer(office, 1, "192.168.0.0/16", "10.99.0.0/24")
    offered = page.get_by_role("region", name="Offered")
    expect(offered).to_contain_text("192.168.0.0/16 at spare")  # by itself
    keep(page, "gateways-offered")
    offered.get_by_role("button", name="Approve 192.168.0.0/16 at spare").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="See what changes").click()
    told = dialog.get_by_role("region", name="What would change")
    expect(told.locator(".warning")).to_contain_text(
        "192.168.1.0/24 at router lies in 192.168.0.0/16 at spare"
    )
    dialog.get_by_role("button", name="Approve", exact=True).click()
    expect(page.get_by_text("Done: the nodes hear of it at once.")).to_be_visible()
    conflicts = page.get_by_role("region", name="Conflicts")
    expect(conflicts).to_contain_text("192.168.1.0/24 at router lies in 192.168.0.0/16 at spare")
    problem(office, 1, "192.168.0.0/16", "no route leads there from this host: is the cable in?")
    row = page.get_by_role("table", name="Ranges behind nodes of office").get_by_role(
        "row", name="192.168.0.0/16"
    )
    expect(row).to_contain_text("is the cable in?")
    keep(page, "gateways")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    keep(page, "gateways-phone")


def test_a_virtual_range_and_taking_back(page: Page, office: Crowd) -> None:
    page.goto("/networks/office/gateways")
    table = page.get_by_role("table", name="Ranges behind nodes of office")
    table.get_by_role("button", name="Edit 192.168.0.0/16 at spare").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("The others see it as").fill("auto")
    dialog.get_by_role("button", name="See what changes").click()
    told = dialog.get_by_role("region", name="What would change")
    expect(told).to_contain_text("by the others, no longer as 192.168.0.0/16")
    dialog.get_by_role("button", name="Save").click()
    expect(table).to_contain_text("stands for 192.168.0.0/16")
    expect(page.get_by_role("region", name="Conflicts")).to_have_count(0)
    table.get_by_role("button", name="Take back 192.168.1.0/24 at router").click()
    expect(told).to_contain_text("no route to 192.168.1.0/24 any more")
    keep(page, "gateways-take-back", whole=False)
    dialog.get_by_role("button", name="Take back").click()
    expect(table.get_by_role("row", name="192.168.1.0/24")).to_have_count(0)


def test_an_exit_node_is_made_and_taken_back(page: Page, office: Crowd) -> None:
    page.goto("/networks/office/gateways")
    page.get_by_role("button", name="Add an exit node").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Gateway", exact=True).select_option("router")
    dialog.get_by_role("button", name="See what changes").click()
    expect(dialog).to_contain_text("router forwards to the whole internet by IPv4 and IPv6")
    dialog.get_by_role("button", name="Make it an exit").click()
    expect(page.get_by_text("wgpy set --advertise exit")).to_be_visible()
    page.get_by_role("button", name="Done").click()
    row = page.get_by_role("table", name="Exit nodes of office").get_by_role("row", name="router")
    expect(row).to_contain_text("IPv4, IPv6")
    row.get_by_role("button", name="Take back the exit at router").click()
    expect(dialog).to_contain_text("router is no exit for IPv4 now")
    expect(dialog).to_contain_text("router is no exit for IPv6 now")
    dialog.get_by_role("button", name="Take it back").click()
    expect(page.get_by_role("table", name="Exit nodes of office")).to_have_count(0)


def test_records_and_domains_are_added_edited_found_and_removed(page: Page, office: Crowd) -> None:
    page.goto("/networks/office")
    page.get_by_role("link", name="Names", exact=True).click()
    expect(page.get_by_role("link", name="laptop.office.internal")).to_be_visible()
    page.get_by_role("button", name="Add a record").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name, without .office.internal").fill("Not a label")
    dialog.get_by_label("Is", exact=True).fill("192.168.1.9")
    dialog.get_by_role("button", name="See what changes").click()
    expect(dialog.get_by_role("alert")).to_contain_text("inner hyphens, and no suffix, such as nas")
    dialog.get_by_label("Name, without .office.internal").fill("nas")
    dialog.get_by_role("button", name="See what changes").click()
    expect(dialog).to_contain_text("nas.office.internal is 192.168.1.9")
    dialog.get_by_role("button", name="Add", exact=True).click()
    records = page.get_by_role("table", name="Records of office")
    expect(records.get_by_role("row", name="nas.office.internal")).to_contain_text("192.168.1.9")

    page.get_by_role("button", name="Add a record").click()
    dialog.get_by_label("Name, without .office.internal").fill("laptop")
    dialog.get_by_label("Is", exact=True).fill("nowhere")
    dialog.get_by_role("button", name="See what changes").click()
    expect(dialog.locator(".warning").first).to_contain_text("laptop is a node")
    expect(dialog.locator(".warning").last).to_contain_text("nowhere.office.internal is neither")
    keep(page, "names-preview", whole=False)
    page.keyboard.press("Escape")
    expect(records.get_by_role("row")).to_have_count(2)

    page.get_by_role("button", name="Add a domain").click()
    dialog.get_by_label("Domain").fill("corp.example")
    dialog.get_by_label("Its name servers").fill("10.20.0.53, ns.corp.example")
    dialog.get_by_role("button", name="See what changes").click()
    expect(dialog.get_by_role("alert")).to_contain_text("a name server is an IP address")
    dialog.get_by_label("Its name servers").fill("10.20.0.53, 10.20.0.54")
    dialog.get_by_role("button", name="See what changes").click()
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_text("wgpy set --accept-domain corp.example")).to_be_visible()
    keep(page, "names")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    keep(page, "names-phone")
    page.set_viewport_size({"width": 1280, "height": 800})

    records.get_by_role("button", name="Edit nas, 192.168.1.9").click()
    dialog.get_by_label("Is", exact=True).fill("router")
    dialog.get_by_role("button", name="See what changes").click()
    expect(dialog).to_contain_text("nas.office.internal is router.office.internal; it was 192.168.1.9")
    dialog.get_by_role("button", name="Save").click()
    expect(records).to_contain_text("router.office.internal")
    page.get_by_label("Find a name or an address").fill("corp")
    expect(page.get_by_text("No record matches.")).to_be_visible()
    page.get_by_role("button", name="Remove corp.example").click()
    expect(dialog).to_contain_text("asked of each host's own name servers again")
    dialog.get_by_role("button", name="Remove", exact=True).click()
    expect(page.get_by_text("None yet. Names of a domain")).to_be_visible()


def test_who_edits_what_somebody_else_has_changed_is_told(
    make_page: Callable[..., Page], page: Page, coordinator: Coordinator
) -> None:
    page.goto("/networks/office/names")
    page.get_by_role("button", name="Add a record").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name, without .office.internal").fill("printer")
    dialog.get_by_label("Is", exact=True).fill("192.168.1.20")
    coordinator.run("names", "add", "camera", "192.168.1.21", "--network", "office")
    dialog.get_by_role("button", name="See what changes").click()
    expect(dialog.get_by_role("alert")).to_contain_text("somebody else has changed this")
    expect(dialog.get_by_label("Is", exact=True)).to_have_value("192.168.1.20")


def test_a_node_that_is_removed_says_first_what_goes_with_it(page: Page, office: Crowd) -> None:
    page.goto("/networks/office/nodes/spare")
    page.get_by_role("button", name="Remove").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("no tunnel to spare any more 2 nodes: laptop, router")
    expect(dialog).to_contain_text("spare forwards 192.168.0.0/16 no longer")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Disable").click()
    expect(dialog).to_contain_text("no tunnel to spare any more")
