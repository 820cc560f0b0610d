"""The mesh as the page shows it: a graph and a table of what both ends of each tunnel say, live."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import begin, enter, keep
from tests.browser.crowd import Crowd, direct, lost
from tests.coordinator.process import Coordinator

pytestmark = [pytest.mark.slow]

NAMES = ["paris", "lyon", "berlin", "laptop", "tokyo", "osaka", "phone"]
SITES = [0, 0, 1, 0, 2, 2, 3]
BETWEEN = {
    (0, 0): 2.4,
    (0, 1): 18.0,
    (1, 1): 1.0,
    (0, 2): 231.0,
    (1, 2): 244.0,
    (2, 2): 7.1,
    (0, 3): 48.0,
    (1, 3): 61.0,
}
BETWEEN |= {(2, 3): 262.0}
RELAYED = dataclasses.replace(
    direct(262.0),
    path="relayed",
    reason="relayed: it answers there in 262 ms; its own endpoint does not answer",
    tried=("relay oslo: answered 3 s ago", "direct 198.51.100.9:51820: no answer 40 s ago"),
    next_try=20,
)
LAN = dataclasses.replace(direct(0.42), path="lan")


@pytest.fixture(scope="module")
def crowd(coordinator: Coordinator) -> Iterator[Crowd]:
    begin(coordinator)
    coordinator.run("network", "create", "world")
    crowd = Crowd(coordinator, "world", NAMES)
    for one, other in itertools.combinations(range(len(NAMES)), 2):
        sites = tuple(sorted((SITES[one], SITES[other])))
        crowd.say(one, other, direct(BETWEEN[sites] + one / 3, 40_000 * (one + other)))
    crowd.say(0, 3, LAN)
    crowd.say(4, 6, RELAYED)
    crowd.say(5, 6, lost())
    crowd.say(
        1, 5, direct(240.0), lost("no answer from 203.0.113.4:51820 for 31 s; is UDP blocked in between?")
    )
    crowd.watch()
    crowd.report()
    yield crowd
    crowd.close()


@pytest.fixture
def page(make_page: Callable[..., Page], coordinator: Coordinator, crowd: Crowd) -> Page:
    page = make_page(viewport={"width": 1280, "height": 900})
    enter(page)
    page.goto("/networks/world/mesh")
    expect(page.get_by_role("heading", name="world")).to_be_visible()
    return page


def test_the_graph_shows_each_node_and_tunnel_and_what_both_ends_say(page: Page, crowd: Crowd) -> None:
    graph = page.locator("svg.graph")
    expect(graph.get_by_role("button")).to_have_count(len(NAMES))
    expect(graph.locator("[data-pair]")).to_have_count(21)
    expect(graph.get_by_role("button", name="lyon, online, 5 of 6 tunnels up")).to_be_visible()
    keep(page, "mesh-world")
    graph.get_by_role("button", name="paris").hover()
    panel = page.get_by_role("complementary", name="What is chosen")
    expect(panel.get_by_role("heading", name="paris online")).to_be_visible()
    keep(page, "mesh-node")
    graph.get_by_role("button", name="paris").click()
    panel.get_by_role("button", name="tokyo").click()
    expect(panel.get_by_role("heading", name="paris says")).to_be_visible()
    expect(panel.get_by_role("heading", name="tokyo says")).to_be_visible()
    keep(page, "mesh-tunnel")
    expect(page.locator(".tunnel.near")).to_have_count(1)
    panel.get_by_role("button", name="Back to the whole mesh").click()
    expect(panel.get_by_role("heading", name="The whole mesh")).to_be_visible()
    assert "19 of 21" in panel.inner_text()
    graph.get_by_role("button", name="tokyo").click()
    panel.get_by_role("button", name="phone").click()
    expect(panel.get_by_text("its own endpoint does not answer")).to_have_count(2)
    expect(panel.get_by_text("direct 198.51.100.9:51820: no answer 40 s ago")).to_have_count(2)
    expect(panel.get_by_text("Next try")).to_have_count(2)


def test_the_table_says_in_text_what_the_lines_show(page: Page) -> None:
    table = page.get_by_role("table", name="Tunnels of world")
    cells = table.get_by_role("row", name="lyon – osaka").get_by_role("cell")
    expect(cells.nth(1)).to_have_text("ends differ")
    expect(cells.nth(2)).to_have_text("direct / no path")
    expect(cells.nth(6)).to_contain_text("no answer from 203.0.113.4:51820")
    cells = table.get_by_role("row", name="phone – tokyo").get_by_role("cell")
    expect(cells.nth(2)).to_have_text("relayed")
    expect(cells.nth(3)).to_have_text("262 ms")
    page.get_by_label("Which tunnels").select_option("trouble")
    expect(table.get_by_role("row")).to_have_count(3)
    page.get_by_label("Which tunnels").select_option("")
    page.get_by_label("Find a node").fill("phone")
    expect(table.get_by_role("row")).to_have_count(7)
    page.get_by_label("Find a node").press("Enter")
    expect(page.get_by_role("heading", name="phone online")).to_be_visible()
    # Each kind of line has a style of its own, not a colour alone.
    styles = page.locator(".legend .line:last-child").evaluate_all(
        "all => all.map(it => [getComputedStyle(it).strokeDasharray, it.parentNode.childElementCount] + '')"
    )
    assert len(set(styles)) == len(styles) == 6


def test_everything_in_the_graph_is_reached_by_the_keyboard(page: Page) -> None:
    page.get_by_label("Find a node").focus()
    for _ in range(12):  # past the network's tabs: the whole graph is one stop
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('svg.graph') !== null"):
            break
    seen = set()
    for key in ["ArrowLeft"] * 7 + ["ArrowRight"] * 7 + ["ArrowUp"] * 7 + ["ArrowDown"] * 7:
        seen.add(page.evaluate("document.activeElement.querySelector('text').textContent"))
        page.keyboard.press(key)
    assert len(seen) >= 4
    name = page.evaluate("document.activeElement.querySelector('text').textContent")
    panel = page.get_by_role("complementary", name="What is chosen")
    expect(panel.get_by_role("heading", level=2)).to_contain_text(name)
    page.keyboard.press("Tab")  # the node's own page
    page.keyboard.press("Tab")  # its first tunnel
    page.keyboard.press("Enter")
    expect(panel.get_by_role("heading", name=f"{name} says")).to_be_visible()


def test_a_report_is_shown_without_a_reload_and_takes_no_focus(page: Page, crowd: Crowd) -> None:
    table = page.get_by_role("table", name="Tunnels of world")
    row = table.get_by_role("row", name="berlin – lyon")
    expect(row).to_contain_text("up")
    page.get_by_role("button", name="berlin – lyon", exact=True).focus()
    expect(page.locator("body")).to_have_attribute("data-live", "yes")
    before = crowd.tunnels[1, 2]
    crowd.say(1, 2, lost("no answer: cut for a test"))
    crowd.report(1, 2)
    expect(row).to_contain_text("no answer: cut for a test")
    expect(page.get_by_role("button", name="berlin – lyon", exact=True)).to_be_focused()
    expect(
        page.locator("svg.graph").get_by_role("button", name="lyon, online, 4 of 6 tunnels up")
    ).to_be_visible()
    crowd.say(1, 2, dataclasses.replace(before, rx_bytes=before.rx_bytes + 90_000_000))
    crowd.report(1, 2)
    expect(row).to_contain_text("MB/s")
    expect(page.locator(".tunnel .flow")).to_have_count(1)
    moving = "getComputedStyle(document.querySelector('.tunnel .flow')).animationName"
    assert page.evaluate(moving) == "flow"
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(moving) == "none"
    keep(page, "mesh-busy")


def test_the_graph_fits_a_phone(make_page: Callable[..., Page], crowd: Crowd) -> None:
    phone = make_page(
        viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True, device_scale_factor=2
    )
    enter(phone)
    phone.goto("/networks/world/mesh")
    node = phone.locator("svg.graph").get_by_role("button", name="tokyo")
    node.tap()
    expect(phone.get_by_role("heading", name="tokyo online")).to_be_visible()
    keep(phone, "mesh-on-a-phone")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = [box.bounding_box() for box in phone.locator("svg.graph [data-node] .hit").all()]
    assert all(box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes)


LAYOUT = """async () => {
  const { arrange, lengthOf } = await import("/static/layout.js");
  const { choose } = await import("/static/mesh.js");
  const { Rates } = await import("/static/tunnels.js");
  const ids = Array.from({ length: 200 }, (_, i) => `n${i}`);
  const between = (i, j) => lengthOf(true, i % 4 === j % 4 ? 1 : 150);
  const began = performance.now();
  const places = arrange(ids, between), again = arrange(ids, between);
  const took = (performance.now() - began) / 2;
  const mean = (same) => {
    let sum = 0, count = 0;
    for (let i = 0; i < 200; i++) for (let j = 0; j < i; j++) if ((i % 4 === j % 4) === same) {
      const a = places.get(ids[i]), b = places.get(ids[j]);
      sum += Math.hypot(a.x - b.x, a.y - b.y); count += 1;
    }
    return sum / count;
  };
  const nodes = Array.from({ length: 1000 }, (_, i) => ({ id: `m${i}`, online: i % 2 === 0 }));
  const pair = (a, b, state) => ({ a, b, state, ends: [] });
  const pairs = [pair("m7", "m9", "down"), pair("m11", "m13", "up")];
  const rates = new Rates();
  const names = (found) => choose(nodes, pairs, rates, found).map((node) => node.id);
  const same = JSON.stringify([...places]) === JSON.stringify([...again]);
  const plain = names(null), found = names(new Set(["m11"]));
  return { took, near: mean(true), far: mean(false), same, plain, found };
}"""


def test_two_hundred_nodes_are_arranged_and_of_a_thousand_those_that_matter(page: Page) -> None:
    result = page.evaluate(LAYOUT)
    assert result["same"]
    assert result["near"] < result["far"] / 1.5
    assert result["took"] < 5000
    assert len(result["plain"]) == len(result["found"]) == 200
    assert {"m7", "m9"} <= set(result["plain"])
    assert not {"m11", "m13"} & set(result["plain"])
    assert {"m7", "m9", "m11", "m13"} <= set(result["found"])


HAZE = """() => {
  const canvas = document.querySelector("canvas.haze");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let painted = 0, strongest = 0;
  for (let i = 3; i < data.length; i += 4) {
    if (data[i]) painted += 1;
    if (data[i] > data[strongest + 3]) strongest = i - 3;
  }
  return { painted, colour: [...data.slice(strongest, strongest + 3)].join() };
}"""


def test_a_crowd_is_drawn_whole(
    make_page: Callable[..., Page], coordinator: Coordinator, crowd: Crowd
) -> None:
    coordinator.run("network", "create", "crowded")
    many = Crowd(coordinator, "crowded", [f"node-{number:02}" for number in range(36)], first=100)
    for one, other in itertools.combinations(range(36), 2):
        same = one % 3 == other % 3
        many.say(one, other, direct(1.5 if same else 40.0 + 30 * ((one + other) % 3)))
    many.say(3, 30, lost())
    many.watch()
    many.report()
    page = make_page(viewport={"width": 1280, "height": 900}, color_scheme="dark")
    enter(page)
    page.goto("/networks/crowded/mesh")
    expect(page.locator("svg.graph [data-node]")).to_have_count(36)
    light = page.evaluate(HAZE)
    page.emulate_media(color_scheme="light")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    dark = page.evaluate(HAZE)  # 629 of them are a haze, in the colour of the scheme
    assert light["painted"] > 10_000
    assert light["colour"] != dark["colour"]
    page.emulate_media(color_scheme="dark")
    expect(page.locator("svg.graph [data-pair]")).to_have_count(1)
    keep(page, "mesh-crowd")
    page.locator("svg.graph").get_by_role("button", name="node-04").click()
    expect(page.locator("svg.graph .tunnel.near")).to_have_count(35)
    many.close()
