//! Joining segments of one TCP or UDP flow into superpackets for the TUN, so that one write carries many.
//!
//! The rules are the kernel's GRO rules: only segments that resegmentation gives back as they were are
//! joined, and only when their checksums are right. A packet that cannot be joined ends what is open between
//! its two addresses, so the order within a flow stays.

use crate::checksum::Sum;
use crate::inner::{IPV4_HEADER_SIZE, IPV6_HEADER_SIZE};
use crate::virtio::{self, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CHECKSUM, VirtioHeader};

const MAX_PACKET_SIZE: usize = 65_535;
/// Datagrams of one UDP superpacket that every kernel with USO takes.
const MAX_DATAGRAMS: usize = 64;
/// How many groups back a flow is looked for: bounds the work that many small packets of many flows can make.
const HORIZON: usize = 64;

const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const TCP_ACK: u8 = 0x10;
const TCP_PSH: u8 = 0x08;
const DONT_FRAGMENT: u8 = 0x40;
const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3fff;

/// Which protocols to join; the kernel takes UDP superpackets from 6.2 on.
#[derive(Clone, Copy)]
pub struct Protocols {
    /// Join TCP segments.
    pub tcp: bool,
    /// Join UDP datagrams.
    pub udp: bool,
}

/// Where things are in a packet that may be joined to another.
#[derive(Clone, Copy)]
struct Layout {
    protocol: u8,
    transport: usize,
    payload: usize,
}

/// One write to the TUN.
pub struct Group {
    first: usize,
    last: usize,
    count: usize,
    /// Octets of the packet, headers of the first and all payloads.
    size: usize,
    /// None: a packet alone for good.
    layout: Option<Layout>,
    gso_size: usize,
    is_open: bool,
}

/// Room for a virtio header and the longest headers that are joined: IPv6 and TCP with all its options.
pub struct JoinedHeader([u8; virtio::HEADER_SIZE + IPV6_HEADER_SIZE + 60]);

impl Default for JoinedHeader {
    fn default() -> Self {
        Self([0; virtio::HEADER_SIZE + IPV6_HEADER_SIZE + 60])
    }
}

/// Packets in groups, in the order of each group's first packet.
pub struct Coalesced<'p> {
    packets: &'p [&'p [u8]],
    groups: Vec<Group>,
    /// For each packet the next one of its group.
    next: Vec<usize>,
}

impl<'p> Coalesced<'p> {
    /// Group the packets.
    #[must_use]
    pub fn new(packets: &'p [&'p [u8]], protocols: Protocols) -> Self {
        let mut coalesced = Self { packets, groups: Vec::new(), next: vec![usize::MAX; packets.len()] };
        for (number, packet) in packets.iter().enumerate() {
            let layout = layout_untrusted(packet).filter(|layout| match layout.protocol {
                PROTOCOL_TCP => protocols.tcp,
                _ => protocols.udp,
            });
            coalesced.add(number, packet, layout);
        }
        coalesced
    }

    /// The groups, one for each write.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    fn add(&mut self, number: usize, packet: &[u8], layout: Option<Layout>) {
        let packets = self.packets;
        let recent = self.groups.iter_mut().rev().take(HORIZON);
        let mut related =
            recent.filter(|group| group.is_open && same_addresses(packets[group.first], packet));
        if let Some(layout) = layout {
            if let Some(group) = related.find(|group| group.is_flow(packets[group.first], packet, layout)) {
                if group.takes(packets[group.first], packets[group.last], packet, layout) {
                    self.next[group.last] = number;
                    group.last = number;
                    group.count += 1;
                    group.size += packet.len() - layout.payload;
                    group.is_open = group.stays_open(packet, layout);
                    return;
                }
                group.is_open = false;
            }
        } else {
            related.for_each(|group| group.is_open = false);
        }
        let gso_size = layout.map_or(0, |layout| packet.len() - layout.payload);
        let mut group = Group {
            first: number,
            last: number,
            count: 1,
            size: packet.len(),
            layout,
            gso_size,
            is_open: false,
        };
        group.is_open = layout.is_some_and(|layout| group.stays_open(packet, layout));
        self.groups.push(group);
    }

    /// Write a group, virtio header first, to `out`, which has its [`Group::written_size`].
    pub fn write(&self, group: &Group, out: &mut [u8]) {
        let mut header = JoinedHeader::default();
        let header = self.write_header(group, &mut header);
        let (start, mut rest) = out.split_at_mut(header.len());
        start.copy_from_slice(header);
        for payload in self.payloads_of(group) {
            let (place, after) = rest.split_at_mut(payload.len());
            place.copy_from_slice(payload);
            rest = after;
        }
    }

    /// The packets of a group, in order.
    pub fn packets_of(&self, group: &Group) -> impl Iterator<Item = &'p [u8]> {
        let mut at = group.first;
        std::iter::from_fn(move || {
            let packet = *self.packets.get(at)?;
            at = self.next[at];
            Some(packet)
        })
    }

    /// What follows the header that [`Self::write_header`] writes: the packets' payloads.
    pub fn payloads_of(&self, group: &Group) -> impl Iterator<Item = &'p [u8]> {
        let skip = group.layout.filter(|_| group.count > 1).map_or(0, |layout| layout.payload);
        self.packets_of(group).map(move |packet| &packet[skip..])
    }

    /// Write the virtio header of a group and, if it joins packets, the headers of the joined one.
    pub fn write_header<'h>(&self, group: &Group, joined: &'h mut JoinedHeader) -> &'h [u8] {
        let JoinedHeader(octets) = joined;
        let Some(layout) = group.layout.filter(|_| group.count > 1) else {
            octets[..virtio::HEADER_SIZE].fill(0);
            return &octets[..virtio::HEADER_SIZE];
        };
        let (header, out) = octets.split_at_mut(virtio::HEADER_SIZE);
        let Layout { protocol, transport, payload } = layout;
        let out = &mut out[..payload];
        out.copy_from_slice(&self.packets[group.first][..payload]);
        let is_v4 = out[0] >> 4 == 4;
        if is_v4 {
            out[2..4].copy_from_slice(&(group.size as u16).to_be_bytes());
            out[10..12].fill(0);
            let checksum = Sum::default().octets(&out[..transport]).checksum();
            out[10..12].copy_from_slice(&checksum.to_be_bytes());
        } else {
            out[4..6].copy_from_slice(&((group.size - IPV6_HEADER_SIZE) as u16).to_be_bytes());
        }
        let checksum_offset = if protocol == PROTOCOL_TCP {
            out[transport + 13] |= self.packets[group.last][transport + 13] & TCP_PSH;
            16
        } else {
            out[transport + 4..transport + 6]
                .copy_from_slice(&((group.size - transport) as u16).to_be_bytes());
            6
        };
        let pseudo_header = pseudo_header_sum(out, transport, protocol, group.size).folded();
        let at = transport + checksum_offset;
        out[at..at + 2].copy_from_slice(&pseudo_header.to_be_bytes());
        let virtio_header = VirtioHeader {
            flags: NEEDS_CHECKSUM,
            gso_type: match (protocol, is_v4) {
                (PROTOCOL_TCP, true) => GSO_TCPV4,
                (PROTOCOL_TCP, false) => GSO_TCPV6,
                _ => GSO_UDP_L4,
            },
            header_length: payload as u16,
            gso_size: group.gso_size as u16,
            checksum_start: transport as u16,
            checksum_offset: checksum_offset as u16,
        };
        header.copy_from_slice(&virtio_header.encode());
        &octets[..virtio::HEADER_SIZE + payload]
    }
}

impl Group {
    /// Octets that [`Coalesced::write`] writes.
    #[must_use]
    pub fn written_size(&self) -> usize {
        virtio::HEADER_SIZE + self.size
    }

    /// How many packets it joins.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether a packet between the same addresses is of the same flow.
    fn is_flow(&self, first: &[u8], packet: &[u8], layout: Layout) -> bool {
        self.layout.is_some_and(|own| {
            let ports =
                |packet: &[u8], at: usize| [packet[at], packet[at + 1], packet[at + 2], packet[at + 3]];
            own.protocol == layout.protocol && ports(first, own.transport) == ports(packet, layout.transport)
        })
    }

    /// Whether the next packet of the flow is one that resegmentation gives back as it is.
    fn takes(&self, first: &[u8], last: &[u8], packet: &[u8], layout: Layout) -> bool {
        let Layout { protocol, transport, payload } = layout;
        let size = packet.len() - payload;
        if self.layout.is_none_or(|own| own.payload != payload)
            || size > self.gso_size
            || self.size + size > MAX_PACKET_SIZE
            || !same_ip_header(first, packet, self.count)
        {
            return false;
        }
        if protocol == PROTOCOL_UDP {
            return self.count < MAX_DATAGRAMS;
        }
        let sequence = |packet: &[u8]| {
            u32::from_be_bytes([
                packet[transport + 4],
                packet[transport + 5],
                packet[transport + 6],
                packet[transport + 7],
            ])
        };
        let expected = sequence(last).wrapping_add((last.len() - payload) as u32);
        // Acknowledged number and header length, window, urgent pointer and options. Flags are ACK and
        // perhaps PSH: see `layout_untrusted`.
        sequence(packet) == expected
            && first[transport + 8..transport + 13] == packet[transport + 8..transport + 13]
            && first[transport + 14..transport + 16] == packet[transport + 14..transport + 16]
            && first[transport + 18..payload] == packet[transport + 18..payload]
    }

    /// Whether anything may follow the packet just added.
    fn stays_open(&self, packet: &[u8], layout: Layout) -> bool {
        let is_pushed = layout.protocol == PROTOCOL_TCP && packet[layout.transport + 13] & TCP_PSH != 0;
        packet.len() - layout.payload == self.gso_size && !is_pushed
    }
}

fn same_addresses(one: &[u8], other: &[u8]) -> bool {
    let addresses =
        |packet: &'_ [u8]| if packet.first().is_some_and(|first| first >> 4 == 4) { 12..20 } else { 8..40 };
    match (one.get(addresses(one)), other.get(addresses(other))) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}

/// Whether two IP headers differ only as those of segments of one superpacket do; the second is `distance`
/// after the first.
fn same_ip_header(first: &[u8], packet: &[u8], distance: usize) -> bool {
    if first[0] != packet[0] || first[1] != packet[1] {
        return false;
    }
    if first[0] >> 4 == 6 {
        return first[2..4] == packet[2..4] && first[6..8] == packet[6..8];
    }
    let id = |packet: &[u8]| u16::from_be_bytes([packet[4], packet[5]]);
    // Identification means something only where a packet may be fragmented.
    let follows = first[6] & DONT_FRAGMENT != 0 || id(packet) == id(first).wrapping_add(distance as u16);
    follows && first[6..10] == packet[6..10]
}

fn pseudo_header_sum(packet: &[u8], transport: usize, protocol: u8, size: usize) -> Sum {
    let addresses = if packet[0] >> 4 == 4 { &packet[12..20] } else { &packet[8..40] };
    Sum::default().octets(addresses).number(protocol.into()).number((size - transport) as u16)
}

/// Find the parts of a packet that may be joined: no IP options or fragments, a TCP segment with data and no
/// flag but ACK and PSH or a UDP datagram with data and a checksum, all lengths and checksums right.
fn layout_untrusted(packet: &[u8]) -> Option<Layout> {
    if packet.len() > MAX_PACKET_SIZE {
        return None;
    }
    let be_u16 = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    let (transport, protocol) = match packet.first()? {
        0x45 if packet.len() >= IPV4_HEADER_SIZE => {
            if usize::from(be_u16(2)?) != packet.len()
                || be_u16(6)? & MORE_FRAGMENTS_AND_OFFSET != 0
                || Sum::default().octets(&packet[..IPV4_HEADER_SIZE]).checksum() != 0
            {
                return None;
            }
            (IPV4_HEADER_SIZE, packet[9])
        }
        0x60..=0x6f if packet.len() >= IPV6_HEADER_SIZE => {
            if usize::from(be_u16(4)?) != packet.len() - IPV6_HEADER_SIZE {
                return None;
            }
            (IPV6_HEADER_SIZE, packet[6])
        }
        _ => return None,
    };
    let payload = match protocol {
        PROTOCOL_TCP => {
            let [offset, flags] = be_u16(transport + 12)?.to_be_bytes();
            if flags & !TCP_PSH != TCP_ACK || offset < 5 << 4 || offset & 15 != 0 {
                return None;
            }
            transport + usize::from(offset >> 4) * 4
        }
        PROTOCOL_UDP => {
            if usize::from(be_u16(transport + 4)?) != packet.len() - transport || be_u16(transport + 6)? == 0
            {
                return None;
            }
            transport + 8
        }
        _ => return None,
    };
    if packet.len() <= payload {
        return None;
    }
    let sum = pseudo_header_sum(packet, transport, protocol, packet.len());
    (sum.octets(&packet[transport..]).checksum() == 0).then_some(Layout { protocol, transport, payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::superpacket::Superpacket;

    const BOTH: Protocols = Protocols { tcp: true, udp: true };

    /// A flow that sends packets with right checksums.
    struct Flow {
        is_v4: bool,
        protocol: u8,
        port: u8,
        sequence: u32,
        id: u16,
        options: usize,
    }

    impl Flow {
        fn new(is_v4: bool, protocol: u8, port: u8) -> Self {
            Self { is_v4, protocol, port, sequence: u32::MAX - 500, id: 0xfff0, options: 12 }
        }

        fn send(&mut self, payload: &[u8], flags: u8) -> Vec<u8> {
            let transport = if self.is_v4 { 20 } else { 40 };
            let is_tcp = self.protocol == PROTOCOL_TCP;
            let header = if is_tcp { 20 + self.options } else { 8 };
            let mut packet = vec![0; transport + header];
            packet.extend_from_slice(payload);
            let size = packet.len() as u16;
            if self.is_v4 {
                packet[..4].copy_from_slice(&[0x45, 2, (size >> 8) as u8, size as u8]);
                packet[4..6].copy_from_slice(&self.id.to_be_bytes());
                packet[8..20].copy_from_slice(&[64, self.protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
                let checksum = Sum::default().octets(&packet[..20]).checksum();
                packet[10..12].copy_from_slice(&checksum.to_be_bytes());
                self.id = self.id.wrapping_add(1);
            } else {
                packet[0] = 0x60;
                packet[4..6].copy_from_slice(&(size - 40).to_be_bytes());
                packet[6..8].copy_from_slice(&[self.protocol, 64]);
                packet[8..40].copy_from_slice(&[0xfd; 32]);
            }
            packet[transport + 1] = self.port;
            if is_tcp {
                packet[transport + 4..transport + 8].copy_from_slice(&self.sequence.to_be_bytes());
                packet[transport + 12..transport + 14].copy_from_slice(&[(header as u8 / 4) << 4, flags]);
                self.sequence = self.sequence.wrapping_add(payload.len() as u32);
            } else {
                packet[transport + 4..transport + 6]
                    .copy_from_slice(&(size - transport as u16).to_be_bytes());
            }
            fix_checksum(&mut packet);
            packet
        }
    }

    fn fix_checksum(packet: &mut [u8]) {
        let (transport, protocol) = if packet[0] >> 4 == 4 { (20, packet[9]) } else { (40, packet[6]) };
        let at = transport + if protocol == PROTOCOL_TCP { 16 } else { 6 };
        packet[at..at + 2].fill(0);
        let sum = pseudo_header_sum(packet, transport, protocol, packet.len()).octets(&packet[transport..]);
        packet[at..at + 2].copy_from_slice(&sum.checksum().to_be_bytes());
    }

    fn coalesce(packets: &[Vec<u8>]) -> Vec<(usize, Vec<u8>)> {
        let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
        let coalesced = Coalesced::new(&packets, BOTH);
        let write = |group: &Group| {
            let mut out = vec![0xee; group.written_size()];
            coalesced.write(group, &mut out);
            (group.count(), out)
        };
        coalesced.groups().iter().map(write).collect()
    }

    fn counts(packets: &[Vec<u8>]) -> Vec<usize> {
        coalesce(packets).into_iter().map(|(count, _)| count).collect()
    }

    fn split(octets: &[u8]) -> Vec<Vec<u8>> {
        let superpacket = Superpacket::parse(octets).expect("what was joined can be split");
        let segments = (0..superpacket.segment_count()).map(|number| {
            let mut out = vec![0; superpacket.segment_length(number)];
            superpacket.write_segment(number, &mut out);
            out
        });
        segments.collect()
    }

    #[test]
    fn segments_in_sequence_become_one_that_splits_into_them_again() {
        for (is_v4, protocol) in [(true, 6), (false, 6), (true, 17), (false, 17)] {
            let mut flow = Flow::new(is_v4, protocol, 1);
            let flags = |last: bool| if last && protocol == 6 { TCP_ACK | TCP_PSH } else { TCP_ACK };
            let packets: Vec<Vec<u8>> =
                (0..6).map(|i| flow.send(&vec![i; if i == 5 { 33 } else { 100 }], flags(i == 5))).collect();
            let written = coalesce(&packets);
            assert_eq!(written.len(), 1);
            assert_eq!(split(&written[0].1), packets, "IPv4 {is_v4}, protocol {protocol}");
        }
    }

    #[test]
    fn a_shorter_segment_or_a_push_ends_a_group() {
        let mut flow = Flow::new(true, 6, 1);
        let ack = TCP_ACK;
        let packets = [
            flow.send(&[1; 100], ack),
            flow.send(&[1; 90], ack),
            flow.send(&[1; 90], ack),
            flow.send(&[1; 90], ack | TCP_PSH),
            flow.send(&[1; 90], ack | TCP_PSH),
            flow.send(&[1; 90], ack),
            flow.send(&[1; 100], ack),
        ];
        assert_eq!(counts(&packets), [2, 2, 1, 1, 1]);
    }

    #[test]
    fn what_resegmentation_would_not_give_back_is_not_joined() {
        let change = |mutate: &dyn Fn(&mut Vec<u8>)| {
            let mut flow = Flow::new(true, 6, 1);
            let mut packets = [flow.send(&[1; 100], TCP_ACK), flow.send(&[2; 100], TCP_ACK)];
            mutate(&mut packets[1]);
            packets[1][10..12].fill(0);
            let checksum = Sum::default().octets(&packets[1][..20]).checksum();
            packets[1][10..12].copy_from_slice(&checksum.to_be_bytes());
            if packets[1].len() == 152 {
                fix_checksum(&mut packets[1]);
            }
            counts(&packets).len() == 1
        };
        assert!(change(&|_| {}));
        for (name, at) in [
            ("TOS", 1),
            ("identification", 5),
            ("TTL", 8),
            ("source address", 15),
            ("source port", 21),
            ("sequence", 27),
            ("acknowledged", 31),
            ("window", 35),
            ("an option", 45),
        ] {
            assert!(!change(&|packet| packet[at] ^= 1), "joined despite another {name}");
        }
        assert!(!change(&|packet| packet[6] |= 0x20), "a fragment");
        for flag in [0x01, 0x02, 0x04, 0x20, 0x40, 0x80] {
            assert!(!change(&|packet| packet[33] |= flag), "flag {flag:#x}");
        }
        assert!(!change(&|packet| packet.push(0)), "longer than it says");
    }

    #[test]
    fn a_wrong_checksum_is_handed_on_as_it_came() {
        for (is_v4, protocol) in [(true, 6), (false, 6), (true, 17), (false, 17)] {
            let mut flow = Flow::new(is_v4, protocol, 1);
            let mut packets: Vec<Vec<u8>> = (0..4).map(|i| flow.send(&[i; 100], TCP_ACK)).collect();
            let last = packets[2].len() - 1;
            packets[2][last] ^= 1;
            let written = coalesce(&packets);
            assert_eq!(written.iter().map(|(count, _)| *count).collect::<Vec<_>>(), [2, 1, 1]);
            assert_eq!(written[1].1[..10], [0; 10]);
            assert_eq!(written[1].1[10..], packets[2]);
        }
    }

    #[test]
    fn a_superpacket_keeps_within_an_ip_packet_and_64_datagrams() {
        let mut flow = Flow::new(true, 6, 1);
        let packets: Vec<Vec<u8>> = (0..60).map(|_| flow.send(&[7; 1368], TCP_ACK)).collect();
        assert_eq!(counts(&packets), [47, 13]);
        let mut flow = Flow::new(false, 17, 1);
        let packets: Vec<Vec<u8>> = (0..70).map(|_| flow.send(&[7; 10], 0)).collect();
        assert_eq!(counts(&packets), [64, 6]);
    }

    #[test]
    fn random_traffic_of_many_flows_comes_out_whole_and_in_order_within_each() {
        let mut random = Random::new(12);
        for _ in 0..300 {
            let mut flows: Vec<Flow> = (0..8)
                .map(|port| Flow::new(port & 1 == 0, if port & 2 == 0 { 6 } else { 17 }, port))
                .collect();
            let count = random.below(150) as usize;
            let mut packets: Vec<Vec<u8>> = Vec::new();
            for _ in 0..count {
                let flow = &mut flows[random.below(8) as usize];
                let size = if random.below(8) == 0 { random.below(120) } else { 100 };
                let flags = if random.below(8) == 0 { random.next() as u8 } else { TCP_ACK };
                let mut packet = flow.send(&vec![random.next() as u8; size as usize], flags);
                if random.below(20) == 0 {
                    let at = random.below(packet.len() as u64) as usize;
                    packet[at] ^= 1 << random.below(8);
                }
                packets.push(packet);
            }
            let written: Vec<Vec<u8>> =
                coalesce(&packets).iter().flat_map(|(_, octets)| split(octets)).collect();
            assert_eq!(written.len(), packets.len());
            let flow_of = |packet: &Vec<u8>| packet[..packet.len().min(44)].to_vec();
            let by_port = |packets: &[Vec<u8>]| {
                let mut flows: Vec<Vec<Vec<u8>>> = vec![Vec::new(); 16];
                for packet in packets {
                    let is_v4 = packet[0] == 0x45 && packet[12..20] == [10, 0, 0, 1, 10, 0, 0, 2];
                    let is_v6 = packet[0] == 0x60 && packet[8..40] == [0xfd; 32];
                    let at = if is_v4 { 21 } else { 41 };
                    if (is_v4 || is_v6) && packet[at] < 8 {
                        flows[packet[at] as usize + if is_v4 { 0 } else { 8 }].push(packet.clone());
                    }
                }
                flows
            };
            for (port, (got, sent)) in by_port(&written).iter().zip(by_port(&packets)).enumerate() {
                for (number, (got, sent)) in got.iter().zip(&sent).enumerate() {
                    assert_eq!(got, sent, "packet {number} of flow {port}");
                }
                assert_eq!(got.len(), sent.len());
            }
            let (mut sent, mut got): (Vec<_>, Vec<_>) =
                (packets.iter().map(flow_of).collect(), written.iter().map(flow_of).collect());
            sent.sort();
            got.sort();
            assert_eq!(sent, got);
        }
    }

    #[test]
    fn random_octets_do_no_harm() {
        let mut random = Random::new(13);
        for _ in 0..2000 {
            let mut flow = Flow::new(random.below(2) == 0, if random.below(2) == 0 { 6 } else { 17 }, 1);
            let packets: Vec<Vec<u8>> = (0..10)
                .map(|_| {
                    let mut packet = flow.send(&[1; 30], TCP_ACK);
                    let cut = random.below(packet.len() as u64 + 1) as usize;
                    if random.below(3) == 0 {
                        packet.truncate(cut);
                    }
                    if let Some(octet) = packet.get_mut(cut) {
                        *octet = random.next() as u8;
                    }
                    packet
                })
                .collect();
            let written = coalesce(&packets);
            assert_eq!(written.iter().map(|(count, _)| count).sum::<usize>(), packets.len());
        }
    }
}
