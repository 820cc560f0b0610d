from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mesh.messages import all_frames, all_messages, make_join
from wgpy.mesh import wire
from wgpy.mesh.encoding import MalformedMessage, decode_b64u, decode_json, encode_b64u, encode_json
from wgpy.mesh.frames import Since, decode_frame, read_frame

FRAMES, MESSAGES = all_frames(), all_messages()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def refusal_of(read: Callable[[Any], object], value: object) -> str | None:
    """The text of the MalformedMessage that reading it raises; any other exception is the test's failure."""
    try:
        read(value)
    except MalformedMessage as error:
        return str(error)
    return None


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_wire(message: wire.Message) -> None:
    again = type(message).from_json(decode_json(encode_json(message.to_json()), wire.MAX_BODY_SIZE))
    assert again == message


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_survives_the_wire(frame: object) -> None:
    assert decode_frame(encode_json(frame.to_json())) == frame  # type: ignore[attr-defined]


@given(st.data())
def test_whatever_replaces_a_field_is_read_or_refused_as_malformed(data: st.DataObject) -> None:
    examples: list[tuple[Callable[[Any], object], Any]] = [
        (type(message).from_json, message.to_json()) for message in MESSAGES
    ]
    examples += [(read_frame, frame.to_json()) for frame in FRAMES]
    read, value = data.draw(st.sampled_from(examples))
    spot = value = copy.deepcopy(value)
    while True:
        key = data.draw(st.sampled_from(sorted(spot)))
        inner = spot[key]
        if not isinstance(inner, dict) or not inner or data.draw(st.booleans()):
            break
        spot = inner
    if data.draw(st.booleans()):
        del spot[key]
    else:
        spot[key] = data.draw(json_values)
    refusal = refusal_of(read, value)
    assert refusal is None or ("expected" in refusal and "\n" not in refusal)


@given(st.binary(max_size=64))
def test_octets_that_are_not_json_are_malformed(data: bytes) -> None:
    refusal_of(lambda given: decode_json(given, 64), data)


@pytest.mark.parametrize(
    "data",
    [b"[" * 60000, b'{"a": NaN}', b"1" * 5000, b'"\xff"', b"", b"x" * 70000],
    ids=["deep", "NaN", "long number", "not UTF-8", "empty", "too long"],
)
def test_hostile_json_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_json(data, wire.MAX_BODY_SIZE)


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31m", "x" * 64, "\ud800", 7, None, True, ["a"]])
def test_a_name_that_could_not_be_printed_is_refused(name: object) -> None:
    with pytest.raises(MalformedMessage, match=r"^name: expected"):
        wire.JoinRequest.from_json({**make_join().to_json(), "name": name})


def test_a_missing_field_is_named_and_its_neighbours_are_not_shown() -> None:
    value = make_join().to_json()
    del value["machine_key"]
    with pytest.raises(
        MalformedMessage, match=r"^machine_key: expected 32 octets in base64url, got nothing$"
    ):
        wire.JoinRequest.from_json(value)
    with pytest.raises(MalformedMessage) as refusal:
        wire.JoinRequest.from_json({**make_join().to_json(), "token": "c2VjcmV0"})
    assert "c2VjcmV0" not in str(refusal.value)


def test_unknown_fields_and_kinds_are_passed_over() -> None:
    assert wire.Session.from_json({"bearer": "b", "expires_in": 1, "new": {}}) == wire.Session("b", 1)
    assert read_frame({"kind": "punch", "to": "someone"}) is None


def test_no_repr_shows_a_secret() -> None:
    join = make_join()
    for shown in (repr(join), repr(wire.Session("verysecret", 900)), repr(join.token)):
        assert "verysecret" not in shown
        assert encode_b64u(bytes(join.token)) not in shown
        assert repr(bytes(join.token))[2:-1] not in shown


@pytest.mark.parametrize(
    "text", ["e1", "e1:", ":1", "e1:-1", "e1:1:1", "e 1:1", "e1:²", "e1:99999999999999999999"]
)
def test_a_since_that_is_not_epoch_and_revision_is_malformed(text: str) -> None:
    with pytest.raises(MalformedMessage, match="since"):
        Since.parse(text)


@given(st.binary(max_size=80))
def test_base64url_has_one_spelling(data: bytes) -> None:
    text = encode_b64u(data)
    assert decode_b64u(text) == data
    for other in (text + "=", text + "\n", text + "A", "+" + text[1:], text[:-1] + "é"):
        assert other == text or decoded(other) != data


def decoded(text: str) -> bytes | None:
    try:
        return decode_b64u(text)
    except ValueError:
        return None


def test_the_requested_name_is_the_first_label_of_the_host() -> None:
    assert wire.requested_name("alice.example.org") == "alice"
    assert wire.requested_name("bad\x1bname") == "badname"
    assert wire.requested_name("") == "node"
    assert len(wire.requested_name("x" * 300)) == 63


def test_a_body_is_json_that_others_read_too() -> None:
    assert json.loads(encode_json(make_join().to_json()))["wire"] == 1
