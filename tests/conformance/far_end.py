"""The other end of a tunnel, in Python and by another library than the engine's: seals and opens by the
paper.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import ip_address

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from wgpy.protocol.crypto import kdf2

_HEADER = struct.Struct("<IIQ")


@dataclass
class FarEnd:
    """One session as the far end has it: its keys, its index and the engine's."""

    chaining_key: bytes = field(repr=False)
    engine_is_initiator: bool
    engine_index: int
    index: int
    counter: int = 0

    def __post_init__(self) -> None:
        first, second = kdf2(self.chaining_key, b"")
        engine_sends, engine_opens = (first, second) if self.engine_is_initiator else (second, first)
        self._sealing, self._opening = ChaCha20Poly1305(engine_opens), ChaCha20Poly1305(engine_sends)

    def seal(self, packet: bytes, *, counter: int | None = None, pad: bool = True) -> bytes:
        """The transport message for a packet; counters go up by themselves."""
        if counter is None:
            counter = self.counter
            self.counter += 1
        if pad:
            packet += bytes(-len(packet) % 16)
        sealed = self._sealing.encrypt(bytes(4) + counter.to_bytes(8, "little"), packet, b"")
        return _HEADER.pack(4, self.engine_index, counter) + sealed

    def open(self, message: bytes) -> bytes:
        """The padded packet. AssertionError when the message is not for this session."""
        kind, index, counter = _HEADER.unpack_from(message)
        assert (kind, index) == (4, self.index), f"message of type {kind} for index {index:#x}"
        try:
            return self._opening.decrypt(
                bytes(4) + counter.to_bytes(8, "little"), message[_HEADER.size :], b""
            )
        except InvalidTag:
            raise AssertionError("the far end cannot open what the engine sealed") from None

    def counter_of(self, message: bytes) -> int:
        return int(_HEADER.unpack_from(message)[2])

    def is_ours(self, message: bytes) -> bool:
        return len(message) >= _HEADER.size and _HEADER.unpack_from(message)[:2] == (4, self.index)


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip_packet(
    source: str,
    destination: str,
    payload: bytes = b"payload",
    *,
    tos: int = 0,
    identification: int = 1,
    source_port: int = 4000,
    destination_port: int = 5000,
) -> bytes:
    """A UDP packet with right checksums."""
    a, b = ip_address(source), ip_address(destination)
    length = 8 + len(payload)
    pseudo = a.packed + b.packed + struct.pack("!II", length, 17)
    header = struct.pack("!HHHH", source_port, destination_port, length, 0)
    udp_sum = checksum(pseudo + header + payload) or 0xFFFF
    udp = header[:6] + struct.pack("!H", udp_sum) + payload
    if a.version == 6:
        return struct.pack("!IHBB", 6 << 28 | tos << 20, length, 17, 64) + a.packed + b.packed + udp
    ip = struct.pack("!BBHHHBBH", 0x45, tos, 20 + length, identification, 0, 64, 17, 0) + a.packed + b.packed
    return ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + udp
