//! What each step of a packet's way costs, on its own: `cargo bench -p wgpy-dataplane`. Each figure is the least of many
//! samples, which other programs do not lengthen.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use wgpy_dataplane::allowed_ips::AllowedIps;
use wgpy_dataplane::checksum::Sum;
use wgpy_dataplane::coalesce::{Coalesced, JoinedHeader, Protocols};
use wgpy_dataplane::keypair::{Established, Keypair};
use wgpy_dataplane::receive::{Outcome, open_datagrams};
use wgpy_dataplane::replay::ReplayWindow;
use wgpy_dataplane::send::Plan;
use wgpy_dataplane::superpacket::Superpacket;
use wgpy_dataplane::virtio::{GSO_TCPV4, NEEDS_CHECKSUM, VirtioHeader};

const MTU: usize = 1420;
const SEGMENT: usize = 1380;
const SEGMENTS: usize = 45;

/// The least of the times that `work` takes, by what it is done to.
fn measure(what: &str, unit: &str, units: usize, mut work: impl FnMut()) {
    let mut least = f64::INFINITY;
    for _ in 0..200 {
        let started = Instant::now();
        work();
        least = least.min(started.elapsed().as_nanos() as f64);
    }
    println!("{what:<52} {:>9.1} ns a {unit}", least / units as f64);
}

/// A TCP superpacket as the kernel hands it over: no checksums, one header.
fn superpacket() -> Vec<u8> {
    let mut packet = vec![0; 40 + SEGMENTS * SEGMENT];
    let length = packet.len() as u16;
    packet[..10].copy_from_slice(&[0x45, 0, (length >> 8) as u8, length as u8, 0, 1, 0x40, 0, 64, 6]);
    packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    packet[32..34].copy_from_slice(&[5 << 4, 0x10]);
    let pseudo = Sum::default().octets(&packet[12..20]).number(6).number(length - 20);
    packet[36..38].copy_from_slice(&pseudo.folded().to_be_bytes());
    let header = VirtioHeader {
        flags: NEEDS_CHECKSUM,
        gso_type: GSO_TCPV4,
        header_length: 40,
        gso_size: SEGMENT as u16,
        checksum_start: 20,
        checksum_offset: 16,
    };
    [&header.encode()[..], &packet].concat()
}

fn keypair(is_initiator: bool) -> Keypair {
    let established = Established { local_index: 1, remote_index: 2, is_initiator, peer: 7, created_at: 0 };
    Keypair::new(&[1; 32], established)
}

fn main() {
    let octets = superpacket();
    let parsed = || Superpacket::parse(&octets).expect("it is consistent");
    let mut segments = Vec::new();
    measure("split a superpacket, headers and checksums", "segment", SEGMENTS, || {
        let superpacket = parsed();
        let segment = |number| {
            let mut segment = vec![0; superpacket.segment_length(number)];
            superpacket.write_segment(number, &mut segment);
            segment
        };
        segments = (0..superpacket.segment_count()).map(segment).collect();
    });

    let (sender, receiver) = (keypair(true), keypair(false));
    let mut run = vec![0; 1 << 17];
    // Seals the superpacket; `sent` gets each run and the size of its datagrams.
    let mut seal = |sent: &mut dyn FnMut(&[u8], usize)| {
        let plan = Plan::new([parsed()], MTU, 64);
        let first = sender.reserve_counters(plan.message_count(), 0).expect("few were sealed");
        for part in plan.runs() {
            let out = &mut run[..part.size];
            plan.write(part, 2, first, out);
            assert!(sender.seal_run(first + part.first as u64, out, part.segment_size));
            sent(out, part.segment_size);
        }
    };
    measure("split and seal, as the way out does", "segment", SEGMENTS, || {
        seal(&mut |out, _| _ = black_box(out));
    });
    let mut sealed = Vec::new();
    seal(&mut |out, size| sealed.push((out.to_vec(), size)));
    let mut allowed_ips = AllowedIps::default();
    allowed_ips.insert(7, IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8);
    // Once opened, they are replays; what comes before that answer is the same.
    measure("open, as the way in does", "datagram", SEGMENTS, || {
        for (datagrams, size) in &sealed {
            run[..datagrams.len()].copy_from_slice(datagrams);
            let datagrams = run[..datagrams.len()].chunks_mut(*size);
            let opened = open_datagrams(&receiver, datagrams, Some(&allowed_ips), 0, 0);
            assert!(opened.iter().all(|opened| matches!(opened.outcome, Outcome::Data | Outcome::Replayed)));
        }
    });

    let packets: Vec<&[u8]> = segments.iter().map(|segment| &segment[..]).collect();
    measure("coalesce segments, by reference", "segment", SEGMENTS, || {
        let joined = Coalesced::new(&packets, Protocols { tcp: true, udp: true });
        assert!(joined.groups().len() <= 2);
        for group in joined.groups() {
            black_box(joined.write_header(group, &mut JoinedHeader::default()));
        }
    });

    for prefixes in [10, 1_000, 100_000_u32] {
        let mut table = AllowedIps::default();
        (0..prefixes).for_each(|i| table.insert(i, IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + (i << 4))), 28));
        let address = |i: u32| {
            IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + ((i.wrapping_mul(0x9e37_79b9) % prefixes) << 4)))
        };
        measure(&format!("look an address up among {prefixes} prefixes"), "lookup", 1000, || {
            (0..1000).for_each(|i| assert!(table.lookup(black_box(address(i))).is_some()));
        });
    }

    let (mut window, mut counter) = (ReplayWindow::default(), 0);
    measure("check and set a counter in order", "counter", 1000, || {
        for _ in 0..1000 {
            assert!(window.check_and_set(black_box(counter)));
            counter += 1;
        }
    });
}
