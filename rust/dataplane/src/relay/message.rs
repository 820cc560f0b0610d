//! What a node and its relay say, as far as engines and forwarders read it; the rest is Python's
//! (`wgpy/mesh/relay.py`). Integers are big-endian.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Octets before a WireGuard message.
pub const DATA_HEADER_SIZE: usize = 20;
/// Octets of the smallest DATA: a WireGuard message has 32 at least.
pub const MIN_DATA_SIZE: usize = 52;
/// Octets of the messages that are answered or checked here.
pub const HELLO_SIZE: usize = 64;
pub const REGISTER_SIZE: usize = 285;
pub const KEEPALIVE_SIZE: usize = 56;
pub const KEEPALIVE_SIGNED: usize = 36;
pub const COOKIE_MESSAGE_SIZE: usize = 36;
pub const ACK_SIGNED: usize = 38;
pub const ACK_SIZE: usize = ACK_SIGNED + MAC_SIZE;
pub const NOTICE_SIZE: usize = 28;
pub const MAC_SIZE: usize = 16;
pub const RANDOM_SIZE: usize = 16;

const MAGIC: u8 = 0xd7;
const VERSION: u8 = 1;
const OBSERVED_SIZE: usize = 18;

pub const HELLO: u8 = 1;
pub const COOKIE: u8 = 2;
pub const REGISTER: u8 = 3;
pub const KEEPALIVE: u8 = 6;
pub const ACK: u8 = 7;
pub const DATA: u8 = 8;
pub const NOTICE: u8 = 9;

/// Flag of an ACK: use another relay.
pub const DRAINING: u8 = 1;
/// Reasons of a NOTICE.
pub const UNKNOWN_SESSION: u8 = 1;
pub const OTHER_ADDRESS: u8 = 2;

/// The first four octets of a message.
#[must_use]
pub fn header(kind: u8, flags: u8) -> [u8; 4] {
    [MAGIC, kind, flags, VERSION]
}

/// Which kind of message it is; None: none of this version.
#[must_use]
pub fn kind_untrusted(datagram: &[u8]) -> Option<u8> {
    match datagram {
        [MAGIC, kind, _, VERSION, ..] => Some(*kind),
        _ => None,
    }
}

/// The number at an offset that is inside.
fn number(octets: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(octets[at..at + 8].try_into().expect("eight octets"))
}

/// The session of a message that has one at its place, and the number after it: of a KEEPALIVE the counter,
/// of DATA the other node.
#[must_use]
pub fn numbers_untrusted(datagram: &[u8]) -> Option<(u64, u64)> {
    let start = datagram.get(..DATA_HEADER_SIZE)?;
    Some((number(start, 4), number(start, 12)))
}

/// What precedes a WireGuard message: session and the other node.
#[must_use]
pub fn data_header(session: u64, other: u64) -> [u8; DATA_HEADER_SIZE] {
    let mut octets = [0; DATA_HEADER_SIZE];
    octets[..4].copy_from_slice(&header(DATA, 0));
    octets[4..12].copy_from_slice(&session.to_be_bytes());
    octets[12..].copy_from_slice(&other.to_be_bytes());
    octets
}

/// Where a datagram was seen to come from.
#[must_use]
pub fn observed(remote: SocketAddr) -> [u8; OBSERVED_SIZE] {
    let address = match remote.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let mut octets = [0; OBSERVED_SIZE];
    octets[..16].copy_from_slice(&address.octets());
    octets[16..].copy_from_slice(&remote.port().to_be_bytes());
    octets
}

const PREFIX: [u8; 6] = [0xfd, 0x57, 0x47, 0x50, 0x79, 0];
const PORT: u16 = 1;

/// The endpoint by which an engine knows a peer behind its relay of that number. Never on the wire.
#[must_use]
pub fn relayed_endpoint(relay: u16, peer: u64) -> SocketAddr {
    let mut octets = [0; 16];
    octets[..6].copy_from_slice(&PREFIX);
    octets[6..8].copy_from_slice(&relay.to_be_bytes());
    octets[8..].copy_from_slice(&peer.to_be_bytes());
    (Ipv6Addr::from(octets), PORT).into()
}

/// Relay and peer of such an endpoint; None: it is an address like any other.
#[must_use]
pub fn relayed_peer(endpoint: SocketAddr) -> Option<(u16, u64)> {
    let IpAddr::V6(address) = endpoint.ip() else { return None };
    let octets = address.octets();
    octets.starts_with(&PREFIX).then(|| (u16::from_be_bytes([octets[6], octets[7]]), number(&octets, 8)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_endpoints_are_as_the_vectors_have_them() {
        let header = data_header(0x1122_3344_5566_7788, 3);
        assert_eq!(header[..12], [0xd7, 8, 0, 1, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
        assert_eq!(numbers_untrusted(&header), Some((0x1122_3344_5566_7788, 3)));
        assert_eq!(kind_untrusted(&header), Some(DATA));
        assert_eq!(numbers_untrusted(&header[..19]), None);
        let endpoint = relayed_endpoint(3, 0x0102_0304_0506_0708);
        assert_eq!(endpoint.to_string(), "[fd57:4750:7900:3:102:304:506:708]:1");
        assert_eq!(relayed_peer(endpoint), Some((3, 0x0102_0304_0506_0708)));
        assert_eq!(relayed_peer("[fd57:4750:7901::1]:1".parse().unwrap()), None);
        assert_eq!(relayed_peer("192.0.2.1:1".parse().unwrap()), None);
        assert_eq!(observed("192.0.2.7:258".parse().unwrap())[10..], [255, 255, 192, 0, 2, 7, 1, 2]);
    }
}
