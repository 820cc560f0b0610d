"""The socket: whole conversations byte for byte, who may listen where, and that nobody else has to wait."""

from __future__ import annotations

import errno
import gc
import os
import random
import socket
import stat
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing

import wgpy.uapi.listener
from wgpy.engine.portable import PortableEngine
from wgpy.errors import HostError
from wgpy.protocol.interface import Interface
from wgpy.uapi.listener import UapiListener
from wgpy.uapi.messages import MAX_LINE, DeviceReport
from wgpy.uapi.server import serve_uapi

KEY = "a0" + "11" * 30 + "51"
PEER = "b0" + "22" * 30 + "42"
PEER_2 = "c0" + "33" * 30 + "43"


class MemoryDevice:
    """A device without a host."""

    def __init__(self) -> None:
        self.engine = PortableEngine(_Nowhere(), lambda: 0.0, random.Random(1))
        self.interface = Interface(self.engine, random.Random(2), lambda: 0)
        self.listen_port = 0
        self.fwmark = 0

    def set_listen_port(self, port: int) -> None:
        if port == 1:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        self.listen_port = port

    def set_fwmark(self, mark: int) -> None:
        self.fwmark = mark

    def report(self) -> DeviceReport:
        status = self.interface.status(0.0)
        return DeviceReport(self.interface.private_key, self.listen_port, self.fwmark, status)

    def changed(self) -> None:
        pass


class _Nowhere:
    def send_udp(self, data: bytes, to: object, source: object, tos: int) -> bool:
        return False

    def write_tun(self, packet: bytes) -> None:
        raise AssertionError("nothing comes in")


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "run" / "wireguard"
    monkeypatch.setattr(wgpy.uapi.listener, "SOCKET_DIRECTORY", str(directory))
    return directory


@pytest.fixture
def device() -> MemoryDevice:
    return MemoryDevice()


@pytest.fixture
async def served(device: MemoryDevice, directory: Path) -> AsyncIterator[Path]:
    listener = UapiListener.open("dvs0")
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_uapi, listener, device)
        yield directory / "dvs0.sock"
        nursery.cancel_scope.cancel()


async def talk(path: Path, request: bytes, *, end: bool = True) -> bytes:
    """All that is answered, up to the end of the connection."""
    with trio.fail_after(60):
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(request)
            if end:
                await stream.send_eof()
            return b"".join([chunk async for chunk in stream])


async def test_a_new_device_has_nothing_to_tell(served: Path) -> None:
    assert await talk(served, b"get=1\n\n") == b"errno=0\n\n"


async def test_what_is_set_is_told(served: Path) -> None:
    request = (
        f"set=1\nprivate_key={KEY}\nlisten_port=51820\nfwmark=7\nreplace_peers=true\n"
        f"public_key={PEER}\nendpoint=192.0.2.1:1\npersistent_keepalive_interval=25\n"
        f"replace_allowed_ips=true\nallowed_ip=10.0.0.1/24\nallowed_ip=::/0\n\n"
    )
    assert await talk(served, request.encode()) == b"errno=0\n\n"
    assert (await talk(served, b"get=1\n\n")).decode() == (
        f"private_key={KEY}\nlisten_port=51820\nfwmark=7\npublic_key={PEER}\npreshared_key={'0' * 64}\n"
        "protocol_version=1\nendpoint=192.0.2.1:1\nlast_handshake_time_sec=0\nlast_handshake_time_nsec=0\n"
        "tx_bytes=0\nrx_bytes=0\npersistent_keepalive_interval=25\nallowed_ip=10.0.0.0/24\n"
        "allowed_ip=::/0\nerrno=0\n\n"
    )


async def test_one_connection_takes_many_requests(served: Path) -> None:
    request = b"set=1\nfwmark=1\n\nget=1\n\nset=1\nfwmark=0\n\nget=1\n\nset=1\n\n"
    assert await talk(served, request) == (
        b"errno=0\n\nfwmark=1\nerrno=0\n\nerrno=0\n\nerrno=0\n\nerrno=0\n\n"
    )


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"", b""),
        (b"\n", b""),
        (b"hello\n", b""),
        (b"get=2\n\n", b""),
        (b"get=1", b""),
        (b"get=1\n", b""),
        (b"set=1", b""),
        (b"set=1\n", b"errno=0\n\n"),
        (b"set=1\nfwmark=3\n", b"errno=0\n\n"),
        (b"get=1\nx", b"errno=-22\n\n"),
        (b"get=1\nget=1\n\n", b"errno=-22\n\n"),
        (b"set=1\nnonsense\n\n", b"errno=-71\n\n"),
        (b"set=1\nnonsense=1\n\n", b"errno=-22\n\n"),
        (b"set=1\nlisten_port=1\n\n", b"errno=-98\n\n"),
        (b"set=1\n\xff\xfe=1\n\n", b"errno=-22\n\n"),
        (b"set=1\r\nfwmark=3\r\n\r\n", b""),
        (b"set=1\nfwmark=3\r\n\r\n", b"errno=-22\n\n"),
        (b"set=1\nnonsense\nfwmark=3\n\nget=1\n\n", b"errno=-71\n\nerrno=0\n\n"),
        (b"set=1\n" + b"x" * (MAX_LINE + 1) + b"\n\nget=1\n\n", b"errno=-5\n\n"),
        (b"set=1\n" + b"x" * 10_000_000, b"errno=-5\n\n"),
        (b"x" * 10_000_000, b""),
    ],
)
async def test_each_mistake_has_its_answer(served: Path, request_: bytes, reply: bytes) -> None:
    try:
        assert await talk(served, request_) == reply
    except trio.BrokenResourceError:
        # We were still sending when it had heard enough.
        assert len(request_) > 1_000_000


async def test_an_error_is_answered_before_the_request_has_ended(served: Path) -> None:
    with trio.fail_after(5):
        async with await trio.open_unix_socket(str(served)) as stream:
            await stream.send_all(b"set=1\nnonsense\n")
            assert await stream.receive_some() == b"errno=-71\n\n"
            await stream.send_all(b"fwmark=3\n\nset=1\nfwmark=4\n\nget=1\n\n")
            await stream.send_eof()
            rest = b"".join([chunk async for chunk in stream])
            assert rest == b"errno=0\n\nfwmark=4\nerrno=0\n\n"


async def test_a_request_in_pieces_is_a_request(served: Path) -> None:
    with trio.fail_after(5):
        async with await trio.open_unix_socket(str(served)) as stream:
            for byte in b"set=1\nfwmark=77\n\nget=1\n\n":
                await stream.send_all(bytes([byte]))
                await trio.testing.wait_all_tasks_blocked()
            await stream.send_eof()
            assert b"".join([chunk async for chunk in stream]) == b"errno=0\n\nfwmark=77\nerrno=0\n\n"


async def test_a_reply_is_one_write(served: Path) -> None:
    # wgctrl reads the answer to a set by one read of 32 bytes.
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with client:
        client.connect(str(served))
        client.sendall(b"set=1\nfwmark=1\n\n")
        await trio.lowlevel.wait_readable(client)
        assert client.recv(32) == b"errno=0\n\n"


async def test_one_who_says_nothing_keeps_nobody_waiting(served: Path) -> None:
    async with await trio.open_unix_socket(str(served)) as silent:
        await silent.send_all(f"set=1\npublic_key={PEER}\n".encode())
        await trio.testing.wait_all_tasks_blocked()
        assert await talk(served, b"set=1\nfwmark=5\n\n") == b"errno=0\n\n"
        assert b"fwmark=5" in await talk(served, b"get=1\n\n")


async def test_one_who_hangs_up_in_the_middle_harms_nobody(served: Path, device: MemoryDevice) -> None:
    for request in (f"set=1\npublic_key={PEER}\nallowed_ip=10.0.0.0/8\nallo", "get=1\n\n" * 1000):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect(str(served))
        client.sendall(request.encode())
        client.close()
        await trio.testing.wait_all_tasks_blocked()
    assert b"allowed_ip=10.0.0.0/8\n" in await talk(served, b"get=1\n\n")


async def test_130560_lines_leave_others_their_turn(served: Path, device: MemoryDevice) -> None:
    lines = [f"set=1\npublic_key={PEER}\nreplace_allowed_ips=true"]
    lines += [f"allowed_ip=10.{n >> 16}.{n >> 8 & 255}.{n & 255}/32" for n in range(65280)]
    lines += [f"public_key={PEER_2}\nreplace_allowed_ips=true"]
    lines += [f"allowed_ip=11.{n >> 16}.{n >> 8 & 255}.{n & 255}/32" for n in range(65280)]
    request = "\n".join([*lines, "", ""]).encode()
    longest = 0.0

    async def measure() -> None:
        nonlocal longest
        while True:
            # Of the thread's own time: other programs' turns are not ours to bound.
            before = time.thread_time()
            await trio.lowlevel.checkpoint()
            longest = max(longest, time.thread_time() - before)

    # What the tests before left behind is not this device's: looking through it is no turn that it takes.
    gc.collect()
    gc.freeze()
    began = time.thread_time()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(measure)
            assert await talk(served, request) == b"errno=0\n\n"
            assert (await talk(served, b"get=1\n\n")).count(b"allowed_ip=") == 130560
            nursery.cancel_scope.cancel()
    finally:
        gc.unfreeze()
    # A share and not a time: machines differ, and a busy one is slow in its own time, too.
    assert longest < (time.thread_time() - began) / 4
    assert sum(len(peer.allowed_ips) for peer in device.interface.status(0.0)) == 130560


async def test_removing_the_socket_ends_the_service(device: MemoryDevice, directory: Path) -> None:
    for remove in (
        lambda path: path.unlink(),
        lambda path: path.rename(path.with_suffix(".old")),
        lambda path: (path.unlink(), path.write_text("something else")),
    ):
        path = directory / "dvs0.sock"
        path.unlink(missing_ok=True)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                await nursery.start(serve_uapi, UapiListener.open("dvs0"), device)
                remove(path)
    assert path.read_text() == "something else"


async def test_the_end_of_the_service_removes_the_socket(device: MemoryDevice, directory: Path) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_uapi, UapiListener.open("dvs0"), device)
        assert (directory / "dvs0.sock").exists()
        nursery.cancel_scope.cancel()
    assert not (directory / "dvs0.sock").exists()


def test_the_socket_is_for_its_owner_alone_and_the_directory_for_all_to_list(directory: Path) -> None:
    old = os.umask(0o022)
    try:
        listener = UapiListener.open("dvs0")
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(old)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755
    assert stat.S_IMODE((directory / "dvs0.sock").stat().st_mode) == 0o700
    assert not os.get_inheritable(listener.socket.fileno())
    listener.close()


def test_a_name_that_is_served_is_in_use(directory: Path) -> None:
    listener = UapiListener.open("dvs0")
    with pytest.raises(HostError, match=r"dvs0 is in use: another process answers at .*/dvs0\.sock"):
        UapiListener.open("dvs0")
    assert listener.is_ours()
    listener.close()


def test_a_socket_that_nobody_serves_is_replaced(directory: Path) -> None:
    dead = UapiListener.open("dvs0")
    dead.socket.close()
    assert (directory / "dvs0.sock").exists()
    listener = UapiListener.open("dvs0")
    assert listener.is_ours()
    dead.close()
    listener.close()
    assert not (directory / "dvs0.sock").exists()


def test_a_socket_never_refuses_while_it_is_being_made(directory: Path) -> None:
    """`wg` removes a socket that refuses, and a device whose socket is removed goes."""
    refused, done = 0, threading.Event()

    def connect_all_the_time() -> None:
        nonlocal refused
        while not done.is_set():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                try:
                    client.connect(str(directory / "dvs0.sock"))
                except FileNotFoundError:
                    pass
                except ConnectionRefusedError:
                    refused += 1

    thread = threading.Thread(target=connect_all_the_time)
    thread.start()
    try:
        for _ in range(500):
            listener = UapiListener.open("dvs0")
            os.unlink(listener.path)  # before it is closed: a dying socket may refuse
            listener.close()
    finally:
        done.set()
        thread.join()
    assert refused == 0
    assert os.listdir(directory) == []


def test_a_file_that_is_no_socket_is_left_alone(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "dvs0.sock").write_text("mine")
    with pytest.raises(HostError, match="is in the way: it is no socket"):
        UapiListener.open("dvs0")
    assert (directory / "dvs0.sock").read_text() == "mine"


def test_a_directory_that_cannot_be_made_says_so(directory: Path) -> None:
    directory.parent.parent.mkdir(exist_ok=True)
    directory.parent.write_text("a file")
    with pytest.raises(HostError, match=r"cannot listen at .*Not a directory"):
        UapiListener.open("dvs0")


def test_an_inherited_socket_is_adopted(directory: Path) -> None:
    listener = UapiListener.open("dvs0")
    adopted = UapiListener.adopt(os.dup(listener.socket.fileno()), "dvs0")
    assert adopted.path == str(directory / "dvs0.sock")
    assert not os.get_inheritable(adopted.socket.fileno())
    listener.socket.close()
    adopted.close()
    assert not (directory / "dvs0.sock").exists()


def test_what_is_not_a_listening_unix_socket_is_not_adopted() -> None:
    read, write = os.pipe()
    with pytest.raises(HostError, match="is not a socket"):
        UapiListener.adopt(read, "dvs0")
    os.close(read)
    os.close(write)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        pytest.raises(HostError, match="not a listening Unix socket"),
    ):
        UapiListener.adopt(udp.fileno(), "dvs0")
