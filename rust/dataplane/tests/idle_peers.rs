//! What ten thousand idle peers cost, counted octet by octet at the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use wgpy_dataplane::allowed_ips::PeerId;
use wgpy_dataplane::engine::{Clock, Engine, NewSession, Origin, Signal, Tun, Udp};
use wgpy_dataplane::keypair::Established;

const PEERS: u32 = 10_000;
const KIB: usize = 1024;
/// What an allocator adds to each piece.
const OVERHEAD: usize = 16;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: all is the system's; counting touches no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() + OVERHEAD, Ordering::SeqCst);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() + OVERHEAD, Ordering::SeqCst);
        // SAFETY: the caller's.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct End;

impl Clock for End {
    fn now(&self) -> u64 {
        1_000_000_000_000
    }
}

impl Signal for End {
    fn raise(&self) {}
    fn clear(&self) {}
}

impl Udp for End {
    fn send(&self, run: &[u8], _: usize, _: SocketAddr, _: Option<&Origin>, _: u8) -> usize {
        run.len()
    }
}

impl Tun for End {
    fn write(&self, _: &[std::io::IoSlice<'_>]) -> std::io::Result<()> {
        Ok(())
    }
}

fn inner(number: u32) -> Ipv4Addr {
    Ipv4Addr::from((10 << 24) + number)
}

/// One test, for one allocator counts for all that run.
#[test]
fn ten_thousand_idle_peers_take_less_than_a_kib_each_and_leave_nothing() {
    let engine: Engine<End, End, End> = Engine::new(End, Box::new(End), 1 << 20);
    engine.set_udp(End, 51820, 64);
    let before = IN_USE.load(Ordering::SeqCst);
    let since = || (IN_USE.load(Ordering::SeqCst) - before) / PEERS as usize;

    let peers: Vec<PeerId> = (0..PEERS).map(|_| engine.add_peer().unwrap()).collect();
    for (&peer, number) in peers.iter().zip(0..) {
        let v6 = Ipv4Addr::to_ipv6_mapped(&inner(number));
        engine.add_allowed_ips(peer, &[(inner(number).into(), 32), (IpAddr::from(v6), 128)]);
        engine.set_endpoint(peer, Some((inner(number), 51820).into()));
    }
    let without_session = since();

    for (&peer, number) in peers.iter().zip(1..) {
        let local_index = engine.reserve_index(peer).unwrap();
        let created_at = End.now();
        let established =
            Established { local_index, remote_index: number, is_initiator: true, peer, created_at };
        engine.begin_session(NewSession { established, chaining_key: &[7; 32], response: None });
        assert!(engine.facts(peer).current.is_some());
    }
    let with_session = since();
    println!("octets a peer: {without_session} without a session, {with_session} with one");
    assert!(without_session < KIB, "{without_session} octets");
    // Of the two keys what the kernels take; the library's form, and the replay window, come with the first packet.
    assert!(with_session < 7 * KIB / 4, "{with_session} octets");

    peers.iter().for_each(|&peer| engine.remove_peer(peer));
    let left = since();
    assert!(left < 128, "tables that have grown keep some places, {left} octets a peer");
}
