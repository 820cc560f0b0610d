//! The engine between ends in memory, on a clock that is set by hand.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use blake2::Blake2sMac;
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};

use super::*;
use crate::aead::ChaCha20Poly1305;
use crate::keypair::Established;
use crate::message::{
    HEADER_SIZE, REJECT_AFTER_MESSAGES, TAG_SIZE, counter_untrusted, padded_length, receiver_index_untrusted,
};
use crate::xchacha::derive_subkey;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1000 * SECOND;
pub(crate) const MAC1_KEY: [u8; 32] = [1; 32];
const COOKIE_KEY: [u8; 32] = [2; 32];

/// A datagram that left: its octets, where to, from where, TOS.
type Sent = (Vec<u8>, SocketAddr, Option<Origin>, u8);

#[derive(Default)]
struct World {
    now: AtomicU64,
    sent: Mutex<Vec<Sent>>,
    written: Mutex<Vec<Vec<u8>>>,
    is_signalled: AtomicBool,
    refuses_sends: AtomicBool,
    refuses_superpackets: AtomicBool,
}

#[derive(Clone)]
struct End(Arc<World>);

impl Clock for End {
    fn now(&self) -> u64 {
        self.0.now.load(Ordering::SeqCst)
    }
}

impl Udp for End {
    fn send(
        &self,
        run: &[u8],
        segment_size: usize,
        to: SocketAddr,
        source: Option<&Origin>,
        tos: u8,
    ) -> usize {
        if self.0.refuses_sends.load(Ordering::SeqCst) {
            return 0;
        }
        let datagrams = run.chunks(segment_size).map(|each| (each.to_vec(), to, source.copied(), tos));
        self.0.sent.lock().unwrap().extend(datagrams);
        run.len()
    }
}

impl Tun for End {
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        if parts.len() > 2 && self.0.refuses_superpackets.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        self.0.written.lock().unwrap().push(parts.iter().flat_map(|part| part.to_vec()).collect());
        Ok(())
    }
}

impl Signal for End {
    fn raise(&self) {
        assert!(!self.0.is_signalled.swap(true, Ordering::SeqCst), "raised twice");
    }

    fn clear(&self) {
        assert!(self.0.is_signalled.swap(false, Ordering::SeqCst), "cleared twice");
    }
}

/// The other end of a session.
struct Far {
    keypair: Keypair,
    local_index: u32,
}

struct Bench {
    world: Arc<World>,
    engine: Engine<End, End, End>,
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, number], 51820))
}

fn origin(number: u8) -> Origin {
    Origin { remote: address(number), local: Some(IpAddr::from([192, 0, 2, 1])), interface_index: 2 }
}

fn packet(from: [u8; 4], to: [u8; 4], length: usize) -> Vec<u8> {
    let mut packet = vec![0; length];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    packet[12..16].copy_from_slice(&from);
    packet[16..20].copy_from_slice(&to);
    packet
}

const HERE: [u8; 4] = [10, 0, 0, 1];
const THERE: [u8; 4] = [10, 0, 0, 2];

impl Bench {
    fn new() -> Self {
        let world = Arc::new(World::default());
        world.now.store(START, Ordering::SeqCst);
        let end = End(world.clone());
        let engine = Engine::new(end.clone(), Box::new(end.clone()), 1 << 20);
        engine.set_udp(end.clone(), 51820, 64);
        engine.write().tun = Some(end);
        Self { world, engine }
    }

    fn advance(&self, seconds: u64) {
        self.world.now.fetch_add(seconds * SECOND, Ordering::SeqCst);
    }

    fn peer(&self, prefix: [u8; 4], length: u8) -> PeerId {
        let peer = self.engine.add_peer().unwrap();
        self.engine.add_allowed_ips(peer, &[(prefix.into(), length)]);
        self.engine.set_endpoint(peer, Some(address(1)));
        peer
    }

    fn session(&self, peer: PeerId, is_initiator: bool) -> Far {
        let local_index = self.engine.reserve_index(peer).unwrap();
        let created_at = self.world.now.load(Ordering::SeqCst);
        let remote_index = !local_index;
        let established = Established { local_index, remote_index, is_initiator, peer, created_at };
        let response = (!is_initiator).then_some(&[0u8; 92][..]);
        self.engine.begin_session(NewSession { established, chaining_key: &[7; 32], response });
        let established = Established {
            local_index: remote_index,
            remote_index: local_index,
            is_initiator: !is_initiator,
            peer: 0,
            // The far end never tires.
            created_at: u64::MAX,
        };
        Far { keypair: Keypair::new(&[7; 32], established), local_index }
    }

    fn arrives(&self, datagram: &[u8], number: u8) {
        self.arrive_together(datagram, datagram.len(), number);
    }

    fn arrive_together(&self, datagrams: &[u8], segment_size: usize, number: u8) {
        let received = Received { length: datagrams.len(), segment_size, origin: origin(number), tos: 0 };
        self.engine.received(self.engine.read(), &mut datagrams.to_vec(), &received);
    }

    fn host_sends(&self, packets: &[Vec<u8>]) {
        let mut buffer = Vec::new();
        let mut spans = Vec::new();
        for packet in packets {
            spans.push(buffer.len()..buffer.len() + packet.len());
            buffer.extend_from_slice(packet);
        }
        self.engine.host_sent(&self.engine.read(), &buffer, &spans, &mut Outbox::new());
    }

    fn departed(&self) -> Vec<Sent> {
        std::mem::take(&mut *self.world.sent.lock().unwrap())
    }

    fn host_got(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.world.written.lock().unwrap())
    }

    /// All work for a peer.
    fn work(&self, peer: PeerId) -> u8 {
        let mut all = 0;
        for event in self.engine.events.drain() {
            match event {
                Event::PeerWork { peer: whose, bits, .. } if whose == peer => all |= bits,
                _ => {}
            }
        }
        all
    }

    fn dropped(&self, reason: Drop) -> u64 {
        self.engine.drops.counts().nth(reason as usize).unwrap().1
    }
}

impl Far {
    fn seal(&self, packet: &[u8]) -> Vec<u8> {
        let counter = self.keypair.reserve_counters(1, 0).unwrap();
        let mut message = vec![0; HEADER_SIZE + padded_length(packet.len(), 0) + TAG_SIZE];
        crate::message::write_header(&mut message, self.local_index, counter);
        message[HEADER_SIZE..HEADER_SIZE + packet.len()].copy_from_slice(packet);
        let size = message.len();
        assert!(self.keypair.seal_run(counter, &mut message, size));
        message
    }

    /// What the engine sealed for us, opened.
    fn open(&self, sent: &[Sent]) -> Vec<Vec<u8>> {
        let ours = sent.iter().filter(|each| receiver_index_untrusted(&each.0) == Some(!self.local_index));
        let opened = ours.map(|(message, ..)| {
            let mut message = message.clone();
            assert!(self.keypair.receiver(0).unwrap().open(counter_untrusted(&message), &mut message[16..]));
            message[16..message.len() - TAG_SIZE].to_vec()
        });
        opened.collect()
    }
}

fn mac(key: &[u8], data: &[u8]) -> [u8; 16] {
    let mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(key).unwrap();
    mac.chain_update(data).finalize().into_bytes().into()
}

/// An initiation with a right mac1, and a mac2 when there is a cookie.
pub(crate) fn initiation(cookie: Option<&[u8]>) -> Vec<u8> {
    let mut message = vec![0; 148];
    message[0] = 1;
    message[4] = 9;
    let mac1 = mac(&MAC1_KEY, &message[..116]);
    message[116..132].copy_from_slice(&mac1);
    if let Some(cookie) = cookie {
        let mac2 = mac(cookie, &message[..132]);
        message[132..].copy_from_slice(&mac2);
    }
    message
}

fn open_cookie(reply: &[u8], mac1: &[u8]) -> Vec<u8> {
    assert_eq!((reply.len(), reply[..4].to_vec()), (64, vec![3, 0, 0, 0]));
    let subkey = derive_subkey(&COOKIE_KEY, reply[8..24].try_into().unwrap());
    let counter = u64::from_le_bytes(reply[24..32].try_into().unwrap());
    let mut sealed = reply[32..].to_vec();
    assert!(ChaCha20Poly1305::new(&subkey).open(counter, mac1, &mut sealed));
    sealed[..16].to_vec()
}

#[test]
fn time_ends_a_keypair_both_ways_and_asks_for_the_next_before() {
    let bench = Bench::new();
    let peer = bench.peer(THERE, 32);
    let far = bench.session(peer, true);
    bench.departed();
    let (out, back) = (packet(HERE, THERE, 100), packet(THERE, HERE, 100));
    for (seconds, sends, receives, bits) in [
        (0, true, true, 0),
        (119, true, true, 0),
        (120, true, true, work::REKEY_SEND),
        (164, true, true, 0),
        (165, true, true, work::REKEY_RECEIVE),
        (179, true, true, 0),
        (180, false, false, work::NEED_KEY),
        (540, false, false, work::NEED_KEY),
    ] {
        bench.world.now.store(START + seconds * SECOND, Ordering::SeqCst);
        let mut asked = 0;
        bench.host_sends(std::slice::from_ref(&out));
        assert_eq!(far.open(&bench.departed()).len(), usize::from(sends), "{seconds} s");
        asked |= bench.work(peer);
        bench.arrives(&far.seal(&back), 1);
        assert_eq!(bench.host_got().len(), usize::from(receives), "{seconds} s");
        asked |= bench.work(peer);
        assert_eq!(asked & !work::ENDPOINT, bits, "{seconds} s");
    }
    assert_eq!(bench.dropped(Drop::Expired), 2);
}

#[test]
fn the_last_counters_are_never_sent_and_what_does_not_fit_is_staged() {
    let bench = Bench::new();
    let peer = bench.peer(THERE, 32);
    let far = bench.session(peer, true);
    bench.departed();
    bench.engine.skip_counters(far.local_index, REJECT_AFTER_MESSAGES - 1);
    let out = packet(HERE, THERE, 100);
    bench.host_sends(&[out.clone(), out.clone()]);
    assert!(bench.departed().is_empty());
    assert_eq!((bench.engine.facts(peer).staged, bench.work(peer)), (2, work::NEED_KEY));
    let next = bench.session(peer, true);
    assert_eq!(next.open(&bench.departed()).len(), 2);
    assert_eq!(bench.engine.facts(peer).staged, 0);
}

#[test]
fn under_load_a_cookie_is_asked_for_and_the_hold_lasts_a_second() {
    let bench = Bench::new();
    bench.engine.set_identity(Some((&MAC1_KEY, &COOKIE_KEY)));
    let message = initiation(None);
    for _ in 0..512 {
        bench.arrives(&message, 1);
    }
    assert!(bench.departed().is_empty(), "an eighth is not full when each of these comes");
    bench.arrives(&message, 1);
    let [(reply, to, source, tos)] = &bench.departed()[..] else { panic!("one cookie reply") };
    assert_eq!((*to, *source, *tos), (address(1), Some(origin(1)), 0));
    let cookie = open_cookie(reply, &message[116..132]);
    let proven = initiation(Some(&cookie));
    for _ in 0..7 {
        bench.arrives(&proven, 1);
    }
    assert_eq!(bench.engine.events.handshake_depth(), 512 + 5, "five at once");
    assert_eq!(bench.dropped(Drop::RateLimited), 2);
    bench.arrives(&proven, 2);
    assert_eq!(bench.departed().len(), 1, "a cookie is worth nothing from another address");
    while bench.engine.events.handshake_depth() > 0 {
        let _ = bench.engine.events.drain();
    }
    bench.world.now.fetch_add(SECOND - 1, Ordering::SeqCst);
    bench.arrives(&message, 1);
    assert_eq!(bench.departed().len(), 1, "the hold");
    bench.world.now.fetch_add(1, Ordering::SeqCst);
    bench.arrives(&message, 1);
    assert_eq!((bench.departed().len(), bench.engine.events.handshake_depth()), (0, 1));
    // The secret is another after two minutes.
    bench.advance(120);
    for _ in 0..512 {
        bench.arrives(&message, 1);
    }
    bench.arrives(&proven, 1);
    assert_eq!(bench.departed().len(), 2, "the old cookie proves nothing any more");
}

#[test]
fn the_handshake_queue_is_bounded_and_given_out_bit_by_bit() {
    let bench = Bench::new();
    bench.engine.set_identity(Some((&MAC1_KEY, &COOKIE_KEY)));
    let peer = bench.peer(THERE, 32);
    let index = bench.engine.reserve_index(peer).unwrap();
    // Cookie replies are not subject to the load, so they fill the queue.
    let mut reply = [0; 64];
    reply[0] = 3;
    reply[4..8].copy_from_slice(&index.to_le_bytes());
    for _ in 0..4100 {
        bench.arrives(&reply, 1);
    }
    assert_eq!((bench.engine.events.handshake_depth(), bench.dropped(Drop::QueueFull)), (4096, 4));
    bench.host_sends(&[packet(HERE, THERE, 60)]);
    let events = bench.engine.events.drain();
    assert_eq!(events.len(), 17, "the work passes the queue by");
    assert!(bench.world.is_signalled.load(Ordering::SeqCst));
    bench.engine.set_identity(None);
    assert!(bench.engine.events.drain().is_empty());
    assert!(!bench.world.is_signalled.load(Ordering::SeqCst));
}

#[test]
fn a_response_for_a_sessions_index_and_unknown_indices_are_dropped() {
    let bench = Bench::new();
    bench.engine.set_identity(Some((&MAC1_KEY, &COOKIE_KEY)));
    let far = bench.session(bench.peer(THERE, 32), true);
    for index in [far.local_index, far.local_index ^ 1] {
        let mut response = vec![0; 92];
        response[0] = 2;
        response[8..12].copy_from_slice(&index.to_le_bytes());
        let mac1 = mac(&MAC1_KEY, &response[..60]);
        response[60..76].copy_from_slice(&mac1);
        bench.arrives(&response, 1);
    }
    assert_eq!((bench.engine.events.handshake_depth(), bench.dropped(Drop::UnknownIndex)), (0, 2));
}

#[test]
fn confirming_a_responders_keypair_sends_what_is_staged_in_the_same_step() {
    let bench = Bench::new();
    let peer = bench.peer(THERE, 32);
    let out: Vec<_> = (60..70).map(|length| packet(HERE, THERE, length)).collect();
    bench.host_sends(&out);
    let far = bench.session(peer, false);
    assert_eq!(bench.departed().iter().map(|sent| (sent.0.len(), sent.3)).collect::<Vec<_>>(), [(92, 0x88)]);
    let _ = bench.engine.events.drain();
    bench.arrives(&far.seal(&[]), 3);
    let sent = bench.departed();
    assert!(sent.iter().all(|each| each.1 == address(3) && each.2 == Some(origin(3))), "where it came from");
    let lengths: Vec<usize> = far.open(&sent).iter().map(|packet| usize::from(packet[3])).collect();
    assert_eq!(lengths, (60..70).collect::<Vec<_>>());
    let events = bench.engine.events.drain();
    assert_eq!(
        events,
        [Event::PeerWork {
            peer,
            bits: work::CONFIRMED | work::ENDPOINT,
            confirmed_index: Some(far.local_index),
            endpoint: Some(address(3)),
        }]
    );
}

#[test]
fn a_source_is_sticky_until_it_is_forgotten() {
    let bench = Bench::new();
    let peer = bench.peer(THERE, 32);
    let far = bench.session(peer, true);
    let source = || {
        bench.departed();
        bench.engine.send_keepalive(peer);
        bench.departed()[0].2
    };
    assert_eq!(source(), None);
    for forget in [
        &(|| bench.engine.forget_source(Some(peer))) as &dyn Fn(),
        &|| bench.engine.forget_source(None),
        &|| bench.engine.set_endpoint(peer, Some(address(1))),
    ] {
        bench.arrives(&far.seal(&[]), 1);
        assert_eq!(source(), Some(origin(1)));
        forget();
        assert_eq!(source(), None);
    }
}

#[test]
fn facts_hold_the_first_instant_and_are_cleared_by_the_other_direction() {
    let bench = Bench::new();
    let peer = bench.peer(THERE, 32);
    let far = bench.session(peer, true);
    let data = || {
        let facts = bench.engine.facts(peer);
        let since = |at: Option<u64>| at.map(|at| (at - START) / SECOND);
        (since(facts.data_sent_first), since(facts.data_received_first), since(facts.data_received_last))
    };
    let (out, back) = (packet(HERE, THERE, 100), packet(THERE, HERE, 100));
    bench.engine.watch(peer, fact::DATA_SENT);
    for _ in 0..2 {
        bench.advance(1);
        bench.host_sends(std::slice::from_ref(&out));
    }
    assert_eq!((data(), bench.work(peer)), ((Some(1), None, None), work::FACT));
    for _ in 0..2 {
        bench.advance(1);
        bench.arrives(&far.seal(&back), 1);
    }
    assert_eq!(data(), (None, Some(3), Some(4)));
    bench.engine.watch(peer, fact::DATA_RECEIVED);
    assert_eq!(bench.work(peer) & work::FACT, work::FACT, "at once");
    bench.engine.send_keepalive(peer);
    assert_eq!(data(), (None, None, None));
    bench.world.refuses_sends.store(true, Ordering::SeqCst);
    let before = bench.engine.snapshot();
    bench.host_sends(std::slice::from_ref(&out));
    assert_eq!(
        (data(), bench.engine.snapshot()),
        ((None, None, None), before),
        "what did not leave is not sent"
    );
}

#[test]
fn datagrams_received_together_become_one_superpacket_or_single_ones_when_the_host_refuses_it() {
    let bench = Bench::new();
    bench.engine.write().vnet_hdr = true;
    let far = bench.session(bench.peer([0; 4], 0), true);
    let flow: Vec<Vec<u8>> = (0..5u16)
        .map(|number| {
            let mut packet = packet(THERE, HERE, 128);
            packet[5] = number as u8;
            packet[8..10].copy_from_slice(&[64, 17]);
            packet[24..26].copy_from_slice(&108u16.to_be_bytes());
            packet[30] = number as u8;
            let pseudo = crate::checksum::Sum::default().octets(&packet[12..20]).number(17).number(108);
            let sum = pseudo.octets(&packet[20..]).checksum();
            packet[26..28].copy_from_slice(&sum.to_be_bytes());
            let sum = crate::checksum::Sum::default().octets(&packet[..20]).checksum();
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            packet
        })
        .collect();
    let together = || flow.iter().flat_map(|packet| far.seal(packet)).collect::<Vec<u8>>();
    let size = far.seal(&flow[0]).len();
    bench.arrive_together(&together(), size, 1);
    let [superpacket] = &bench.host_got()[..] else { panic!("one write") };
    let parsed = crate::superpacket::Superpacket::parse(superpacket).unwrap();
    let segments = (0..parsed.segment_count()).map(|number| {
        let mut segment = vec![0; parsed.segment_length(number)];
        parsed.write_segment(number, &mut segment);
        segment
    });
    assert_eq!(segments.collect::<Vec<_>>(), flow);

    bench.world.refuses_superpackets.store(true, Ordering::SeqCst);
    let singles: Vec<Vec<u8>> = flow.iter().map(|packet| [&[0; 10][..], packet].concat()).collect();
    for _ in 0..2 {
        bench.arrive_together(&together(), size, 1);
        assert_eq!(bench.host_got(), singles);
        assert!(bench.engine.splits_writes(), "not tried again");
    }
}

#[test]
fn a_batch_for_several_peers_goes_to_each_in_order() {
    let bench = Bench::new();
    let ends: Vec<Far> =
        (0..3).map(|number| bench.session(bench.peer([10, 0, number, 0], 24), true)).collect();
    bench.departed();
    let packets: Vec<_> =
        (0..30).map(|number| packet(HERE, [10, 0, number % 3, 9], 60 + usize::from(number))).collect();
    bench.host_sends(&packets);
    let sent = bench.departed();
    for (number, far) in ends.iter().enumerate() {
        let lengths: Vec<usize> = far.open(&sent).iter().map(|packet| usize::from(packet[3])).collect();
        assert_eq!(lengths, (0..10).map(|step| 60 + number + 3 * step).collect::<Vec<_>>());
    }
}

#[test]
fn unreachable_answers_to_one_source_are_limited_and_our_own_messages_do_not_go_round() {
    let bench = Bench::new();
    bench.host_sends(&vec![packet(HERE, [10, 7, 0, 9], 60); 100]);
    assert_eq!((bench.host_got().len(), bench.dropped(Drop::NoPeer)), (5, 100));
    let far = bench.session(bench.peer([0; 4], 0), true);
    bench.departed();
    let mut looped = packet(HERE, [198, 51, 100, 1], 60);
    looped[9] = 17;
    looped[20..22].copy_from_slice(&51820u16.to_be_bytes());
    looped[28] = 4;
    looped[32..36].copy_from_slice(&(!far.local_index).to_le_bytes());
    let mut innocent = looped.clone();
    innocent[32] ^= 1;
    bench.host_sends(&[looped, innocent]);
    assert_eq!((bench.departed().len(), bench.dropped(Drop::Loop)), (1, 1));
}

#[test]
fn a_removed_peer_leaves_nothing_behind() {
    let bench = Bench::new();
    let peers: Vec<PeerId> = (0..100).map(|_| bench.peer(THERE, 32)).collect();
    for &peer in &peers {
        bench.session(peer, true);
        bench.session(peer, false);
        bench.engine.reserve_index(peer).unwrap();
        bench.engine.send_keepalive(peer);
    }
    for &peer in &peers {
        bench.engine.remove_peer(peer);
        assert_eq!(bench.engine.facts(peer), Facts::default());
    }
    let tables = bench.engine.read();
    assert!(tables.peers.is_empty() && tables.indices.is_empty() && tables.remote_indices.is_empty());
    assert!(tables.allowed_ips.is_empty());
    drop(tables);
    assert!(bench.engine.events.drain().is_empty());
    assert!(bench.engine.add_peer().unwrap() > peers[99], "ids never recur");
}

#[test]
fn commands_and_packets_on_many_threads_at_once_do_no_harm() {
    let bench = Bench::new();
    let peer = bench.peer(THERE, 32);
    let far = bench.session(peer, true);
    let ends = AtomicBool::new(false);
    let back: Vec<Vec<u8>> = (0..500).map(|_| far.seal(&packet(THERE, HERE, 100))).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::SeqCst) {
                bench.host_sends(&vec![packet(HERE, THERE, 100); 20]);
                bench.departed();
            }
        });
        scope.spawn(|| {
            for (number, message) in back.iter().enumerate() {
                bench.arrives(message, 1 + (number % 3) as u8);
            }
            ends.store(true, Ordering::SeqCst);
        });
        let mut others = Vec::new();
        while !ends.load(Ordering::SeqCst) {
            let other = bench.peer([10, 9, 0, 0], 16);
            bench.session(other, true);
            bench.engine.watch(peer, fact::DATA_SENT | fact::DATA_RECEIVED);
            let _ = bench.engine.events.drain();
            others.push(other);
            if others.len() > 10 {
                bench.engine.remove_peer(others.remove(0));
            }
        }
    });
    assert_eq!(bench.host_got().len(), back.len(), "each was accepted, and once");
    let snapshot = bench.engine.snapshot();
    assert_eq!(snapshot[0].rx_bytes, back.iter().map(|message| message.len() as u64).sum::<u64>());
}
