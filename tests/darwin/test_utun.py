"""The utun side: what the kernel is asked, to the octet, names, framing, errors. In place of macOS' kernel
stands a pair of sockets.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from tests.darwin.kernel import FakeKernel
from wgpy.darwin.framing import read_packet, write_packet
from wgpy.darwin.utun import Utun, unit_of
from wgpy.errors import ConfigError, HostError

IPV4 = bytes.fromhex("45000014000100004001f96e0a0000010a000002")
IPV6 = bytes.fromhex("6000000000003b40") + bytes(16) + bytes(16)


@pytest.fixture
def kernel() -> Iterator[FakeKernel]:
    kernel = FakeKernel()
    yield kernel
    kernel.close()


def test_names_are_units() -> None:
    assert [unit_of(name) for name in ("utun", "utun%d", "utun0", "utun12")] == [0, 0, 1, 13]
    for name in ("wg0", "utun-1", "utun01", "tun3", ""):
        with pytest.raises(ConfigError, match=r"utun and a number, or utun for the first free one; got"):
            unit_of(name)


def test_it_has_the_name_that_the_kernel_gave_and_the_mtu_that_was_asked_for(kernel: FakeKernel) -> None:
    with (
        Utun.create("utun", mtu=1420, control=kernel) as first,
        Utun.create("utun5", control=kernel) as other,
    ):
        assert (first.name, first.current_name(), other.name) == ("utun0", "utun0", "utun5")
        assert (kernel.mtu["utun0"], kernel.mtu["utun5"]) == (1420, 1500)
        assert not first.vnet_hdr
        assert not first.is_up()
        first.set_up()
        assert first.is_up()
        assert kernel.flags["utun0"] == 0x8051, "the other flags stay"
        assert not os.get_blocking(first.fileno())
        assert not os.get_inheritable(first.fileno())
        assert first.exists()
    assert not first.exists()
    assert first.fileno() == -1


def test_a_descriptor_that_was_inherited_is_taken_over(kernel: FakeKernel) -> None:
    with Utun.create("utun3", control=kernel) as made, Utun(os.dup(made.fileno()), kernel) as adopted:
        assert adopted.name == "utun3"
    one, other = socket.socketpair()
    refused = pytest.raises(HostError, match=rf"file descriptor {one.fileno()} is not a utun device")
    with one, other, refused:
        Utun(one.fileno(), kernel)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EPERM, "a utun device needs root; run it with sudo"),
        (errno.EBUSY, "that number is in use; utun takes the first free one"),
        (errno.ENOENT, "this host has no com.apple.net.utun_control"),
        (errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_what_the_host_refuses_is_said_in_words(number: int, advice: str) -> None:
    kernel = FakeKernel(refuses=number)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(HostError, match=rf"^cannot make utun4: {advice}"):
        Utun.create("utun4", control=kernel)
    kernel.close()
    assert set(os.listdir("/proc/self/fd")) <= before, "no descriptor is left"


def test_a_linux_host_says_that_it_has_none() -> None:
    with pytest.raises(
        HostError, match=r"^cannot make utun4: this host has no com\.apple\.net\.utun_control"
    ):
        Utun.create("utun4")


def test_packets_have_their_family_before_them_four_octets_high_one_first() -> None:
    ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, kernels:
        for packet, header in ((IPV4, "00000002"), (IPV6, "0000001e")):
            assert write_packet(ours.fileno(), packet) == len(packet)
            assert kernels.recv(65536) == bytes.fromhex(header) + packet
            kernels.send(bytes.fromhex(header) + packet)
            assert read_packet(ours.fileno(), 65535) == packet
        kernels.send(bytes.fromhex("00000002") + b"\x45" + bytes(65534))
        assert len(read_packet(ours.fileno(), 65535)) == 65535, (
            "the header is not taken from the packet's room"
        )
        kernels.send(b"\0\0")
        assert read_packet(ours.fileno(), 65535) == b""
