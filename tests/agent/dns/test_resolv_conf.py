"""The text of /etc/resolv.conf: ours in the place of what was there, and back."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.agent.dns.resolv_conf import Base, is_ours, parse_nameservers, recall, render

OURS = [ipaddress.ip_address("10.77.0.2")]
HOME = """# from the router
nameserver 192.168.1.1
nameserver fe80::1%eth0
search lan
options rotate ndots:2
"""


def settings(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_ours_is_asked_first_and_the_hosts_own_when_ours_is_silent() -> None:
    assert settings(render(Base(HOME), OURS, ["home.internal"], fall_back=True)) == [
        "nameserver 10.77.0.2",
        "nameserver 192.168.1.1",
        "nameserver fe80::1%eth0",
        "search lan home.internal",
        "options ndots:2",
    ]


def test_where_all_servers_are_asked_at_once_ours_stands_alone() -> None:
    text = render(Base(HOME), OURS, [], fall_back=False)
    assert settings(text)[:2] == ["nameserver 10.77.0.2", "search lan"]


def test_no_more_than_three_servers_are_named() -> None:
    base = Base("".join(f"nameserver 9.9.9.{n}\n" for n in range(5)))
    text = render(base, OURS, [], fall_back=True)
    assert [str(server) for server in parse_nameservers(text)] == ["10.77.0.2", "9.9.9.0", "9.9.9.1"]


def test_the_last_search_line_counts_and_what_is_no_address_is_passed_over() -> None:
    base = Base("domain old\nsearch new newer\nnameserver dns.example\nnameserver\n; nameserver 1.1.1.1\n")
    assert settings(render(base, OURS, [], fall_back=True)) == ["nameserver 10.77.0.2", "search new newer"]


@pytest.mark.parametrize(
    "base",
    [
        Base(HOME),
        Base(""),
        Base(None),
        Base("nameserver 1.1.1.1"),
        Base("\n\n"),
        Base("#wgpy-line nameserver 6.6.6.6\n#wgpy-end\n"),
    ],
)
def test_what_was_there_is_put_back_to_the_octet(base: Base) -> None:
    assert recall(render(base, OURS, ["home.internal"], fall_back=True)) == base


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])))
def test_any_text_is_put_back_to_the_octet(text: str) -> None:
    assert recall(render(Base(text), OURS, [], fall_back=True)) == Base(text)


def test_of_a_link_the_link_is_remembered_and_not_the_text_behind_it() -> None:
    text = render(Base(HOME, "../run/NetworkManager/resolv.conf"), OURS, [], fall_back=True)
    assert recall(text) == Base(None, "../run/NetworkManager/resolv.conf")
    assert "nameserver 192.168.1.1" in text


def test_ours_is_known_by_its_first_line_and_of_no_use_once_it_was_cut() -> None:
    text = render(Base(HOME), OURS, [], fall_back=True)
    assert (is_ours(text), is_ours(HOME), is_ours(None)) == (True, False, False)
    assert recall(text[: len(text) // 2]) is None
