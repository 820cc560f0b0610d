//! Superpackets: one read of a TUN with offloads may be many TCP or UDP segments, or a packet whose checksum
//! is left to us.
//!
//! Headers are copied and fixed up for each segment as the kernel's own segmentation does it. The checksum
//! field of a superpacket holds the sum of the pseudo header, which is taken from there, so that extension
//! headers need no parsing.

use crate::checksum::Sum;
use crate::inner::{IPV4_HEADER_SIZE, IPV6_HEADER_SIZE};
use crate::virtio::{GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CHECKSUM, VirtioHeader};

/// More than any kernel puts into one superpacket; a header that asks for more is wrong.
const MAX_SEGMENTS: usize = 1024;

const TCP_HEADER_SIZE: usize = 20;
const TCP_CHECKSUM_OFFSET: usize = 16;
const TCP_FIN_PSH: u8 = 0x09;
const TCP_CWR: u8 = 0x80;
const UDP_HEADER_SIZE: usize = 8;
const UDP_CHECKSUM_OFFSET: usize = 6;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One packet, complete.
    Whole,
    /// One packet whose checksum is to be completed.
    Checksum,
    Tcp,
    Udp,
}

/// A packet from the TUN, found to be consistent.
#[derive(Clone, Copy)]
pub struct Superpacket<'a> {
    packet: &'a [u8],
    kind: Kind,
    /// Where the transport header begins, for all but `Whole`.
    transport: usize,
    /// Where the checksum is, counted from there.
    checksum_offset: usize,
    /// Where the payload begins, and how much of it a segment takes, for `Tcp` and `Udp`.
    payload: usize,
    gso_size: usize,
}

impl<'a> Superpacket<'a> {
    /// A packet without virtio header.
    #[must_use]
    pub fn whole(packet: &'a [u8]) -> Self {
        let payload = packet.len();
        Self { packet, kind: Kind::Whole, transport: 0, checksum_offset: 0, payload, gso_size: 0 }
    }

    /// Read a packet that begins with a virtio header. None when the two contradict each other.
    #[must_use]
    pub fn parse(octets: &'a [u8]) -> Option<Self> {
        let (header, packet) = VirtioHeader::split(octets)?;
        let transport = usize::from(header.checksum_start);
        let checksum_offset = usize::from(header.checksum_offset);
        let needs_checksum = header.flags & NEEDS_CHECKSUM != 0;
        if header.gso_type == GSO_NONE {
            if !needs_checksum {
                return Some(Self::whole(packet));
            }
            let fits = transport + checksum_offset + 2 <= packet.len();
            let checksum = Self { kind: Kind::Checksum, transport, checksum_offset, ..Self::whole(packet) };
            return fits.then_some(checksum);
        }
        let version = packet.first()? >> 4;
        let (kind, expected_offset, smallest) = match (header.gso_type & !GSO_ECN, version) {
            (GSO_TCPV4, 4) | (GSO_TCPV6, 6) => (Kind::Tcp, TCP_CHECKSUM_OFFSET, TCP_HEADER_SIZE),
            (GSO_UDP_L4, 4 | 6) => (Kind::Udp, UDP_CHECKSUM_OFFSET, UDP_HEADER_SIZE),
            _ => return None,
        };
        let ip_header = if version == 4 { ipv4_header_size(packet) } else { IPV6_HEADER_SIZE };
        let gso_size = usize::from(header.gso_size);
        if !needs_checksum
            || checksum_offset != expected_offset
            || ip_header < IPV4_HEADER_SIZE
            || transport < ip_header
            || (version == 4 && transport != ip_header)
            || packet.len() < transport + smallest
            || packet.len() > usize::from(u16::MAX)
            || gso_size == 0
        {
            return None;
        }
        let transport_header =
            if kind == Kind::Tcp { usize::from(packet[transport + 12] >> 4) * 4 } else { smallest };
        let payload = transport + transport_header;
        if transport_header < smallest || packet.len() <= payload {
            return None;
        }
        let superpacket = Self { packet, kind, transport, checksum_offset, payload, gso_size };
        (superpacket.segment_count() <= MAX_SEGMENTS).then_some(superpacket)
    }

    /// What the TUN gave: a superpacket, or without virtio headers a packet. None as for `parse`.
    #[must_use]
    pub fn of(octets: &'a [u8], vnet_hdr: bool) -> Option<Self> {
        if vnet_hdr { Self::parse(octets) } else { Some(Self::whole(octets)) }
    }

    /// The packet without virtio header, headers as they came.
    #[must_use]
    pub fn packet(&self) -> &'a [u8] {
        self.packet
    }

    /// How many packets it makes.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        match self.kind {
            Kind::Whole | Kind::Checksum => 1,
            Kind::Tcp | Kind::Udp => (self.packet.len() - self.payload).div_ceil(self.gso_size),
        }
    }

    fn payload_of(&self, number: usize) -> &'a [u8] {
        let start = self.payload + number * self.gso_size;
        &self.packet[start..self.packet.len().min(start + self.gso_size)]
    }

    /// Octets of one of the packets, counted from 0.
    #[must_use]
    pub fn segment_length(&self, number: usize) -> usize {
        match self.kind {
            Kind::Whole | Kind::Checksum => self.packet.len(),
            Kind::Tcp | Kind::Udp => self.payload + self.payload_of(number).len(),
        }
    }

    /// Write one of the packets to `out`, which has its length.
    pub fn write_segment(&self, number: usize, out: &mut [u8]) {
        match self.kind {
            Kind::Whole => out.copy_from_slice(self.packet),
            Kind::Checksum => {
                out.copy_from_slice(self.packet);
                let sum = Sum::default().octets(&out[self.transport..]);
                self.write_checksum(out, sum);
            }
            Kind::Tcp | Kind::Udp => self.write_part(number, out),
        }
    }

    fn write_part(&self, number: usize, out: &mut [u8]) {
        let transport = self.transport;
        out[..self.payload].copy_from_slice(&self.packet[..self.payload]);
        out[self.payload..].copy_from_slice(self.payload_of(number));
        let length = out.len() as u16;
        if out[0] >> 4 == 4 {
            out[2..4].copy_from_slice(&length.to_be_bytes());
            let id = u16::from_be_bytes([out[4], out[5]]).wrapping_add(number as u16);
            out[4..6].copy_from_slice(&id.to_be_bytes());
            out[10..12].fill(0);
            let checksum = Sum::default().octets(&out[..transport]).checksum();
            out[10..12].copy_from_slice(&checksum.to_be_bytes());
        } else {
            out[4..6].copy_from_slice(&(length - IPV6_HEADER_SIZE as u16).to_be_bytes());
        }
        let transport_length = length - transport as u16;
        if self.kind == Kind::Tcp {
            let offset = (number * self.gso_size) as u32;
            let sequence = &mut out[transport + 4..transport + 8];
            let first = u32::from_be_bytes([sequence[0], sequence[1], sequence[2], sequence[3]]);
            sequence.copy_from_slice(&first.wrapping_add(offset).to_be_bytes());
            if number + 1 != self.segment_count() {
                out[transport + 13] &= !TCP_FIN_PSH;
            }
            if number != 0 {
                out[transport + 13] &= !TCP_CWR;
            }
        } else {
            out[transport + 4..transport + 6].copy_from_slice(&transport_length.to_be_bytes());
        }
        // The field holds the pseudo header's sum over the whole length: exchange that for the segment's.
        let whole_length = (self.packet.len() - transport) as u16;
        let sum = Sum::default().octets(&out[transport..]).without(whole_length).number(transport_length);
        self.write_checksum(out, sum);
    }

    fn write_checksum(&self, out: &mut [u8], sum: Sum) {
        let at = self.transport + self.checksum_offset;
        // A UDP checksum of zero would mean that there is none; the other zero of ones' complement means the
        // same for TCP.
        let checksum = match sum.checksum() {
            0 if self.checksum_offset == UDP_CHECKSUM_OFFSET => 0xffff,
            checksum => checksum,
        };
        out[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

fn ipv4_header_size(packet: &[u8]) -> usize {
    packet.first().map_or(0, |first| usize::from(first & 15) * 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::virtio;

    fn split(octets: &[u8]) -> Option<Vec<Vec<u8>>> {
        let superpacket = Superpacket::parse(octets)?;
        let segments = (0..superpacket.segment_count()).map(|number| {
            let mut segment = vec![0xee; superpacket.segment_length(number)];
            superpacket.write_segment(number, &mut segment);
            segment
        });
        Some(segments.collect())
    }

    /// An IPv4 TCP superpacket as the kernel hands it over.
    fn tcp4(payload: &[u8], gso_size: u16, flags: u8) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[..4].copy_from_slice(&[0x45, 2, 0, 0]);
        packet[2..4].copy_from_slice(&(40 + payload.len() as u16).to_be_bytes());
        packet[4..10].copy_from_slice(&[0xff, 0xfe, 0x40, 0, 64, 6]);
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet[20..24].copy_from_slice(&[0x12, 0x34, 0, 80]);
        packet[24..28].copy_from_slice(&u32::MAX.to_be_bytes());
        packet[32] = 5 << 4;
        packet[33] = flags;
        packet.extend_from_slice(payload);
        let pseudo = Sum::default().octets(&packet[12..20]).number(6).number(20 + payload.len() as u16);
        packet[36..38].copy_from_slice(&pseudo.folded().to_be_bytes());
        let header = VirtioHeader {
            flags: NEEDS_CHECKSUM,
            gso_type: GSO_TCPV4,
            header_length: 40,
            gso_size,
            checksum_start: 20,
            checksum_offset: 16,
        };
        [&header.encode()[..], &packet].concat()
    }

    #[test]
    fn a_tcp_superpacket_becomes_segments_that_are_right_in_every_header_field() {
        let payload = Random::new(7).bytes(250);
        let segments = split(&tcp4(&payload, 100, 0x99)).unwrap();
        let flags: Vec<u8> = segments.iter().map(|segment| segment[33]).collect();
        assert_eq!(flags, [0x90, 0x10, 0x19], "CWR on the first, PSH and FIN on the last");
        for (number, segment) in segments.iter().enumerate() {
            assert_eq!(segment.len(), if number == 2 { 90 } else { 140 });
            assert_eq!(u16::from_be_bytes([segment[2], segment[3]]) as usize, segment.len());
            assert_eq!(u16::from_be_bytes([segment[4], segment[5]]), 0xfffe_u16.wrapping_add(number as u16));
            let sequence = u32::from_be_bytes(segment[24..28].try_into().unwrap());
            assert_eq!(sequence, u32::MAX.wrapping_add(100 * number as u32));
            assert_eq!(Sum::default().octets(&segment[..20]).checksum(), 0);
            let pseudo = Sum::default().octets(&segment[12..20]).number(6).number(segment.len() as u16 - 20);
            assert_eq!(pseudo.octets(&segment[20..]).checksum(), 0);
        }
        let joined: Vec<u8> = segments.iter().flat_map(|segment| segment[40..].to_vec()).collect();
        assert_eq!(joined, payload);
    }

    #[test]
    fn a_packet_without_offload_passes_as_it_is() {
        let packet = [0x45; 60];
        let octets = [&VirtioHeader::default().encode()[..], &packet].concat();
        assert_eq!(split(&octets).unwrap(), [packet.to_vec()]);
    }

    #[test]
    fn a_header_that_contradicts_its_packet_is_refused() {
        let good = tcp4(&[1; 250], 100, 0x10);
        assert!(split(&good).is_some());
        let with = |at: usize, value: u8| {
            let mut bad = good.clone();
            bad[at] = value;
            split(&bad).is_none()
        };
        assert!(with(0, 0), "no checksum to complete");
        assert!(with(1, GSO_TCPV6), "the other family");
        assert!(with(1, 3), "UFO was never asked for");
        assert!(with(4, 0), "segments of nothing");
        assert!(with(6, 24), "the transport header elsewhere");
        assert!(with(8, 6), "the checksum elsewhere");
        assert!(with(virtio::HEADER_SIZE, 0x44), "an IP header too short");
        assert!(with(virtio::HEADER_SIZE + 32, 0x40), "a TCP header too short");
        for length in 0..51 {
            assert!(split(&good[..length]).is_none(), "cut at {length}");
        }
    }

    #[test]
    fn random_headers_and_packets_do_no_harm() {
        let mut random = Random::new(8);
        for round in 0..50_000u32 {
            let mut octets = tcp4(&[3; 200], 50, 0x10);
            octets.truncate(10 + random.below(241) as usize);
            for _ in 0..1 + round % 4 {
                let at = random.below(octets.len().min(60) as u64) as usize;
                octets[at] = random.next() as u8;
            }
            if let Some(segments) = split(&octets) {
                assert!(segments.len() <= MAX_SEGMENTS);
            }
        }
    }
}
