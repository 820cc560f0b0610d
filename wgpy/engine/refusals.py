"""What of the host's packets does not leave as it came: refused by ICMP, or sent in fragments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from wgpy import _engine
from wgpy.engine.unreachable import UNREACHABLE, Trouble, icmp_answer, too_big
from wgpy.protocol.crypto import RandomSource
from wgpy.protocol.ratelimiter import RateLimiter


class Refusals:
    """Counts what it refuses in `drops`, by reason, and answers by `write_tun`. With `vnet_hdr` all packets
    begin with a virtio_net_hdr.
    """

    def __init__(self, drops: Counter[str], write_tun: Callable[[bytes], None], rng: RandomSource) -> None:
        self._drops = drops
        self._write_tun = write_tun
        self._rng = rng
        self._limiter = RateLimiter()

    def refuse(
        self,
        reason: str,
        packets: Sequence[bytes],
        now: float,
        *,
        vnet_hdr: bool,
        trouble: Trouble = UNREACHABLE,
    ) -> None:
        self._drops[reason] += len(packets)
        header = _header(vnet_hdr)
        for packet in packets:
            answer = icmp_answer(packet[len(header) :], trouble)
            if answer is not None and self._limiter.allow(ip_address(_destination(answer)), now):
                self._write_tun(header + answer)

    def fit(self, packets: Sequence[bytes], path_mtu: int, now: float, *, vnet_hdr: bool) -> list[bytes]:
        """Packets for a path: those that are too long for it become fragments, or are refused where they must
        not be.
        """
        fitting: list[bytes] = []
        header = _header(vnet_hdr)
        for packet in packets:
            length = _engine.longest_segment(packet, vnet_hdr=vnet_hdr)
            if length <= path_mtu:
                fitting.append(packet)
            elif (trouble := too_big(packet[len(header) :], length, path_mtu)) is not None:
                self.refuse("too big for the path", [packet], now, vnet_hdr=vnet_hdr, trouble=trouble)
            else:
                identification = int.from_bytes(self._rng.randbytes(4), "big")
                fragments = _engine.fragment(packet, path_mtu, identification, vnet_hdr=vnet_hdr)
                fitting += [header + fragment for fragment in fragments]
        return fitting


def _header(vnet_hdr: bool) -> bytes:
    return bytes(_engine.VIRTIO_NET_HDR_SIZE if vnet_hdr else 0)


def _destination(packet: bytes) -> bytes:
    return packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]
