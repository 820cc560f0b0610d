"""IP packets built and taken apart the slow, obvious way: the oracle of the tests of superpackets."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address

TCP, UDP = 6, 17
FIN, SYN, PSH, ACK, CWR = 0x01, 0x02, 0x08, 0x10, 0x80
NEEDS_CHECKSUM = 1
GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4 = 0, 1, 4, 5
VIRTIO = struct.Struct("=BBHHHH")


def checksum(data: bytes) -> int:
    """RFC 1071, a pair of octets at a time."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return total ^ 0xFFFF


@dataclass(frozen=True)
class Packet:
    """A TCP segment or UDP datagram, in fields."""

    payload: bytes
    protocol: int = TCP
    version: int = 4
    source: str = ""
    destination: str = ""
    ports: tuple[int, int] = (40000, 443)
    sequence: int = 0
    acknowledged: int = 77
    flags: int = ACK
    window: int = 1000
    options: bytes = b"\x01\x01\x08\x0a" + bytes(8)
    identification: int = 0
    tos: int = 0
    ttl: int = 64
    dont_fragment: bool = True
    extension: bytes = field(default=b"", repr=False)
    """An IPv6 destination options header, its next-header octet to be filled in."""

    @property
    def addresses(self) -> bytes:
        if self.version == 4:
            pair = (self.source or "10.0.0.1", self.destination or "10.0.0.2")
            return b"".join(IPv4Address(address).packed for address in pair)
        pair = (self.source or "fd00::1", self.destination or "fd00::2")
        return b"".join(IPv6Address(address).packed for address in pair)

    @property
    def pseudo_header(self) -> bytes:
        return self.addresses + struct.pack("!II", len(self.transport(0)), self.protocol)

    def transport(self, sum_: int) -> bytes:
        if self.protocol == UDP:
            return struct.pack("!HHHH", *self.ports, 8 + len(self.payload), sum_) + self.payload
        offset = (5 + len(self.options) // 4) << 4
        fields = (*self.ports, self.sequence, self.acknowledged, offset, self.flags, self.window, sum_, 0)
        return struct.pack("!HHIIBBHHH", *fields) + self.options + self.payload

    def header(self) -> bytes:
        length = len(self.transport(0))
        if self.version == 6:
            first = 6 << 28 | self.tos << 20 | 0x12345
            next_header = 60 if self.extension else self.protocol
            fields = struct.pack("!IHBB", first, len(self.extension) + length, next_header, self.ttl)
            extension = bytes([self.protocol]) + self.extension[1:] if self.extension else b""
            return fields + self.addresses + extension
        fragment = 0x4000 if self.dont_fragment else 0
        fields = (0x45, self.tos, 20 + length, self.identification, fragment, self.ttl, self.protocol)
        bare = struct.pack("!BBHHHBBH", *fields, 0) + self.addresses
        return bare[:10] + struct.pack("!H", checksum(bare)) + bare[12:]

    def encode(self) -> bytes:
        """The packet with right checksums."""
        sum_ = checksum(self.pseudo_header + self.transport(0))
        return self.header() + self.transport(0xFFFF if sum_ == 0 and self.protocol == UDP else sum_)

    def encode_super(self, gso_size: int) -> bytes:
        """As a TUN with offloads gives it: virtio header, and the pseudo header's sum in the checksum field.

        A `gso_size` of 0: one packet whose checksum is left to us.
        """
        header = self.header()
        partial = checksum(self.pseudo_header) ^ 0xFFFF
        packet = header + self.transport(partial)
        tcp_type = GSO_TCPV4 if self.version == 4 else GSO_TCPV6
        gso_type = tcp_type if self.protocol == TCP else GSO_UDP_L4
        offset = 16 if self.protocol == TCP else 6
        headers = len(packet) - len(self.payload)
        gso_type = gso_type if gso_size else GSO_NONE
        return VIRTIO.pack(NEEDS_CHECKSUM, gso_type, headers, gso_size, len(header), offset) + packet

    def split(self, gso_size: int) -> list[Packet]:
        """The packets that a superpacket stands for."""
        parts = [self.payload[at : at + gso_size] for at in range(0, len(self.payload), gso_size)]
        packets = []
        for number, payload in enumerate(parts):
            flags = self.flags
            if number + 1 < len(parts):
                flags &= ~(FIN | PSH)
            if number > 0:
                flags &= ~CWR
            part = replace(
                self,
                payload=payload,
                sequence=(self.sequence + number * gso_size) % 2**32,
                identification=(self.identification + number) % 2**16,
                flags=flags,
            )
            packets.append(part)
        return packets
