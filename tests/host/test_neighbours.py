"""Firewalls of others that drop what we forward: found, named, and opened by one rule."""

from __future__ import annotations

import pytest

from wgpy.host.neighbours import forward_guards


def chain(
    table: str, name: str, policy: str | None = None, family: str = "ip", **more: str
) -> dict[str, object]:
    value: dict[str, object] = {"family": family, "table": table, "name": name, **more}
    return {"chain": value if policy is None else value | {"hook": "forward", "policy": policy}}


@pytest.mark.parametrize(
    ("chains", "shown"),
    [
        ([chain("filter", "FORWARD", "accept")], []),
        ([chain("filter", "INPUT")], []),
        ([chain("wgpy-wg-home", "forward", "drop", "inet")], []),
        ([chain("filter", "FORWARD", "drop")], ["a firewall (ip filter)"]),
        ([chain("filter", "FORWARD", "drop"), chain("filter", "DOCKER-USER")], ["Docker (ip filter)"]),
        ([chain("filter", "FORWARD", "drop"), chain("filter", "ufw-user-forward")], ["ufw (ip filter)"]),
        ([chain("firewalld", "filter_FORWARD", "accept", "inet")], ["firewalld (inet firewalld)"]),
    ],
)
def test_who_drops_what_is_forwarded_is_named(chains: list[dict[str, object]], shown: list[str]) -> None:
    assert [str(guard) for guard in forward_guards(chains)] == shown  # type: ignore[arg-type]


def test_docker_is_opened_where_it_says_that_users_belong() -> None:
    [guard] = forward_guards(
        [chain("filter", "FORWARD", "drop"), chain("filter", "DOCKER-USER")]  # type: ignore[list-item]
    )
    rule = guard.opening("wg-home", ["eth1", "eth0", "eth1"], "wgpy home")
    assert rule.place == "ip filter DOCKER-USER"
    pairs = '"wg-home" . "eth0", "eth0" . "wg-home", "wg-home" . "eth1", "eth1" . "wg-home"'
    assert rule.text == f"iifname . oifname {{ {pairs} }} accept"
