"""The paper's table, written down a second time on purpose: a test that read ours could not catch a slip."""

from __future__ import annotations

import pytest

from wgpy.protocol import constants

PAPER = {
    "CONSTRUCTION": b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s",
    "IDENTIFIER": b"WireGuard v1 zx2c4 Jason@zx2c4.com",
    "LABEL_MAC1": b"mac1----",
    "LABEL_COOKIE": b"cookie--",
    "REKEY_AFTER_MESSAGES": 1152921504606846976,
    "REJECT_AFTER_MESSAGES": 18446744073709543423,
    "REKEY_AFTER_TIME": 120,
    "REJECT_AFTER_TIME": 180,
    "REKEY_ATTEMPT_TIME": 90,
    "REKEY_TIMEOUT": 5,
    "KEEPALIVE_TIMEOUT": 10,
    # the kernel's
    "MAX_TIMER_HANDSHAKES": 18,
    "REKEY_TIMEOUT_JITTER_MAX": 0.333,
    "REKEY_AFTER_TIME_RECEIVING": 165,
    "NEW_HANDSHAKE_TIMEOUT": 15,
    "ZERO_KEY_MATERIAL_TIMEOUT": 540,
    "INITIATIONS_PER_SECOND": 50,
    "INITIATION_INTERVAL": 0.02,
    "TIMESTAMP_GRANULARITY_NS": 16777216,
    "COOKIE_SECRET_MAX_AGE": 120,
    "COOKIE_SECRET_LATENCY": 5,
    "UNDER_LOAD_QUEUE": 4096,
    "UNDER_LOAD_DEPTH": 512,
    "UNDER_LOAD_HOLD": 1,
    "UNPROVEN_PER_SECOND": 200,
    "RATE_PER_SECOND": 20,
    "RATE_BURST": 5,
    "MAX_PEERS": 1048576,
    "MESSAGE_PADDING": 16,
    "MAX_STAGED_PACKETS": 128,
    "REPLAY_BITS": 8192,
    "REPLAY_WINDOW": 8128,
    "HANDSHAKE_TOS": 0x88,
    "DEFAULT_MTU": 1420,
}


@pytest.mark.parametrize("name", sorted(PAPER))
def test_constant_is_the_papers(name: str) -> None:
    assert getattr(constants, name) == PAPER[name]


def test_no_constant_is_without_a_line_in_the_papers_table() -> None:
    assert {name for name in vars(constants) if name.isupper()} == set(PAPER)
