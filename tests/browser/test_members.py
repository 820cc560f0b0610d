"""What an admin does with the hosts of a network and its settings."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import begin, enter, keep
from tests.browser.crowd import Crowd, direct, lost
from tests.browser.eyes import too_faint, too_wide
from tests.coordinator.process import Connection, Coordinator, RemoteHost
from wgpy.mesh.keyless import CommitAnswer, CommitRequest, encode_code, join_code
from wgpy.mesh.token import Token

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def office(coordinator: Coordinator) -> Iterator[Crowd]:
    begin(coordinator)
    coordinator.run("network", "create", "office")
    crowd = Crowd(coordinator, "office", ["alpha", "beta", "gamma"])
    crowd.say(0, 1, direct(12.0))
    crowd.say(0, 2, lost())
    crowd.say(1, 2, direct(33.0))
    crowd.watch()
    crowd.report()
    yield crowd
    crowd.close()


def test_the_page_of_a_node_shows_its_tunnels_as_they_are(page: Page, office: Crowd) -> None:
    page.goto("/networks/office/nodes/alpha")
    table = page.get_by_role("table", name="Tunnels of alpha")
    expect(table.get_by_role("row", name="beta")).to_contain_text("12 ms")
    expect(table.get_by_role("row", name="gamma")).to_contain_text("is UDP blocked in between?")
    expect(page.get_by_role("heading", name="Tunnels 1 of 2 up")).to_be_visible()
    expect(page.get_by_text("198.51.100.1:51820")).to_be_visible()
    expect(page.locator("body")).to_have_attribute("data-live", "yes")
    office.say(0, 2, direct(77.0))
    office.report(0, 2)
    expect(table.get_by_role("row", name="gamma")).to_contain_text("77 ms")
    keep(page, "node")
    table.get_by_role("link", name="gamma").click()
    expect(page.get_by_role("heading", name="gamma", level=1)).to_be_visible()


def test_a_node_is_renamed_tagged_found_by_its_tag_and_disabled(page: Page, office: Crowd) -> None:
    page.goto("/networks/office/nodes/beta")
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Name").fill("Not A Label")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Name").fill("printer")
    page.get_by_label("Tags").fill("floor-2, machines")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="printer", level=1)).to_be_visible()
    page.get_by_role("link", name="office").click()
    page.get_by_role("button", name="Nodes tagged machines").click()
    rows = page.get_by_role("table", name="Nodes of office").get_by_role("row")
    expect(rows).to_have_count(2)
    page.get_by_label("Search nodes").fill("#mach")
    expect(page.get_by_text("No node matches.")).to_be_visible()
    page.get_by_label("Search nodes").fill("mach")
    keep(page, "nodes-tagged")
    page.get_by_role("link", name="printer").click()
    page.get_by_role("button", name="Disable").click()
    page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    expect(page.get_by_text("disabled", exact=True).first).to_be_visible()
    page.get_by_role("link", name="office").click()
    page.get_by_label("Which nodes").select_option("off")
    expect(rows).to_have_count(2)
    page.get_by_role("link", name="printer").click()
    page.get_by_role("button", name="Enable").click()
    page.get_by_role("dialog").get_by_role("button", name="Enable").click()
    expect(page.get_by_role("button", name="Disable")).to_be_visible()


def test_settings_are_saved_and_two_who_edit_them_do_not_overwrite_each_other(
    make_page: Callable[..., Page], page: Page, coordinator: Coordinator
) -> None:
    coordinator.run("network", "create", "lab")
    other = make_page()
    enter(other)
    for each in (page, other):
        each.goto("/networks/lab/settings")
        expect(each.get_by_label("Description")).to_be_visible()
    page.get_by_label("Description").fill("Where things are tried")
    page.get_by_label("Hosts may ask to join without a token").check()
    page.get_by_label("MTU").fill("1300")
    page.get_by_label("Nodes renew their WireGuard keys").select_option("604800")
    page.get_by_label("Who sees whom").fill("laptops servers")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("laptops:servers")
    page.get_by_label("Who sees whom").fill("laptops:servers admin:*")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved: the nodes follow at once.")).to_be_visible()
    expect(page.get_by_label("MTU")).to_have_value("1300")
    expect(page.get_by_label("Who sees whom")).to_have_value("admin:* laptops:servers")
    keep(page, "settings")
    other.get_by_label("MTU").fill("1400")
    other.get_by_role("button", name="Save").click()
    expect(other.get_by_role("alert")).to_contain_text("somebody else has changed this")
    expect(other.get_by_label("MTU")).to_have_value("1400")  # nothing that was entered is lost


def test_a_network_is_renamed_and_its_ranges_grow_where_its_settings_are(
    page: Page, coordinator: Coordinator
) -> None:
    coordinator.run("network", "create", "small", "--cidr", "10.91.0.0/24", "--cidr", "fd91::/64")
    coordinator.run("network", "create", "other", "--cidr", "10.92.0.0/24")
    page.goto("/networks/small/settings")
    ranges = page.get_by_label("Address ranges")
    expect(ranges).to_have_value("10.91.0.0/24, fd91::/64")
    ranges.fill("10.92.0.0/16, fd91::/64")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("other")
    ranges.fill("10.91.0.0/20, fd91::/64")
    page.get_by_label("Name", exact=True).fill("larger")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved: the nodes follow at once.")).to_be_visible()
    expect(page).to_have_url(re.compile("/networks/larger/settings$"))
    expect(page.get_by_role("heading", name="larger", level=1)).to_be_visible()
    expect(ranges).to_have_value("10.91.0.0/20, fd91::/64")
    shown = json.loads(coordinator.run("network", "show", "larger", "--json").stdout)
    assert sorted(shown["ranges"]) == ["10.91.0.0/20", "fd91::/64"]


def test_a_token_with_terms_admits_hosts_under_them_and_a_joins_waits_until_it_is_approved(
    page: Page, coordinator: Coordinator
) -> None:
    coordinator.run("network", "create", "gated")
    page.goto("/networks/gated/tokens")
    page.get_by_role("button", name="New token").click()
    page.get_by_label("For how many hosts").fill("0")
    page.get_by_label("Tags of its nodes").fill("field")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Remove its nodes when they are offline for").select_option("3600")
    page.get_by_label("Its nodes wait for approval").select_option("yes")
    page.get_by_role("button", name="Create the token").click()
    line = page.get_by_role("dialog").locator("code").inner_text()
    page.get_by_role("button", name="Done").click()
    row = page.get_by_role("table", name="Tokens of gated").get_by_role("row").nth(1)
    expect(row).to_contain_text("removed after 1 h offline; wait for approval")
    token = Token.decode(line.removeprefix("wgpy up "))
    page.get_by_role("link", name="Nodes", exact=True).click()
    expect(page.get_by_role("heading", name="No node yet")).to_be_visible()
    expect(page.locator("body")).to_have_attribute("data-live", "yes")
    for number in (71, 72):
        status, answer = ask_to_join(RemoteHost(number, token))
        assert status == 202, answer
    expect(page.get_by_role("heading", name="2 hosts wait for approval")).to_be_visible()
    keep(page, "waiting")
    assert too_faint(page) == []
    page.get_by_role("listitem").filter(has_text="host-72").get_by_role("button", name="Refuse").click()
    page.get_by_role("dialog").get_by_role("button", name="Refuse").click()
    expect(page.get_by_role("heading", name="1 host waits for approval")).to_be_visible()
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("link", name="host-71")).to_be_visible()
    expect(page.get_by_role("button", name="Nodes tagged field")).to_be_visible()
    expect(page.get_by_role("heading", name="waits for approval")).to_have_count(0)
    assert ask_to_join(RemoteHost(71, token))[0] == 200


def ask_to_join(host: RemoteHost) -> tuple[int, object]:
    with Connection(host.url) as connection:
        asked = host.join_request(
            host.token.secret, connection.challenge(), host.token.identity_hash, connection.leaf_hash
        )
        return connection.call("POST", "/v1/join", asked.to_json())


def ask_keyless(coordinator: Coordinator, host: RemoteHost, network: str) -> tuple[str, str]:
    """A host without a token, which waits now → the join's id, and the code that the host shows."""
    with Connection(coordinator.url) as connection:
        committed = CommitRequest(network, host.commitment).to_json()
        made = CommitAnswer.from_json(connection.call("POST", "/v1/join/commit", committed)[1])
        identity = host.token.identity_hash
        asked = host.open_request(made.join, connection.challenge(), identity, connection.leaf_hash)
        status, answer = connection.call("POST", "/v1/join/open", asked.to_json())
        assert status == 202, answer
        leaf = connection.leaf_hash
        code = join_code(asked, identity_hash=identity, leaf_hash=leaf, coordinator_nonce=made.nonce)
        return made.join, encode_code(code)


def test_a_host_without_a_token_comes_in_by_the_code_that_it_shows(
    make_page: Callable[..., Page], coordinator: Coordinator
) -> None:
    coordinator.run("network", "create", "open")
    page = make_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    enter(page)
    page.goto("/networks/open/settings")
    page.get_by_label("Hosts may ask to join without a token").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved: the nodes follow at once.")).to_be_visible()
    page.get_by_role("link", name="Nodes", exact=True).click()
    expect(page.locator("body")).to_have_attribute("data-live", "yes")
    host = RemoteHost(81, coordinator.token("open"))
    _, code = ask_keyless(coordinator, host, "open")
    field = page.get_by_label("The code that host-81 shows")
    field.fill("AAA-AAA" if code != "AAA-AAA" else "BBB-BBB")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("alert")).to_be_visible()
    keep(page, "approve-on-a-phone")
    # What was typed stays when somebody else asks meanwhile.
    field.fill(code[:3])
    ask_keyless(coordinator, RemoteHost(82, host.token), "open")
    expect(page.get_by_role("heading", name="2 hosts wait for approval")).to_be_visible()
    expect(field).to_have_value(code[:3])
    expect(field).to_be_focused()
    page.keyboard.press("End")
    page.keyboard.type(code[3:].lower())
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="host-81")).to_be_visible()
    assert too_wide(page) == []


def test_a_network_is_deleted_by_typing_its_name(page: Page, coordinator: Coordinator) -> None:
    coordinator.run("network", "create", "doomed")
    page.goto("/networks/doomed/settings")
    page.get_by_role("button", name="Delete this network").click()
    page.get_by_label("Type doomed to go on").fill("doome")
    page.get_by_role("button", name="Delete the network").click()
    expect(page.get_by_role("alert")).to_contain_text("doome")
    page.get_by_label("Type doomed to go on").fill("doomed")
    page.get_by_role("button", name="Delete the network").click()
    expect(page.get_by_role("heading", name="Networks")).to_be_visible()
    expect(page.get_by_role("link", name="doomed")).to_have_count(0)


def test_the_audit_log_is_searched_and_exported(page: Page, office: Crowd) -> None:
    page.goto("/audit")
    page.get_by_label("About what").select_option("network")
    expect(page.get_by_text("network.create").first).to_be_visible()
    expect(page.get_by_text("session.open")).to_have_count(0)
    page.get_by_label("Since when").select_option("86400")
    page.get_by_label("Search the audit log").fill("office")
    page.keyboard.press("Enter")
    expect(page.locator("details.card")).to_have_count(1)
    expect(page.get_by_role("button", name="Older")).to_be_hidden()
    page.locator("details.card summary").click()
    expect(page.get_by_text("ranges", exact=True)).to_be_visible()
    keep(page, "audit-search")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as CSV").click()
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    assert [(row["action"], row["subject"]) for row in rows] == [("network.create", "office")]
    page.get_by_label("Search the audit log").fill("nothing of that kind")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing matches.")).to_be_visible()
