//! What the data plane must know of an inner IP packet: its length, its addresses, its ECN bits.

use std::net::IpAddr;

use crate::checksum::Sum;
use crate::message::receiver_index_untrusted;

/// Octets in an IPv4 header without options.
pub const IPV4_HEADER_SIZE: usize = 20;
/// Octets in an IPv6 header without extensions.
pub const IPV6_HEADER_SIZE: usize = 40;

const PROTOCOL_UDP: u8 = 17;
const UDP_HEADER_SIZE: usize = 8;
const FRAGMENT_OFFSET: u16 = 0x1fff;

const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const ECT_0: u8 = 2;
const CE: u8 = 3;

/// What a decrypted packet is.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Inner {
    /// Empty.
    Keepalive,
    /// An IP packet of this length, padding cut off.
    Ip(usize),
    /// First nibble neither 4 nor 6: a control message of the mesh.
    Control,
    /// An IP packet that is shorter than its header or than it says.
    Malformed,
}

fn be_u16(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

/// Classify a decrypted packet.
#[must_use]
pub fn classify_untrusted(packet: &[u8]) -> Inner {
    let (smallest, length) = match packet.first().map(|octet| octet >> 4) {
        None => return Inner::Keepalive,
        Some(4) => (IPV4_HEADER_SIZE, be_u16(packet, 2).map(usize::from)),
        Some(6) => {
            (IPV6_HEADER_SIZE, be_u16(packet, 4).map(|payload| IPV6_HEADER_SIZE + usize::from(payload)))
        }
        Some(_) => return Inner::Control,
    };
    match length {
        Some(length) if (smallest..=packet.len()).contains(&length) => Inner::Ip(length),
        _ => Inner::Malformed,
    }
}

/// The destination of an IP packet, None for what has none.
#[must_use]
pub fn destination_untrusted(packet: &[u8]) -> Option<IpAddr> {
    address(packet, 16, 24)
}

/// The source of an IP packet, None for what has none.
#[must_use]
pub fn source_untrusted(packet: &[u8]) -> Option<IpAddr> {
    address(packet, 12, 8)
}

fn address(packet: &[u8], at_v4: usize, at_v6: usize) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 if packet.len() >= IPV4_HEADER_SIZE => {
            Some(IpAddr::from(<[u8; 4]>::try_from(&packet[at_v4..at_v4 + 4]).ok()?))
        }
        6 if packet.len() >= IPV6_HEADER_SIZE => {
            Some(IpAddr::from(<[u8; 16]>::try_from(&packet[at_v6..at_v6 + 16]).ok()?))
        }
        _ => None,
    }
}

/// The receiver index of a packet that is itself transport data sent from a UDP port of ours: it must not go
/// round again.
#[must_use]
pub fn looped_receiver_index_untrusted(packet: &[u8], own_port: u16) -> Option<u32> {
    let transport = match packet.first()? >> 4 {
        4 if packet.get(9) == Some(&PROTOCOL_UDP) && be_u16(packet, 6)? & FRAGMENT_OFFSET == 0 => {
            usize::from(packet[0] & 15) * 4
        }
        6 if packet.get(6) == Some(&PROTOCOL_UDP) => IPV6_HEADER_SIZE,
        _ => return None,
    };
    let datagram = packet.get(transport + UDP_HEADER_SIZE..)?;
    if be_u16(packet, transport)? != own_port {
        return None;
    }
    receiver_index_untrusted(datagram)
}

fn ecn(packet: &[u8]) -> u8 {
    match packet {
        [first, second, ..] if first >> 4 == 4 => second & 3,
        [first, second, ..] if first >> 4 == 6 => second >> 4 & 3,
        _ => NOT_ECT,
    }
}

/// The outer TOS that an inner packet is owed (RFC 6040 §4.1, normal mode): its ECN bits alone, and ECT(0)
/// for CE.
#[must_use]
pub fn outer_tos(packet: &[u8]) -> u8 {
    match ecn(packet) {
        CE => ECT_0,
        other => other,
    }
}

/// Carry what the outer TOS reports to the inner packet (RFC 6040 §4.2).
///
/// Congestion reported over a packet that is not ECN-capable changes nothing and drops nothing, as in the
/// kernel.
pub fn decapsulate_ecn(packet: &mut [u8], outer_tos: u8) {
    match (outer_tos & 3, ecn(packet)) {
        (CE, ECT_0 | ECT_1) => set_ecn(packet, CE),
        (ECT_1, ECT_0) => set_ecn(packet, ECT_1),
        _ => {}
    }
}

fn set_ecn(packet: &mut [u8], ecn: u8) {
    if packet[0] >> 4 == 6 {
        packet[1] = packet[1] & !0x30 | ecn << 4;
        return;
    }
    let Some([first, second, .., high, low]) = packet.get_mut(..12) else { return };
    // RFC 1624 equation 3: the checksum is adjusted, not recomputed, so that a wrong one stays wrong.
    let before = u16::from_be_bytes([*first, *second]);
    *second = *second & !3 | ecn;
    let after = u16::from_be_bytes([*first, *second]);
    let checksum = !u16::from_be_bytes([*high, *low]);
    let adjusted = Sum::new(u32::from(checksum)).without(before).number(after).checksum();
    [*high, *low] = adjusted.to_be_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn ipv4(total_length: u16, size: usize) -> Vec<u8> {
        let mut packet = vec![0; size];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&total_length.to_be_bytes());
        packet
    }

    fn ipv6(payload_length: u16, size: usize) -> Vec<u8> {
        let mut packet = vec![0; size];
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&payload_length.to_be_bytes());
        packet
    }

    #[test]
    fn a_packet_is_as_long_as_its_header_says_if_that_much_came() {
        for (packet, inner) in [
            (vec![], Inner::Keepalive),
            (ipv4(28, 32), Inner::Ip(28)),
            (ipv4(32, 32), Inner::Ip(32)),
            (ipv4(33, 32), Inner::Malformed),
            (ipv4(20, 32), Inner::Ip(20)),
            (ipv4(19, 32), Inner::Malformed),
            (ipv4(20, 20), Inner::Ip(20)),
            (vec![0x45; 3], Inner::Malformed),
            (ipv6(0, 48), Inner::Ip(40)),
            (ipv6(8, 48), Inner::Ip(48)),
            (ipv6(9, 48), Inner::Malformed),
            (ipv6(0, 39), Inner::Malformed),
            (vec![0x60; 5], Inner::Malformed),
            (vec![0; 16], Inner::Control),
            (vec![0x50], Inner::Control),
            (vec![0xf0; 100], Inner::Control),
        ] {
            assert_eq!(classify_untrusted(&packet), inner, "{packet:x?}");
        }
    }

    #[test]
    fn an_inner_ce_goes_out_as_ect_0_and_dscp_stays_inside() {
        for (ecn, tos) in [(0, 0), (1, 1), (2, 2), (3, 2)] {
            let mut packet = ipv4(20, 20);
            packet[1] = 0xb8 | ecn;
            assert_eq!(outer_tos(&packet), tos);
            let mut packet = ipv6(0, 40);
            packet[0] |= 0x0b;
            packet[1] = 0x80 | ecn << 4;
            assert_eq!(outer_tos(&packet), tos);
        }
        assert_eq!(outer_tos(&[]), 0);
        assert_eq!(outer_tos(&[0xff; 4]), 0);
    }

    #[test]
    fn outer_congestion_reaches_an_inner_packet_that_can_carry_it() {
        for (outer, inner, result) in [
            (0, 1, 1),
            (3, 0, 0),
            (3, 1, 3),
            (3, 2, 3),
            (3, 3, 3),
            (1, 2, 1),
            (1, 1, 1),
            (2, 1, 1),
            (1, 0, 0),
            (2, 3, 3),
        ] {
            let mut packet = ipv4(20, 20);
            packet[1] = 0xb8 | inner;
            let checksum = Sum::default().octets(&packet).checksum();
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
            decapsulate_ecn(&mut packet, 0x88 | outer);
            assert_eq!(packet[1], 0xb8 | result);
            assert_eq!(Sum::default().octets(&packet).checksum(), 0, "the header's checksum is still right");
            let mut packet = ipv6(0, 40);
            packet[1] = 0x85 | inner << 4;
            decapsulate_ecn(&mut packet, outer);
            assert_eq!(packet[1], 0x85 | result << 4);
        }
    }

    #[test]
    fn our_own_transport_data_is_known_by_its_port_and_type() {
        for mut packet in [ipv4(60, 60), ipv6(40, 80)] {
            let udp = packet.len() - 40;
            packet[if udp == 20 { 9 } else { 6 }] = PROTOCOL_UDP;
            packet[udp..udp + 2].copy_from_slice(&51820u16.to_be_bytes());
            packet[udp + 8] = 4;
            packet[udp + 12] = 99;
            assert_eq!(looped_receiver_index_untrusted(&packet, 51820), Some(99));
            assert_eq!(looped_receiver_index_untrusted(&packet, 51821), None);
            assert_eq!(looped_receiver_index_untrusted(&packet[..packet.len() - 1], 51820), None);
            packet[udp + 8] = 1;
            assert_eq!(looped_receiver_index_untrusted(&packet, 51820), None);
        }
        let mut fragment = ipv4(60, 60);
        (fragment[7], fragment[9], fragment[28]) = (1, PROTOCOL_UDP, 4);
        assert_eq!(looped_receiver_index_untrusted(&fragment, 0), None);
    }

    #[test]
    fn random_octets_do_no_harm() {
        let mut random = Random::new(5);
        for _ in 0..20_000 {
            let length = random.below(64) as usize;
            let mut packet = random.bytes(length);
            if let Some(first) = packet.first_mut() {
                if random.below(2) == 0 {
                    *first = if random.below(2) == 0 { 0x45 } else { 0x60 };
                }
            }
            if let Inner::Ip(length) = classify_untrusted(&packet) {
                assert!(length <= packet.len());
                assert!(source_untrusted(&packet).is_some() && destination_untrusted(&packet).is_some());
            }
            decapsulate_ecn(&mut packet, random.next() as u8);
            let _ = looped_receiver_index_untrusted(&packet, random.next() as u16);
        }
    }
}
