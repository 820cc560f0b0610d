"""Options, timestamps, echoes, sd_notify and groups: small pure parts of the agent."""

from __future__ import annotations

import ipaddress
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mesh.messages import make_token
from wgpy.addresses import Endpoint
from wgpy.agent import timestamps
from wgpy.agent.echo import encode_echo, is_reply_untrusted
from wgpy.agent.groups import leaves, single_error
from wgpy.agent.join import interface_name
from wgpy.agent.notify import notify
from wgpy.agent.options import UpOptions, hand_over, take_over
from wgpy.errors import ConfigError, CoordinatorError, HostError
from wgpy.protocol import tai64n

HOUR_NS = 3600 * 10**9
V4, V6 = ipaddress.ip_address("10.1.0.2"), ipaddress.ip_address("fd00::2")


def test_options_survive_the_handing_over_and_leave_no_trace_in_the_arguments() -> None:
    options = UpOptions(
        token=make_token(),
        node_name="alice",
        interface="wg7",
        listen_port=51820,
        endpoints=(Endpoint.parse("192.0.2.1:51820"),),
        choices={"accept": ["203.0.113.0/24"]},
        detach=True,
    )
    assert take_over(hand_over(options)) == options
    assert take_over(hand_over(UpOptions(name="home"))) == UpOptions(name="home")


def test_an_agent_that_nobody_handed_options_says_who_does() -> None:
    for arguments in ([], ["x"], ["99"]):
        command = [sys.executable, "-m", "wgpy.agent", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("wgpy: the agent is started by `wgpy up`")
        assert done.stderr.count("\n") == 1


def test_the_stored_timestamp_is_an_hour_above_what_was_sent_and_above_now() -> None:
    now = 1_800_000_000 * 10**9
    sent = tai64n.encode(now - 5 * HOUR_NS)
    assert timestamps.lead(None, now) == timestamps.lead(sent, now) == tai64n.encode(now + HOUR_NS)
    ahead = tai64n.encode(now + 2 * HOUR_NS)
    assert tai64n.decode(timestamps.lead(ahead, now)) == tai64n.decode(ahead) + HOUR_NS


def test_the_timestamp_is_stored_anew_when_half_of_its_lead_is_gone() -> None:
    now = 1_800_000_000 * 10**9
    stored = timestamps.lead(None, now)
    assert timestamps.is_due(None, None, now)
    assert not timestamps.is_due(stored, None, now + HOUR_NS // 3)
    assert timestamps.is_due(stored, None, now + HOUR_NS * 2 // 3)
    assert timestamps.is_due(stored, tai64n.encode(now + HOUR_NS * 2 // 3), now)


def test_an_echo_and_its_answer_fit_and_nothing_else_does() -> None:
    request = encode_echo(V4, 7, 3)
    assert sum(int.from_bytes(request[i : i + 2], "big") for i in range(0, len(request), 2)) % 0xFFFF == 0
    reply = b"\0" + request[1:]
    header = bytes([0x45]) + bytes(19)
    assert is_reply_untrusted(reply, V4, 7, 3)
    assert is_reply_untrusted(header + reply, V4, 7, 3)
    assert is_reply_untrusted(reply, V4, None, 3)
    assert not is_reply_untrusted(reply, V4, 8, 3)
    assert not is_reply_untrusted(reply, V4, 7, 4)
    assert not is_reply_untrusted(request, V4, 7, 3)
    assert is_reply_untrusted(bytes([129]) + encode_echo(V6, 7, 3)[1:], V6, 7, 3)
    for junk in (b"", b"\0", bytes([0x4F]), bytes(7), bytes([0x45]) + bytes(20)):
        assert not is_reply_untrusted(junk, V4, 7, 3)


def test_systemd_is_told_where_it_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify("READY=1", "STATUS=up")
        assert listener.recv(100) == b"READY=1\nSTATUS=up"
    notify("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")


def test_the_weightiest_error_comes_out_of_a_group_alone() -> None:
    with pytest.raises(CoordinatorError, match="b"), single_error(CoordinatorError, HostError):
        raise BaseExceptionGroup("", [HostError("a"), ExceptionGroup("", [CoordinatorError("b")])])
    with pytest.raises(HostError), single_error(CoordinatorError, HostError):
        raise BaseExceptionGroup("", [HostError("a")])
    with pytest.raises(BaseExceptionGroup), single_error(HostError):
        raise BaseExceptionGroup("", [HostError("a"), KeyboardInterrupt()])
    with pytest.raises(BaseExceptionGroup), single_error(HostError):
        raise BaseExceptionGroup("", [ValueError("a")])
    group = BaseExceptionGroup("", [HostError("a"), BaseExceptionGroup("", [ConfigError("b")])])
    assert [str(error) for error in leaves(group)] == ["a", "b"]


def test_the_interface_is_named_after_the_network_within_fifteen_characters() -> None:
    assert interface_name("home") == "wg-home"
    assert interface_name("a-very-long-network") == "wg-a-very-long"
    assert len(interface_name("x" * 63)) == 15


def modules_of(module: str) -> set[str]:
    """What is loaded with it in a fresh process."""
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_no_process_keeps_in_memory_what_it_does_not_need() -> None:
    heavy = {"click", "msgspec", "pickle", "asyncio", "cryptography", "coordinator", "segno"}
    assert not modules_of("wgpy.agent.main") & heavy
    assert not modules_of("wgpy.cli.status") & {"trio", "wgpy.device", "coordinator"}
