"""Receipts: good for who was seen, where, and for a while."""

from __future__ import annotations

import dataclasses
import ipaddress

import pytest

from tests.mesh.examples import node_id
from wgpy.errors import ConfigError
from wgpy.mesh.encoding import MalformedMessage
from wgpy.mesh.receipt import RECEIPT_AGE, Receipt, ReceiptKey, tag_of
from wgpy.mesh.signing import RelayKey

KEY = ReceiptKey.of_relay(RelayKey(bytes(range(32))))
MINE, OTHERS = tag_of(node_id(1)), tag_of(node_id(2))
HERE, VICTIM = ipaddress.ip_address("192.0.2.7"), ipaddress.ip_address("198.51.100.66")
NOW = 1_800_000_000


def test_a_receipt_is_good_for_one_node_one_address_and_twenty_minutes() -> None:
    receipt = Receipt(HERE, KEY.make(MINE, HERE, NOW))
    assert KEY.verify(receipt, MINE, NOW)
    assert KEY.verify(receipt, MINE, NOW + RECEIPT_AGE)
    assert not KEY.verify(receipt, MINE, NOW + RECEIPT_AGE + 1)
    assert not KEY.verify(receipt, MINE, NOW - 100)
    assert not KEY.verify(receipt, OTHERS, NOW)
    assert not KEY.verify(dataclasses.replace(receipt, address=VICTIM), MINE, NOW)
    assert not KEY.verify(receipt, MINE[:7] + b"!", NOW)
    later = (NOW + 500).to_bytes(4, "big") + receipt.octets[4:]
    assert not KEY.verify(Receipt(HERE, later), MINE, NOW)
    assert not ReceiptKey(bytes(32)).verify(receipt, MINE, NOW)


def test_it_is_read_as_it_was_written_and_its_key_is_not_shown() -> None:
    for address in (HERE, ipaddress.ip_address("2001:db8::7")):
        receipt = Receipt(address, KEY.make(MINE, address, NOW))
        assert Receipt.from_json(receipt.to_json(), "receipts[0]") == receipt
    assert KEY.secret.hex()[:8] not in repr(KEY)
    for bad in ({"address": "here", "receipt": "AAAA"}, {"address": "192.0.2.7", "receipt": "AAAA"}, []):
        with pytest.raises(MalformedMessage):
            Receipt.from_json(bad, "receipts[0]")
    with pytest.raises(ConfigError):
        ReceiptKey(b"short")
