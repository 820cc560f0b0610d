"""Name servers of an interface, as scutil is told of them."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from wgpy.agent.dns.claims import Claim
from wgpy.darwin.names import announce_script, withdraw_script
from wgpy.errors import HostError

SERVERS = (ip_address("10.0.0.1"), ip_address("fd00::1"))


def test_domains_of_a_mesh_are_asked_of_its_responder_at_its_port() -> None:
    claim = Claim("utun4", SERVERS, ("home.wgpy", "0.0.10.in-addr.arpa"), ("home.wgpy",), port=5353)
    assert announce_script(claim) == (
        "d.init\n"
        "d.add ServerAddresses * 10.0.0.1 fd00::1\n"
        "d.add ServerPort # 5353\n"
        "d.add SearchDomains * home.wgpy\n"
        "d.add SupplementalMatchDomains * home.wgpy 0.0.10.in-addr.arpa\n"
        "set State:/Network/Service/wgpy-utun4/DNS\n"
        "quit\n"
    )


def test_exclusive_servers_are_asked_for_everything() -> None:
    claim = Claim("utun4", SERVERS[:1], search=("example",), is_exclusive=True)
    assert announce_script(claim) == (
        "d.init\n"
        "d.add ServerAddresses * 10.0.0.1\n"
        "d.add SearchDomains * example\n"
        'd.add SupplementalMatchDomains * ""\n'
        "set State:/Network/Service/wgpy-utun4/DNS\n"
        "quit\n"
    )


def test_it_is_taken_back_by_the_interface_alone() -> None:
    assert withdraw_script("utun4") == "remove State:/Network/Service/wgpy-utun4/DNS\nquit\n"


def test_a_domain_is_one_word_of_a_command() -> None:
    for domain in ("a b", "x\nremove State:/", 'a"', ""):
        with pytest.raises(HostError, match="a domain has letters, digits, dots and dashes"):
            announce_script(Claim("utun4", SERVERS, (domain,)))
