//! Superpackets split, segments joined, both sealed and opened.

use wgpy_dataplane::checksum::Sum;
use wgpy_dataplane::coalesce::{Coalesced, Protocols};
use wgpy_dataplane::keypair::{Established, Keypair};
use wgpy_dataplane::message::transport_size;
use wgpy_dataplane::receive::{Outcome, open_datagrams};
use wgpy_dataplane::send::{MAX_RUN_SIZE, Plan};
use wgpy_dataplane::superpacket::Superpacket;

use crate::input::Input;

const TCP: u8 = 6;
const UDP: u8 = 17;
const MOST_PACKETS: usize = 64;
const MOST_PAYLOAD: u16 = 1500;

/// The segments of a packet behind its virtio header; none when the two contradict each other.
pub fn split(octets: &[u8]) -> Vec<Vec<u8>> {
    let Some(superpacket) = Superpacket::parse(octets) else { return Vec::new() };
    let segments = (0..superpacket.segment_count()).map(|number| {
        let mut out = vec![0xee; superpacket.segment_length(number)];
        superpacket.write_segment(number, &mut out);
        out
    });
    segments.collect()
}

/// Without what segmentation may choose: the identification where nothing may be fragmented, and which of the
/// two zeros of ones' complement a checksum is.
fn normal(mut packet: Vec<u8>) -> Vec<u8> {
    let one_zero = |packet: &mut [u8], at: usize| {
        if packet.get(at..at + 2) == Some(&[0xff; 2]) {
            packet[at..at + 2].fill(0);
        }
    };
    let (transport, protocol) = match packet.first() {
        Some(0x45) if packet.len() >= 20 => {
            if packet[6] & 0x40 != 0 {
                packet[4..6].fill(0);
                packet[10..12].fill(0);
            }
            one_zero(&mut packet, 10);
            (20, packet[9])
        }
        Some(0x60..=0x6f) if packet.len() >= 40 => (40, packet[6]),
        _ => return packet,
    };
    one_zero(&mut packet, transport + if protocol == TCP { 16 } else { 6 });
    packet
}

fn joined_and_split(packets: &[&[u8]], protocols: Protocols) -> Vec<Vec<u8>> {
    let coalesced = Coalesced::new(packets, protocols);
    let count: usize = coalesced.groups().iter().map(|group| group.count()).sum();
    assert_eq!(count, packets.len(), "each packet is in one group");
    let mut again = Vec::new();
    for group in coalesced.groups() {
        let mut out = vec![0xee; group.written_size()];
        coalesced.write(group, &mut out);
        let segments: Vec<Vec<u8>> = split(&out).into_iter().map(normal).collect();
        let packets: Vec<Vec<u8>> =
            coalesced.packets_of(group).map(|packet| normal(packet.to_vec())).collect();
        assert_eq!(segments, packets, "what was joined splits into the same");
        again.extend(segments);
    }
    again
}

/// A packet of one of a few flows, with right checksums unless one is spoiled.
fn packet(input: &mut Input<'_>, sequences: &mut [(u32, u16); 8]) -> Vec<u8> {
    let (kind, flags) = (input.octet(), input.octet());
    let payload = usize::from(input.number() % MOST_PAYLOAD);
    let (is_v4, protocol, flow) =
        (kind & 1 == 0, if kind & 2 == 0 { TCP } else { UDP }, usize::from(kind >> 2 & 7));
    let (transport, header) = (if is_v4 { 20 } else { 40 }, if protocol == TCP { 20 } else { 8 });
    let (sequence, id) = &mut sequences[flow];
    let mut packet = vec![flow as u8; transport + header + payload];
    let size = packet.len() as u16;
    packet[..transport + header].fill(0);
    if is_v4 {
        packet[..4].copy_from_slice(&[0x45, 0, (size >> 8) as u8, size as u8]);
        packet[4..6].copy_from_slice(&id.to_be_bytes());
        packet[6] = kind & 0x40;
        packet[8..20].copy_from_slice(&[64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        let checksum = Sum::default().octets(&packet[..20]).checksum();
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        *id = id.wrapping_add(1);
    } else {
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&(size - 40).to_be_bytes());
        packet[6..8].copy_from_slice(&[protocol, 64]);
        packet[8..40].fill(0xfd);
    }
    packet[transport + 1] = flow as u8;
    let at = if protocol == TCP {
        packet[transport + 4..transport + 8].copy_from_slice(&sequence.to_be_bytes());
        packet[transport + 12..transport + 14].copy_from_slice(&[5 << 4, flags & 0x3f | 0x10]);
        *sequence = sequence.wrapping_add(payload as u32);
        transport + 16
    } else {
        packet[transport + 4..transport + 6].copy_from_slice(&(size - transport as u16).to_be_bytes());
        transport + 6
    };
    let addresses = if is_v4 { 12..20 } else { 8..40 };
    let pseudo =
        Sum::default().octets(&packet[addresses]).number(protocol.into()).number(size - transport as u16);
    let checksum = pseudo.octets(&packet[transport..]).checksum();
    packet[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    if kind & 0x80 != 0 {
        let place = usize::from(input.number()) % packet.len();
        packet[place] ^= flags | 1;
    }
    packet
}

/// Packets of flows, and of any octets, joined as the TUN takes them, split into the same; a superpacket of
/// any octets split, and its segments joined and split again.
pub fn split_coalesce(data: &[u8]) {
    let mut input = Input(data);
    let choice = input.octet();
    let protocols = Protocols { tcp: choice & 1 == 0, udp: choice & 2 == 0 };
    let mut sequences = [(u32::MAX - 2000, 0xfff0); 8];
    let mut packets = Vec::new();
    if choice & 4 == 0 {
        while !input.is_empty() && packets.len() < MOST_PACKETS {
            packets.push(packet(&mut input, &mut sequences));
        }
    } else if choice & 8 == 0 {
        packets = split(input.0);
    } else {
        while !input.is_empty() && packets.len() < MOST_PACKETS {
            let length = usize::from(input.number() % MOST_PAYLOAD);
            packets.push(input.octets(length).to_vec());
        }
    }
    let given: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    let mut again = joined_and_split(&given, protocols);
    again.sort();
    packets = packets.into_iter().map(normal).collect();
    packets.sort();
    assert_eq!(again, packets);
}

/// A pair of keypairs that are each other's; `created_at` and the peer are zero.
pub fn keypairs(indices: [u32; 2]) -> [Keypair; 2] {
    let established = |local_index, remote_index, is_initiator| Established {
        local_index,
        remote_index,
        is_initiator,
        peer: 0,
        created_at: 0,
    };
    let [one, two] = indices;
    [(one, two, true), (two, one, false)]
        .map(|(local, remote, is_initiator)| Keypair::new(&[5; 32], established(local, remote, is_initiator)))
}

/// The length that a packet's header says.
fn said_length(packet: &[u8]) -> usize {
    let number = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    if packet[0] >> 4 == 4 { number(2) } else { 40 + number(4) }
}

/// Packets laid out, sealed, opened: what comes out is what went in, in order, and nothing opens twice.
pub fn seal_open(data: &[u8]) {
    let mut input = Input(data);
    let (mtu, max_segments) = (usize::from(input.number()), usize::from(input.octet()));
    let mut sequences = [(1, 1); 8];
    let mut packets = Vec::new();
    while !input.is_empty() && packets.len() < MOST_PACKETS {
        packets.push(packet(&mut input, &mut sequences));
    }
    let [sender, receiver] = keypairs([1, 2]);
    let plan = Plan::new(packets.iter().map(|packet| Superpacket::whole(packet)), mtu, max_segments);
    assert_eq!(plan.message_count(), packets.len());
    let first = sender.reserve_counters(plan.message_count(), 0).expect("few were sealed");
    let mut opened = Vec::new();
    for run in plan.runs() {
        assert!(run.count <= max_segments.max(1) && (run.count == 1 || run.size <= MAX_RUN_SIZE));
        let mut out = vec![0xee; run.size];
        plan.write(run, 2, first, &mut out);
        assert!(sender.seal_run(first + run.first as u64, &mut out, run.segment_size));
        let open = |run_of: &mut [u8]| {
            open_datagrams(&receiver, run_of.chunks_mut(run.segment_size.max(1)), None, 0, 0)
        };
        let sealed = out.clone();
        for (i, datagram) in open(&mut out).into_iter().enumerate() {
            let inside = &out[i * run.segment_size..][datagram.packet];
            let packet = &packets[opened.len()];
            assert_eq!(datagram.size, transport_size(packet.len(), mtu));
            match datagram.outcome {
                // A spoiled octet may be that of the length, or of the version.
                Outcome::Data if packet.len() == said_length(packet) => {
                    assert_eq!(inside, &packet[..]);
                }
                // Then it is cut, or has some of its padding.
                Outcome::Data => {
                    let common = packet.len().min(inside.len());
                    assert_eq!(inside[..common], packet[..common]);
                }
                Outcome::Control | Outcome::Malformed => {}
                other => panic!("{other:?}"),
            }
            opened.push(datagram.outcome);
        }
        let again = open(&mut sealed.clone());
        assert!(again.iter().all(|datagram| datagram.outcome == Outcome::Replayed));
        let mut forged = sealed;
        let place = first as usize % forged.len().min(16) + 16;
        forged[place] ^= 1;
        assert_ne!(open(&mut forged)[0].outcome, Outcome::Data);
    }
    assert_eq!(opened.len(), packets.len());
}
