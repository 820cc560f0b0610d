"""Signing in at an OpenID provider, in the browser: set up, used, connected to an account."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import begin, enter, keep
from tests.coordinator.openid import CLIENT_ID, CLIENT_SECRET, OpenIdProvider, openid_provider
from tests.coordinator.process import Coordinator

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def provider(coordinator: Coordinator) -> Iterator[OpenIdProvider]:
    begin(coordinator)
    coordinator.run("network", "create", "office")
    with openid_provider() as provider:
        provider.people = {
            "grace": {"email": "grace@example.org", "email_verified": True},
            "ada-at-work": {"email": "ada@example.org", "email_verified": True},
        }
        yield provider


def test_an_admin_sets_up_a_provider_and_somebody_comes_in_by_it(
    make_page: Callable[..., Page], coordinator: Coordinator, provider: OpenIdProvider
) -> None:
    page = make_page()
    enter(page)
    page.goto("/settings")
    page.get_by_role("button", name="Add a provider").click()
    page.get_by_label("Name").fill("company")
    page.get_by_label("What the button says").fill("Example Company")
    page.get_by_label("Issuer").fill(f"{provider.issuer}/elsewhere")
    page.get_by_label("Client id").fill(CLIENT_ID)
    page.get_by_label("Client secret").fill(CLIENT_SECRET)
    page.get_by_label("Lets in").select_option("everyone")
    page.get_by_label("On office").select_option("viewer")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("HTTP 404")
    page.get_by_label("Issuer").fill(provider.issuer)
    page.get_by_role("button", name="Add", exact=True).click()
    uri = page.get_by_role("dialog").locator("code").inner_text()
    provider.redirect_uris.add(uri)
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("row", name="Example Company")).to_be_visible()
    keep(page, "providers")

    guest = make_page(color_scheme="dark")
    guest.goto("/networks/office")
    keep(guest, "sign-in")
    guest.get_by_role("link", name="Continue with Example Company").click()
    expect(guest.get_by_role("heading", name="Who are you?")).to_be_visible()
    guest.get_by_role("link", name="grace").click()
    expect(guest.get_by_role("heading", name="office")).to_be_visible()  # where they wanted to go
    expect(guest.get_by_text("grace@example.org")).to_be_visible()
    expect(guest.get_by_role("link", name="People")).to_have_count(0)


def test_an_admin_connects_their_own_account(
    make_page: Callable[..., Page], provider: OpenIdProvider
) -> None:
    page = make_page()
    enter(page)
    page.goto("/settings")
    page.get_by_role("button", name="Connect Example Company").click()
    page.get_by_role("link", name="ada-at-work").click()
    expect(page.get_by_role("heading", name="Settings")).to_be_visible()
    page.get_by_role("button", name="Sign out", exact=True).first.click()
    page.get_by_role("link", name="Continue with Example Company").click()
    page.get_by_role("link", name="ada-at-work").click()
    expect(page.get_by_role("link", name="People")).to_be_visible()


def test_a_provider_is_set_up_listed_and_removed_on_the_command_line(
    coordinator: Coordinator, provider: OpenIdProvider, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{CLIENT_SECRET}\n")
    with openid_provider() as another:
        words = ["provider", "set", "second", "--issuer", another.issuer, "--client-id", CLIENT_ID]
        made = coordinator.run(*words, "--client-secret-file", str(secret), "--role", "office=member")
        assert f"  {coordinator.url}/v1/oidc/callback" in made.stdout
        [found] = [row for row in coordinator.json("provider", "list") if row["name"] == "second"]
        assert (found["has_secret"], list(found["roles"].values())) == (True, ["member"])
        wrong = coordinator.run("provider", "set", "third", "--issuer", another.issuer, "--client-id", "x",
                                check=False)  # fmt: skip
        assert wrong.returncode != 0
        assert "set up already, as second" in wrong.stderr
        assert CLIENT_SECRET not in made.stdout + made.stderr + coordinator.text()
        coordinator.run("provider", "remove", "second")
    assert [row["name"] for row in coordinator.json("provider", "list")] == ["company"]


def test_who_is_not_let_in_reads_why(make_page: Callable[..., Page], provider: OpenIdProvider) -> None:
    page = make_page()
    page.goto("/sign-in?refused=not_admitted")
    expect(page.get_by_role("alert")).to_contain_text("ask an admin to add your e-mail address")
    page.goto("/sign-in?refused=%3Cb%3Eno")
    expect(page.get_by_role("alert")).to_have_text("That did not work: try again.")
    page.goto("/v1/oidc/company/begin")
    page.get_by_role("link", name="grace").click()
    expect(page.get_by_role("heading", name="Networks")).to_be_visible()
