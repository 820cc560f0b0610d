//! Fragments of packets that are longer than their path takes, made before they are sealed: what is fragmented
//! outside the tunnel is dropped by many firewalls, and by all that carry IPv6.
//!
//! IPv4 as any router does it. IPv6 as its sender would, which a tunnel that has no room for 1,280 octets must
//! do in some way (RFC 8200 §5, RFC 2473 §7.1); who gets the fragments cannot tell who made them.

use crate::checksum::Sum;
use crate::inner::{IPV4_HEADER_SIZE, IPV6_HEADER_SIZE};
use crate::superpacket::Superpacket;

const MORE_IPV4: u16 = 0x2000;
const OFFSET_IPV4: u16 = 0x1fff;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const FRAGMENT_HEADER_SIZE: usize = 8;
const MORE_IPV6: u16 = 1;

/// The packets of a superpacket, those of more than `mtu` octets in fragments. Whole where it cannot be: with
/// options, or with extension headers that each router reads. `identification` is random, for IPv6.
#[must_use]
pub fn fragment(superpacket: &Superpacket<'_>, mtu: usize, identification: u32) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for number in 0..superpacket.segment_count() {
        let mut packet = vec![0; superpacket.segment_length(number)];
        superpacket.write_segment(number, &mut packet);
        let fragments = if packet.len() <= mtu {
            None
        } else {
            match packet[0] >> 4 {
                4 => fragment_ipv4(&packet, mtu),
                6 => fragment_ipv6(&packet, mtu, identification.wrapping_add(number as u32)),
                _ => None,
            }
        };
        match fragments {
            Some(fragments) => out.extend(fragments),
            None => out.push(packet),
        }
    }
    out
}

fn be_u16(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

/// The payload in parts of as many units of 8 octets as there is room for: offset in octets, part, and whether
/// it is the last. None: there are none.
fn parts(payload: &[u8], room: usize) -> Option<impl Iterator<Item = (usize, &[u8], bool)>> {
    let size = room & !7;
    let count = payload.len().div_ceil(size.max(1));
    let numbered = payload.chunks(size.max(1)).enumerate();
    (size > 0 && count > 0)
        .then(|| numbered.map(move |(number, part)| (number * size, part, number + 1 == count)))
}

fn fragment_ipv4(packet: &[u8], mtu: usize) -> Option<Vec<Vec<u8>>> {
    let header = packet.get(..IPV4_HEADER_SIZE)?;
    let payload = packet.get(IPV4_HEADER_SIZE..usize::from(be_u16(packet, 2)?))?;
    let (word, had_options) = (be_u16(packet, 6)?, header[0] != 0x45);
    let first = usize::from(word & OFFSET_IPV4);
    if had_options || first + payload.len() / 8 > usize::from(OFFSET_IPV4) {
        return None;
    }
    let fragments = parts(payload, mtu.checked_sub(IPV4_HEADER_SIZE)?)?.map(|(offset, part, is_last)| {
        let mut fragment = Vec::with_capacity(IPV4_HEADER_SIZE + part.len());
        fragment.extend_from_slice(header);
        fragment.extend_from_slice(part);
        let more = if is_last { word & MORE_IPV4 } else { MORE_IPV4 };
        let length = fragment.len() as u16;
        fragment[2..4].copy_from_slice(&length.to_be_bytes());
        fragment[6..8].copy_from_slice(&(more | (first + offset / 8) as u16).to_be_bytes());
        fragment[10..12].fill(0);
        let checksum = Sum::default().octets(&fragment[..IPV4_HEADER_SIZE]).checksum();
        fragment[10..12].copy_from_slice(&checksum.to_be_bytes());
        fragment
    });
    Some(fragments.collect())
}

fn fragment_ipv6(packet: &[u8], mtu: usize, identification: u32) -> Option<Vec<Vec<u8>>> {
    let header = packet.get(..IPV6_HEADER_SIZE)?;
    let content = packet.get(IPV6_HEADER_SIZE..IPV6_HEADER_SIZE + usize::from(be_u16(packet, 4)?))?;
    let (next, word, identification, payload) = match header[6] {
        HOP_BY_HOP | ROUTING => return None,
        FRAGMENT => {
            let (extension, rest) = content.split_first_chunk::<FRAGMENT_HEADER_SIZE>()?;
            let [next, _, high, low, identification @ ..] = *extension;
            (next, u16::from_be_bytes([high, low]), identification, rest)
        }
        next => (next, 0, identification.to_be_bytes(), content),
    };
    let first = usize::from(word & !7);
    if first + payload.len() > usize::from(u16::MAX) {
        return None;
    }
    let room = mtu.checked_sub(IPV6_HEADER_SIZE + FRAGMENT_HEADER_SIZE)?;
    let fragments = parts(payload, room)?.map(|(offset, part, is_last)| {
        let mut fragment = Vec::with_capacity(IPV6_HEADER_SIZE + FRAGMENT_HEADER_SIZE + part.len());
        fragment.extend_from_slice(header);
        let more = if is_last { word & MORE_IPV6 } else { MORE_IPV6 };
        fragment.extend([next, 0]);
        fragment.extend(((first + offset) as u16 | more).to_be_bytes());
        fragment.extend(identification);
        fragment.extend_from_slice(part);
        let length = (fragment.len() - IPV6_HEADER_SIZE) as u16;
        fragment[4..6].copy_from_slice(&length.to_be_bytes());
        fragment[6] = FRAGMENT;
        fragment
    });
    Some(fragments.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn ipv4(payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 3, 0, 0, 0x12, 0x34, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend_from_slice(payload);
        let length = packet.len() as u16;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        let checksum = Sum::default().octets(&packet[..20]).checksum();
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0x12, 0x34, 0x56];
        packet.extend((payload.len() as u16).to_be_bytes());
        packet.extend([next, 64]);
        packet.extend([0xfd; 32]);
        packet.extend_from_slice(payload);
        packet
    }

    fn split(packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
        fragment(&Superpacket::whole(packet), mtu, 0x0102_0304)
    }

    /// Fragments put together again: the payload, and whether the last one says that more follow.
    fn joined_ipv4(fragments: &[Vec<u8>], mtu: usize, first: usize) -> (Vec<u8>, bool) {
        let (mut payload, mut more) = (Vec::new(), true);
        for fragment in fragments {
            assert!(more, "one after the last");
            assert!(fragment.len() <= mtu);
            assert_eq!(usize::from(be_u16(fragment, 2).unwrap()), fragment.len());
            assert_eq!(Sum::default().octets(&fragment[..20]).checksum(), 0);
            let word = be_u16(fragment, 6).unwrap();
            assert_eq!(usize::from(word & OFFSET_IPV4) * 8, first + payload.len());
            more = word & MORE_IPV4 != 0;
            payload.extend_from_slice(&fragment[20..]);
        }
        (payload, more)
    }

    fn joined_ipv6(fragments: &[Vec<u8>], mtu: usize, first: usize) -> (Vec<u8>, bool) {
        let (mut payload, mut more) = (Vec::new(), true);
        for fragment in fragments {
            assert!(more, "one after the last");
            assert!(fragment.len() <= mtu);
            assert_eq!(usize::from(be_u16(fragment, 4).unwrap()) + 40, fragment.len());
            assert_eq!((fragment[6], fragment[40]), (FRAGMENT, 17));
            assert_eq!(fragment[44..48], [1, 2, 3, 4]);
            let word = be_u16(fragment, 42).unwrap();
            assert_eq!(usize::from(word & !7), first + payload.len());
            more = word & MORE_IPV6 != 0;
            payload.extend_from_slice(&fragment[48..]);
        }
        (payload, more)
    }

    #[test]
    fn fragments_put_together_are_the_packet() {
        let mut random = Random::new(3);
        for length in [1149, 1152, 1153, 1160, 1361, 1452, 4000, 9000] {
            for mtu in [1168, 1200, 1341] {
                let payload = random.bytes(length);
                let packet = ipv4(&payload);
                if packet.len() > mtu {
                    assert_eq!(joined_ipv4(&split(&packet, mtu), mtu, 0), (payload.clone(), false));
                }
                let packet = ipv6(17, &payload);
                if packet.len() > mtu {
                    assert_eq!(joined_ipv6(&split(&packet, mtu), mtu, 0), (payload, false));
                }
            }
        }
    }

    #[test]
    fn a_fragment_becomes_smaller_ones_of_the_same_packet() {
        let payload = Random::new(4).bytes(1256);
        let mut packet = ipv4(&payload);
        packet[6..8].copy_from_slice(&(MORE_IPV4 | 157).to_be_bytes());
        assert_eq!(joined_ipv4(&split(&packet, 1200), 1200, 157 * 8), (payload.clone(), true));

        let extension = [17, 0, 0x04, 0xe1, 1, 2, 3, 4];
        let packet = ipv6(FRAGMENT, &[&extension[..], &payload].concat());
        assert_eq!(joined_ipv6(&split(&packet, 1200), 1200, 0x4e0), (payload, true));
    }

    #[test]
    fn what_fits_or_cannot_be_fragmented_stays_whole() {
        let payload = [7; 1300];
        let mut with_options = ipv4(&payload);
        with_options[0] = 0x46;
        let cut = ipv4(&payload)[..1290].to_vec();
        let far = {
            let mut packet = ipv4(&payload);
            packet[6..8].copy_from_slice(&OFFSET_IPV4.to_be_bytes());
            packet
        };
        let whole = [
            ipv4(&payload[..1180]),
            ipv6(17, &payload[..1160]),
            ipv6(HOP_BY_HOP, &payload),
            ipv6(ROUTING, &payload),
            with_options,
            cut,
            far,
            vec![0x70; 1300],
            ipv6(17, &payload)[..1300].to_vec(),
        ];
        for packet in whole {
            assert_eq!(split(&packet, 1200), [packet]);
        }
    }

    #[test]
    fn no_packet_makes_it_panic() {
        let mut random = Random::new(5);
        for round in 0..20_000 {
            let length = 1 + round % 90;
            let mut packet = random.bytes(length);
            packet[0] = [0x45, 0x60, packet[0]][round % 3];
            if length > 7 && round % 2 == 0 {
                packet[6] = [FRAGMENT, 17, 0][round % 3];
                let size = (length.saturating_sub(40) as u16).to_be_bytes();
                packet[4..6].copy_from_slice(&size);
                packet[2] = 0;
            }
            for mtu in [0, 1, 20, 27, 28, 47, 48, 56, 60] {
                assert!(!split(&packet, mtu).is_empty());
            }
        }
    }
}
