"""Names of the mesh: what is answered, checked with a DNS library that is not ours."""

from __future__ import annotations

import ipaddress
import random

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.agent.dns.message import (
    Code,
    InvalidQuery,
    Type,
    is_reply_to,
    is_truncated,
    parse_query_untrusted,
)
from wgpy.agent.dns.zone import Zone, reverse_domains, reverse_name, reversed_prefix
from wgpy.mesh.names import DomainServers, NameRecord

A, B = ipaddress.ip_address("10.77.0.2"), ipaddress.ip_address("fd89::2")
NAS = ipaddress.ip_address("192.168.7.9")
ZONE = Zone.of(
    "home.internal",
    (ipaddress.ip_network("10.77.0.0/16"), ipaddress.ip_network("fd89::/64")),
    {"alice": (A, B), "bob": (ipaddress.ip_address("10.77.0.3"),)},
    records=(
        NameRecord.parse("nas", str(NAS)),
        NameRecord.parse("git.dev", "10.77.0.9"),
        NameRecord.parse("www", "alice"),
        NameRecord.parse("web", "www"),
        NameRecord.parse("lost", "nobody-there"),
        NameRecord.parse("bob", "10.77.0.66"),
    ),
    clients={
        "phone": (ipaddress.ip_address("10.77.9.2"), ipaddress.ip_address("fd89::9:2")),
        "alice": (ipaddress.ip_address("10.77.9.3"),),
        "www": (ipaddress.ip_address("10.77.9.4"),),
    },
    domains=(
        DomainServers.parse("corp.example", ["10.20.0.53"]),
        DomainServers.parse("x.corp.example", ["10.9.9.9"]),
    ),
    never=("coordinator.home.internal",),
)


def ask(name: str, qtype: str = "A", limit: int = 512) -> dnslib.DNSRecord | None:
    asked = dnslib.DNSRecord.question(name, qtype).pack()
    answer = ZONE.answer(parse_query_untrusted(asked), limit)
    if answer is None:
        return None
    assert is_reply_to(answer, asked)
    return dnslib.DNSRecord.parse(answer)


def with_edns(name: str) -> bytes:
    """A query that takes replies of 1232 octets."""
    asked = dnslib.DNSRecord.question(name)
    asked.add_ar(dnslib.EDNS0(udp_len=1232))
    return bytes(asked.pack())


def found(name: str, qtype: str = "A") -> list[tuple[str, str]]:
    reply = ask(name, qtype)
    assert reply is not None
    assert reply.header.rcode == Code.NO_ERROR
    return [(str(each.rname), str(each.rdata)) for each in reply.rr]


def test_nodes_have_an_address_of_each_family() -> None:
    assert found("alice.home.internal") == [("alice.home.internal.", "10.77.0.2")]
    assert found("alice.home.internal", "AAAA") == [("alice.home.internal.", "fd89::2")]
    assert {data for _, data in found("alice.home.internal", "ANY")} == {"10.77.0.2", "fd89::2"}


def test_names_are_found_whatever_their_case_and_the_question_comes_back_as_it_was() -> None:
    reply = ask("AliCE.hoME.Internal")
    assert reply is not None
    assert str(reply.q.qname) == "AliCE.hoME.Internal."
    assert str(reply.rr[0].rdata) == "10.77.0.2"


def test_addresses_have_their_names() -> None:
    assert found("2.0.77.10.in-addr.arpa", "PTR") == [("2.0.77.10.in-addr.arpa.", "alice.home.internal.")]
    assert [data for _, data in found(B.reverse_pointer, "PTR")] == ["alice.home.internal."]
    assert [data for _, data in found(NAS.reverse_pointer, "PTR")] == ["nas.home.internal."]


def test_external_clients_have_names_that_no_node_and_no_record_has() -> None:
    assert found("phone.home.internal") == [("phone.home.internal.", "10.77.9.2")]
    assert found("phone.home.internal", "AAAA") == [("phone.home.internal.", "fd89::9:2")]
    assert found("2.9.77.10.in-addr.arpa", "PTR") == [("2.9.77.10.in-addr.arpa.", "phone.home.internal.")]
    assert found("alice.home.internal") == [("alice.home.internal.", "10.77.0.2")]
    assert found("www.home.internal")[0] == ("www.home.internal.", "alice.home.internal.")


def test_a_name_that_nobody_has_is_said_to_be_none_and_only_for_seconds() -> None:
    for name, qtype in (("carol.home.internal", "A"), ("x.alice.home.internal", "A")):
        reply = ask(name, qtype)
        assert reply is not None
        assert reply.header.rcode == Code.NO_SUCH_NAME
        assert [(each.rtype, each.ttl) for each in reply.auth] == [(Type.SOA, 5)]
    reverse = ask("8.0.77.10.in-addr.arpa", "PTR")
    assert reverse is not None
    assert reverse.header.rcode == Code.NO_SUCH_NAME


@pytest.mark.parametrize(
    ("name", "qtype"),
    [
        ("bob.home.internal", "AAAA"),
        ("alice.home.internal", "MX"),
        ("home.internal", "A"),
        ("dev.home.internal", "A"),
        ("77.10.in-addr.arpa", "PTR"),
    ],
)
def test_a_name_without_such_a_record_exists_all_the_same(name: str, qtype: str) -> None:
    reply = ask(name, qtype)
    assert reply is not None
    assert (reply.header.rcode, len(reply.rr), reply.auth[0].rtype) == (Code.NO_ERROR, 0, Type.SOA)


def test_records_of_ones_own_stand_beside_the_nodes_and_never_in_their_place() -> None:
    assert found("nas.home.internal") == [("nas.home.internal.", "192.168.7.9")]
    assert found("git.dev.home.internal") == [("git.dev.home.internal.", "10.77.0.9")]
    assert found("bob.home.internal") == [("bob.home.internal.", "10.77.0.3")]


def test_a_record_may_lead_to_another_name() -> None:
    assert found("web.home.internal") == [
        ("web.home.internal.", "www.home.internal."),
        ("www.home.internal.", "alice.home.internal."),
        ("alice.home.internal.", "10.77.0.2"),
    ]
    assert found("lost.home.internal") == [("lost.home.internal.", "nobody-there.home.internal.")]


@pytest.mark.parametrize(
    "name", ["example.org", "internal", "xhome.internal", "1.1.168.192.in-addr.arpa", "."]
)
def test_other_names_are_not_ours_to_answer(name: str) -> None:
    assert ask(name) is None


def test_the_coordinators_own_name_is_never_answered_from_the_map() -> None:
    nodes = {"coordinator": (A,), "bob": (A,)}
    hidden = Zone.of("home.internal", (), nodes, never=("coordinator.home.internal",))
    asked = parse_query_untrusted(dnslib.DNSRecord.question("coordinator.home.internal").pack())
    reply = hidden.answer(asked, 512)
    assert reply is None


def test_the_longest_listed_domain_says_who_knows() -> None:
    servers = [
        ZONE.servers_for(name)
        for name in (("a", "corp", "example"), ("a", "x", "corp", "example"), ("example",))
    ]
    assert servers == [(ipaddress.ip_address("10.20.0.53"),), (ipaddress.ip_address("10.9.9.9"),), None]


def test_a_reply_that_does_not_fit_is_marked_as_cut() -> None:
    many = Zone.of("m.internal", (), {}, records=[NameRecord.parse("a", f"10.0.{n}.1") for n in range(100)])
    asked = dnslib.DNSRecord.question("a.m.internal").pack()
    cut = many.answer(parse_query_untrusted(asked), 512)
    whole = many.answer(parse_query_untrusted(asked), 65535)
    assert cut is not None
    assert whole is not None
    assert (len(cut) <= 512, is_truncated(cut)) == (True, True)
    assert (len(dnslib.DNSRecord.parse(whole).rr), is_truncated(whole)) == (100, False)
    assert {int(each.rdata.data[2]) for each in dnslib.DNSRecord.parse(whole).rr} == set(range(100))


def test_edns_is_answered_and_its_size_kept_to() -> None:
    asked = with_edns("alice.home.internal")
    query = parse_query_untrusted(asked)
    assert (query.has_edns, query.size) == (True, 1232)
    reply = dnslib.DNSRecord.parse(ZONE.answer(query, query.size) or b"")
    assert [each.rtype for each in reply.ar] == [Type.OPT]


@pytest.mark.parametrize(
    ("prefix", "domains"),
    [
        ("10.77.0.0/16", ["77.10.in-addr.arpa"]),
        ("10.0.0.0/8", ["10.in-addr.arpa"]),
        ("10.77.4.0/23", ["4.77.10.in-addr.arpa", "5.77.10.in-addr.arpa"]),
        ("10.77.4.0/30", [f"{n}.4.77.10.in-addr.arpa" for n in range(4)]),
        ("10.77.4.0/25", []),
        ("fd89:1:2:3::/64", ["3.0.0.0.2.0.0.0.1.0.0.0.9.8.d.f.ip6.arpa"]),
    ],
)
def test_reverse_domains_hold_the_prefix_and_nothing_else(prefix: str, domains: list[str]) -> None:
    assert [".".join(name) for name in reverse_domains(ipaddress.ip_network(prefix))] == domains


@given(st.ip_addresses())
def test_a_reverse_name_leads_back_to_its_address(address: ipaddress.IPv4Address) -> None:
    assert reversed_prefix(reverse_name(address)) == ipaddress.ip_network(address)


@given(st.binary(max_size=80))
def test_no_octets_raise_anything_but_the_parsers_error(data: bytes) -> None:
    try:
        query = parse_query_untrusted(data)
    except InvalidQuery:
        return
    ZONE.answer(query, query.size)


def test_damaged_queries_raise_nothing_else_either() -> None:
    rng = random.Random(5)
    good = with_edns("alice.home.internal")
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            query = parse_query_untrusted(bytes(data[: rng.randrange(len(data) + 1)]))
        except InvalidQuery:
            continue
        ZONE.answer(query, query.size)
        is_reply_to(bytes(data), good)
