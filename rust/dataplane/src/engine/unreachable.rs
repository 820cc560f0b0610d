//! ICMP for a packet that has nowhere to go, or does not fit its path: unreachable, too big.
//!
//! The kernel's WireGuard answers such a packet with an error at the socket. Through a TUN the sender can
//! only be reached by ICMP, and only with the packet's original destination as its source: from the
//! interface's own address IPv4 takes it for a martian.

use crate::checksum::Sum;
use crate::inner::{IPV4_HEADER_SIZE, IPV6_HEADER_SIZE};

const ICMPV4: u8 = 1;
const ICMPV6: u8 = 58;
const ICMP_HEADER_SIZE: usize = 8;
const MOST_IPV4: usize = 576;
/// Every path has it at least (RFC 8200 §5): nobody is told of less.
const MOST_IPV6: usize = 1280;
const DONT_FRAGMENT: u8 = 0x40;
const HOP_LIMIT: u8 = 64;

/// Why a packet is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It has nowhere to go: host unreachable, address unreachable.
    Unreachable,
    /// It has more octets than these, which its path takes: fragmentation needed, packet too big.
    TooBig(u16),
}

impl Trouble {
    /// Type and code.
    fn kind(self, is_ipv6: bool) -> [u8; 2] {
        match (self, is_ipv6) {
            (Self::Unreachable, false) => [3, 1],
            (Self::Unreachable, true) => [1, 3],
            (Self::TooBig(_), false) => [3, 4],
            (Self::TooBig(_), true) => [2, 0],
        }
    }

    /// The second word of the message, in both families.
    fn word(self) -> u32 {
        match self {
            Self::Unreachable => 0,
            Self::TooBig(mtu) => mtu.into(),
        }
    }
}

/// Whether packets of `length` octets like this one do not fit a path of that MTU, and must not be fragmented
/// on their way: then what their sender is to be told.
#[must_use]
pub fn too_big(packet: &[u8], length: usize, path_mtu: u16) -> Option<Trouble> {
    let most = match packet.first()? >> 4 {
        4 if packet.get(6)? & DONT_FRAGMENT != 0 => path_mtu,
        6 => path_mtu.max(MOST_IPV6 as u16),
        _ => return None,
    };
    (length > usize::from(most)).then_some(Trouble::TooBig(most))
}

/// The answer to an IP packet that cannot be sent, quoting as much of it as is allowed.
///
/// None when it must not be answered: errors, later fragments, multicast and broadcast, no proper source.
#[must_use]
pub fn icmp_answer(packet: &[u8], trouble: Trouble) -> Option<Vec<u8>> {
    match packet.first()? >> 4 {
        4 if packet.len() >= IPV4_HEADER_SIZE => answer_ipv4(packet, trouble),
        6 if packet.len() >= IPV6_HEADER_SIZE => answer_ipv6(packet, trouble),
        _ => None,
    }
}

fn answer_ipv4(packet: &[u8], trouble: Trouble) -> Option<Vec<u8>> {
    let (source, destination) = (&packet[12..16], &packet[16..20]);
    let kind = packet.get(usize::from(packet[0] & 15) * 4);
    let is_error = packet[9] == ICMPV4 && kind.is_some_and(|kind| [3, 4, 5, 11, 12].contains(kind));
    let is_later_fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff != 0;
    if is_error || is_later_fragment || destination[0] >= 224 || source[0] >= 224 || source[0] == 0 {
        return None;
    }
    let quoted = &packet[..packet.len().min(MOST_IPV4 - IPV4_HEADER_SIZE - ICMP_HEADER_SIZE)];
    let size = IPV4_HEADER_SIZE + ICMP_HEADER_SIZE + quoted.len();
    let mut answer = Vec::with_capacity(size);
    answer.extend([0x45, 0]);
    answer.extend((size as u16).to_be_bytes());
    answer.extend([0, 0, 0, 0, HOP_LIMIT, ICMPV4, 0, 0]);
    answer.extend_from_slice(destination);
    answer.extend_from_slice(source);
    let checksum = Sum::default().octets(&answer).checksum();
    answer[10..12].copy_from_slice(&checksum.to_be_bytes());
    push_message(&mut answer, trouble.kind(false), trouble.word(), quoted, Sum::default());
    Some(answer)
}

fn answer_ipv6(packet: &[u8], trouble: Trouble) -> Option<Vec<u8>> {
    let (source, destination) = (&packet[8..24], &packet[24..40]);
    let is_error = packet[6] == ICMPV6 && packet.get(IPV6_HEADER_SIZE).is_some_and(|&kind| kind < 128);
    if is_error || destination[0] == 0xff || source[0] == 0xff || source == [0; 16] {
        return None;
    }
    let quoted = &packet[..packet.len().min(MOST_IPV6 - IPV6_HEADER_SIZE - ICMP_HEADER_SIZE)];
    let length = (ICMP_HEADER_SIZE + quoted.len()) as u16;
    let mut answer = Vec::with_capacity(IPV6_HEADER_SIZE + usize::from(length));
    answer.extend([0x60, 0, 0, 0]);
    answer.extend(length.to_be_bytes());
    answer.extend([ICMPV6, HOP_LIMIT]);
    answer.extend_from_slice(destination);
    answer.extend_from_slice(source);
    let pseudo_header = Sum::default().octets(&answer[8..40]).number(length).number(ICMPV6.into());
    push_message(&mut answer, trouble.kind(true), trouble.word(), quoted, pseudo_header);
    Some(answer)
}

fn push_message(answer: &mut Vec<u8>, kind: [u8; 2], word: u32, quoted: &[u8], pseudo_header: Sum) {
    let start = answer.len();
    answer.extend(kind);
    answer.extend([0; 2]);
    answer.extend(word.to_be_bytes());
    answer.extend_from_slice(quoted);
    let checksum = pseudo_header.octets(&answer[start..]).checksum();
    answer[start + 2..start + 4].copy_from_slice(&checksum.to_be_bytes());
}
