"""A real Chromium before a real coordinator. Each module has both of its own, on loopback.

Screenshots go to target/screenshots/: every test that shows something keeps one.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.coordinator.process import Connection, Coordinator

SCREENSHOTS = Path(__file__).parents[2] / "target" / "screenshots"
PASSWORD = "correct horse battery staple"
PATIENCE = 20_000
"""Milliseconds for what a page shows by itself: the machine may be busy."""


def chromium_flags() -> list[str]:
    """Root has no sandbox to give."""
    return ["--no-sandbox"] if os.geteuid() == 0 else []


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=chromium_flags())
        yield started
        started.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    started = Coordinator(tmp_path_factory.mktemp("coordinator") / "state", free_port())
    started.start()
    yield started
    started.stop()


@pytest.fixture
def make_page(browser: Browser, coordinator: Coordinator) -> Iterator[Callable[..., Page]]:
    """Opens pages, each with cookies of its own; what a page logs as an error fails the test."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def make(**options: object) -> Page:
        context = browser.new_context(base_url=coordinator.url, ignore_https_errors=True, **options)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: _note(message.type, message.text, faults))
        return page

    yield make
    for context in contexts:
        context.close()
    assert not faults


def _note(kind: str, text: str, faults: list[str]) -> None:
    # A refused request is part of several tests; the browser has a line for each.
    if kind == "error" and "Failed to load resource" not in text:
        faults.append(text)


def setup_link(coordinator: Coordinator) -> str:
    """The link that a starting coordinator without admins prints."""
    found = re.search(r"https://\S+/setup#\S+", coordinator.text())
    assert found is not None, coordinator.text()
    return found.group()


def keep(page: Page, name: str, *, whole: bool = True) -> None:
    """A screenshot, for people: of the whole page, or of what is in view."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=whole)


def begin(coordinator: Coordinator, name: str = "ada") -> None:
    """Make the first admin, without a browser, unless there is one: a test may run alone or after others."""
    secret = setup_link(coordinator).partition("#")[2]
    with Connection(coordinator.url) as connection:
        body = {"secret": secret, "name": name, "password": PASSWORD}
        status, answer = connection.call("POST", "/v1/setup", body)
    assert status == 201 or "was used" in str(answer), answer


def enter(page: Page, name: str = "ada") -> None:
    """Sign in, without the form."""
    answer = page.request.post("/v1/sign-in", data={"name": name, "password": PASSWORD})
    assert answer.ok, answer.text()


@pytest.fixture
def page(make_page: Callable[..., Page], office: object) -> Page:
    """A page of an admin of the module's `office`, which is there."""
    page = make_page()
    enter(page)
    return page
