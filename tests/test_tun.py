"""TUN devices: names, flags, refusals, and what the descriptor alone tells."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator

import pytest

import wgpy.tun
from wgpy.errors import ConfigError, HostError
from wgpy.tun import Offload, Tun, check_name


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("name", ["wg0", "a", "wg-office", "wg%d", "x" * 15, "wg_1.2", "@"])
def test_a_usable_name_is_returned(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "x" * 16, ".", "..", "a/b", "a b", "a\tb", "a:b", "a\0b", "%", "%s", "%d%d", "wg%%d", "ä" * 8],
)
def test_a_name_that_no_interface_can_have_is_a_config_error(name: str) -> None:
    with pytest.raises(ConfigError):
        check_name(name)


@pytest.fixture(params=["pytun", "ioctl"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "ioctl":
        monkeypatch.setattr(wgpy.tun, "_open", wgpy.tun.open_by_ioctl)
    else:
        pytest.importorskip("pytun")


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"dvt{os.getpid()}"
    ip("netns", "add", name)
    try:
        yield name
    finally:
        ip("netns", "del", name)


@pytest.mark.root
@pytest.mark.usefixtures("either_way")
class TestCreate:
    def test_the_device_is_there_until_it_is_closed(self) -> None:
        with Tun.create("dvt0") as tun:
            assert tun.name == "dvt0"
            assert not tun.vnet_hdr
            assert "dvt0" in ip("link", "show", "dvt0")
        assert tun.fileno() == -1
        assert not os.path.exists("/sys/class/net/dvt0")

    def test_a_pattern_takes_the_first_free_number(self) -> None:
        with Tun.create("dvt%d") as first, Tun.create("dvt%d") as second:
            assert (first.name, second.name) == ("dvt0", "dvt1")

    def test_the_descriptor_is_non_blocking_and_closed_on_exec(self) -> None:
        with Tun.create("dvt0") as tun:
            assert not os.get_blocking(tun.fileno())
            assert not os.get_inheritable(tun.fileno())
            with pytest.raises(BlockingIOError):
                os.read(tun.fileno(), 2000)

    def test_no_descriptor_is_left_open(self) -> None:
        before = set(os.listdir("/proc/self/fd"))
        Tun.create("dvt0").close()
        with Tun.create("dvt0"), pytest.raises(HostError):
            Tun.create("dvt0")
        assert set(os.listdir("/proc/self/fd")) == before

    def test_a_name_in_use_says_so(self) -> None:
        with Tun.create("dvt0"), pytest.raises(HostError, match=r"dvt0: .* in use by another process"):
            Tun.create("dvt0")

    def test_a_name_of_another_kind_of_interface_says_so(self) -> None:
        with pytest.raises(HostError, match="of another kind"):
            Tun.create("lo")

    def test_offloads_are_taken_with_virtio_headers_only(self) -> None:
        with Tun.create("dvt0", vnet_hdr=True) as tun:
            assert tun.vnet_hdr
            assert tun.set_offload(Offload.CSUM | Offload.TSO4 | Offload.TSO6)
            assert not tun.set_offload(Offload(0x80))
        with Tun.create("dvt0") as tun, pytest.raises(ValueError, match="vnet_hdr"):
            tun.set_offload(Offload.CSUM)

    def test_the_mtu_is_set_from_the_start(self) -> None:
        with Tun.create("dvt0", mtu=1380):
            assert "mtu 1380" in ip("link", "show", "dvt0")
        with pytest.raises(HostError, match="MTU of dvt0 to 1: Invalid argument"):
            Tun.create("dvt0", mtu=1)

    def test_several_queues_share_a_device(self) -> None:
        with Tun.create("dvt0", multi_queue=True) as one, Tun.create("dvt0", multi_queue=True) as two:
            assert one.name == two.name == "dvt0"

    def test_no_permission_says_what_is_needed(self) -> None:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setuid(65534)
                Tun.create("dvt0")
            except HostError as error:
                status = 0 if "CAP_NET_ADMIN" in str(error) else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.root
class TestDescriptor:
    def test_an_inherited_descriptor_is_adopted(self) -> None:
        with Tun.create("dvt0", vnet_hdr=True) as tun, Tun(os.dup(tun.fileno())) as adopted:
            assert (adopted.name, adopted.vnet_hdr) == ("dvt0", True)
            assert not os.get_inheritable(adopted.fileno())

    def test_a_descriptor_of_something_else_is_refused(self) -> None:
        read, write = os.pipe()
        try:
            with pytest.raises(HostError, match="not a TUN device"):
                Tun(read)
        finally:
            os.close(read)
            os.close(write)

    def test_a_tap_device_is_refused(self) -> None:
        fd = wgpy.tun.open_by_ioctl("dvt0", 0x1002)
        try:
            with pytest.raises(HostError, match="TAP"):
                Tun(fd)
        finally:
            os.close(fd)

    def test_up_and_down_and_deletion_show_in_another_namespace(self, namespace: str) -> None:
        with Tun.create("dvt0") as tun:
            assert not tun.is_up()
            ip("link", "set", "dvt0", "netns", namespace)
            assert tun.exists()
            assert not tun.is_up()
            ip("-n", namespace, "link", "set", "dvt0", "up")
            assert tun.is_up()
            ip("-n", namespace, "link", "set", "dvt0", "down")
            assert not tun.is_up()
            ip("-n", namespace, "link", "del", "dvt0")
            assert not tun.exists()
            assert not tun.is_up()

    def test_its_namespace_is_the_one_it_was_moved_to(self, namespace: str) -> None:
        with Tun.create("dvt0") as tun:
            ip("link", "set", "dvt0", "netns", namespace)
            fd = tun.network_namespace()
            assert fd is not None
            try:
                assert os.path.sameopenfile(fd, fd)
                assert os.fstat(fd).st_ino == os.stat(f"/run/netns/{namespace}").st_ino
            finally:
                os.close(fd)


def test_a_missing_tun_device_names_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wgpy.tun, "_DEVICE", "/nonexistent/tun")
    monkeypatch.setattr(wgpy.tun, "_open", wgpy.tun.open_by_ioctl)
    with pytest.raises(HostError, match="modprobe tun"):
        Tun.create("dvt0")


def test_the_flags_are_those_of_the_kernel() -> None:
    assert fcntl.F_DUPFD_CLOEXEC
    assert (Offload.CSUM | Offload.TSO4 | Offload.TSO6) == 0x07
    assert (Offload.USO4 | Offload.USO6) == 0x60
