from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.names import check_network_name, make_label, unique_label
from wgpy.errors import ConfigError

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@pytest.mark.parametrize(
    ("wish", "label"),
    [
        ("web", "web"), ("Web-1", "web-1"), ("Jürgen's PC", "jurgen-s-pc"), ("a.b.c", "a-b-c"),
        ("--", "node"),
        ("", "node"), ("日本", "node"), ("_x_", "x"), ("0" * 32, "n-" + "0" * 32), ("x" * 80, "x" * 63),
        ("x" * 62 + "-y", "x" * 62),
    ],
)  # fmt: skip
def test_a_wish_becomes_the_label_nearest_to_it(wish: str, label: str) -> None:
    assert make_label(wish) == label


@given(st.text(max_size=80), st.sets(st.text(max_size=3)))
def test_whatever_is_wished_for_a_name_is_a_free_dns_label(wish: str, others: set[str]) -> None:
    taken = {make_label(wish), *others}
    name = unique_label(wish, taken)
    assert LABEL.fullmatch(name)
    assert name not in taken


def test_the_number_of_a_long_name_fits_in_the_label() -> None:
    taken: set[str] = set()
    for _ in range(120):
        taken.add(unique_label("x" * 80, taken))
    assert len(taken) == 120
    assert max(map(len, taken)) == 63


@pytest.mark.parametrize("name", ["home", "a", "my-net-2", "7"])
def test_network_names_are_taken_as_they_are(name: str) -> None:
    check_network_name(name)


@pytest.mark.parametrize("name", ["", "Home", "-a", "a-", "a_b", "a.b", "x" * 41, "0" * 32, "ä", "a\n"])
def test_a_network_name_that_is_no_label_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="a network's name is"):
        check_network_name(name)
