//! A relay in memory: what it sends for what it gets.

use std::net::SocketAddr;
use std::sync::Mutex;

use blake2::digest::Mac;

use super::cookie::mac;
use super::forwarder::Counts;
use super::message::*;
use super::*;
use crate::engine::{Origin, Received, Udp};

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 1000 * SECOND;
const NETWORK: [u8; 16] = [7; 16];
const KEY: [u8; 32] = [9; 32];

#[derive(Default)]
struct Wire(Mutex<Vec<(Vec<u8>, usize, SocketAddr)>>);

impl Udp for Wire {
    fn send(
        &self,
        run: &[u8],
        segment_size: usize,
        to: SocketAddr,
        _source: Option<&Origin>,
        _tos: u8,
    ) -> usize {
        self.0.lock().unwrap().push((run.to_vec(), segment_size, to));
        run.len()
    }
}

fn at(host: u8) -> Origin {
    let local = Some([203, 0, 113, 1].into());
    Origin { remote: ([192, 0, 2, host], 51820).into(), local, interface_index: 1 }
}

fn node(id: u64) -> NodeAddress {
    NodeAddress { network: NETWORK, id }
}

struct World {
    relay: Forwarder,
    wire: Wire,
    registrations: Vec<Registration>,
}

impl World {
    fn with(settings: Settings) -> Self {
        Self { relay: Forwarder::new(settings), wire: Wire::default(), registrations: Vec::new() }
    }

    fn new() -> Self {
        Self::with(Settings {
            most_sessions: 100,
            rate_of_each: 0,
            rate_of_all: 0,
            receipt_key: [7; 32].into(),
        })
    }

    /// What the relay sends when these datagrams come, as one receive.
    fn get(&mut self, datagrams: &[Vec<u8>], origin: Origin, now: u64) -> Vec<(Vec<u8>, usize, SocketAddr)> {
        let segment_size = datagrams[0].len();
        let mut buffer = datagrams.concat();
        let received = Received { length: buffer.len(), segment_size, origin, tos: 0 };
        let judge = &mut |each| self.registrations.push(each);
        self.relay.received(&self.wire, &mut buffer, &received, Some(3479), now, judge);
        std::mem::take(&mut *self.wire.0.lock().unwrap())
    }

    fn counts(&self) -> Counts {
        self.relay.counts().0
    }
}

fn data(session: u64, receiver: u64, size: usize, fill: u8) -> Vec<u8> {
    let mut datagram = data_header(session, receiver).to_vec();
    datagram.resize(DATA_HEADER_SIZE + size, fill);
    datagram
}

fn keepalive(session: u64, counter: u64, cookie: &[u8], key: &[u8; 32]) -> Vec<u8> {
    let mut message = header(KEEPALIVE, 0).to_vec();
    message.extend(session.to_be_bytes());
    message.extend(counter.to_be_bytes());
    message.extend(cookie);
    let tag = mac(key, &[&message]).finalize().into_bytes();
    message.extend(tag);
    message.resize(KEEPALIVE_SIZE, 0);
    message
}

#[test]
fn datagrams_for_one_receiver_leave_by_one_send_with_its_session_and_who_sent_them() {
    let mut world = World::new();
    let one = world.relay.admit(node(1), KEY, at(1), NOW).unwrap();
    let two = world.relay.admit(node(2), KEY, at(2), NOW).unwrap();
    let three = world.relay.admit(node(3), KEY, at(3), NOW).unwrap();
    let mut batch: Vec<_> = (0..5).map(|fill| data(one, 2, 1000, fill)).collect();
    batch.extend([data(one, 3, 1000, 8), data(one, 3, 100, 9)]);
    let sent = world.get(&batch, at(1), NOW);
    let expected: Vec<u8> = (0..5).flat_map(|fill| data(two, 1, 1000, fill)).collect();
    assert_eq!(sent[0], (expected, 1020, at(2).remote));
    assert_eq!(sent[1], ([data(three, 1, 1000, 8), data(three, 1, 100, 9)].concat(), 1020, at(3).remote));
    assert_eq!(sent.len(), 2);
    assert_eq!((world.counts().forwarded, world.counts().forwarded_octets), (7, 6 * 1020 + 120));
}

#[test]
fn nothing_is_forwarded_to_another_network_or_for_another_address_or_session() {
    let mut world = World::new();
    let one = world.relay.admit(node(1), KEY, at(1), NOW).unwrap();
    world.relay.admit(NodeAddress { network: [8; 16], id: 2 }, KEY, at(2), NOW).unwrap();
    assert!(world.get(&[data(one, 2, 100, 0)], at(1), NOW).is_empty());
    assert_eq!(world.counts().no_receiver, 1);
    world.relay.admit(node(2), KEY, at(4), NOW).unwrap();
    for (session, from, reason) in [(one, at(9), OTHER_ADDRESS), (one ^ 1 << 40, at(1), UNKNOWN_SESSION)] {
        let datagram = data(session, 2, 32, 0);
        let sent = world.get(std::slice::from_ref(&datagram), from, NOW);
        assert_eq!(sent.len(), 1, "a notice alone");
        assert_eq!(sent[0].2, from.remote);
        assert_eq!(sent[0].0[..4], header(NOTICE, reason));
        assert!(sent[0].0.len() < datagram.len());
    }
    assert!(world.get(&[data(one, 2, 31, 0)], at(1), NOW).is_empty(), "too short to be WireGuard");
}

#[test]
fn an_address_moves_by_a_keepalive_with_key_counter_and_a_cookie_sent_there_and_by_nothing_less() {
    let mut world = World::new();
    let one = world.relay.admit(node(1), KEY, at(1), NOW).unwrap();
    let two = world.relay.admit(node(2), KEY, at(2), NOW).unwrap();
    let sent = world.get(&[keepalive(two, 1, &[0; 16], &KEY)], at(2), NOW);
    assert_eq!(sent[0].0[..4], header(ACK, 0));
    assert_eq!(sent[0].0[20..38], observed(at(2).remote));
    assert!(world.get(&[keepalive(two, 1, &[0; 16], &KEY)], at(2), NOW).is_empty(), "an old counter");
    assert!(world.get(&[keepalive(two, 2, &[0; 16], &[8; 32])], at(2), NOW).is_empty(), "another key");
    // From elsewhere: the cookie goes there, and only who got it moves the session.
    let sent = world.get(&[keepalive(two, 3, &[0; 16], &KEY)], at(3), NOW);
    assert_eq!((sent.len(), sent[0].2), (1, at(3).remote));
    assert_eq!(sent[0].0[..4], header(NOTICE, OTHER_ADDRESS));
    let cookie = sent[0].0[12..].to_vec();
    assert_eq!(world.get(&[data(one, 2, 100, 0)], at(1), NOW)[0].2, at(2).remote);
    let sent = world.get(&[keepalive(two, 4, &cookie, &KEY)], at(4), NOW);
    assert_eq!(sent[0].0[..4], header(NOTICE, OTHER_ADDRESS), "a cookie for another address");
    assert_eq!(world.get(&[data(one, 2, 100, 0)], at(1), NOW)[0].2, at(2).remote);
    assert_eq!(world.get(&[keepalive(two, 5, &cookie, &KEY)], at(3), NOW)[0].0[..4], header(ACK, 0));
    assert_eq!(world.get(&[data(one, 2, 100, 0)], at(1), NOW)[0].2, at(3).remote);
}

#[test]
fn the_newest_session_of_a_node_ends_its_older_one_and_silence_ends_any() {
    let mut world = World::new();
    let one = world.relay.admit(node(1), KEY, at(1), NOW).unwrap();
    world.relay.admit(node(2), KEY, at(2), NOW).unwrap();
    let newer = world.relay.admit(node(1), KEY, at(5), NOW + 50 * SECOND).unwrap();
    let refused = world.get(&[data(one, 2, 100, 0)], at(1), NOW);
    assert_eq!(refused[0].0[..4], header(NOTICE, UNKNOWN_SESSION));
    assert_eq!(world.get(&[data(newer, 2, 100, 0)], at(5), NOW)[0].2, at(2).remote);
    assert_eq!(world.relay.expire(NOW + 91 * SECOND), 1);
    assert!(world.get(&[data(newer, 2, 100, 0)], at(5), NOW).is_empty());
    assert_eq!(world.relay.counts().1, 1);
    assert!(world.relay.remove(&node(1)) && !world.relay.remove(&node(1)));
}

#[test]
fn sessions_are_bounded_and_places_are_used_again() {
    let mut world = World::with(Settings {
        most_sessions: 3,
        rate_of_each: 0,
        rate_of_all: 0,
        receipt_key: [7; 32].into(),
    });
    for round in 0..5 {
        for id in 0..3 {
            assert!(world.relay.admit(node(10 * round + id), KEY, at(1), NOW).is_some());
        }
        assert!(world.relay.admit(node(999), KEY, at(1), NOW).is_none());
        assert!(world.relay.admit(node(10 * round), KEY, at(1), NOW).is_some(), "in its own place");
        (0..3).for_each(|id| assert!(world.relay.remove(&node(10 * round + id))));
    }
}

#[test]
fn a_register_goes_up_only_with_the_cookie_that_its_hello_got() {
    let mut world = World::new();
    let mut hello = header(HELLO, 0).to_vec();
    hello.extend([5; 16]);
    assert!(world.get(std::slice::from_ref(&hello), at(1), NOW).is_empty(), "not padded");
    hello.resize(HELLO_SIZE, 0);
    let sent = world.get(&[hello], at(1), NOW);
    assert_eq!((sent[0].0.len(), sent[0].2), (COOKIE_MESSAGE_SIZE, at(1).remote));
    let mut register = header(REGISTER, 0).to_vec();
    register.extend(&sent[0].0[4..]);
    register.resize(REGISTER_SIZE, 1);
    for from in [at(2), at(1)] {
        assert!(world.get(std::slice::from_ref(&register), from, NOW).is_empty());
    }
    assert_eq!(world.registrations.len(), 1);
    assert_eq!((world.registrations[0].0.to_vec(), world.registrations[0].1), (register.clone(), at(1)));
    for _ in 0..10 {
        world.get(std::slice::from_ref(&register), at(1), NOW);
    }
    assert_eq!(world.registrations.len(), 5, "so many at once from one address");
}

#[test]
fn stun_is_answered_where_the_answer_is_no_longer_than_the_request() {
    let mut world = World::new();
    let request = |size: usize| {
        let mut request = vec![0, 1];
        request.extend((size as u16 - 20).to_be_bytes());
        request.extend([0x21, 0x12, 0xa4, 0x42]);
        request.extend([3; 12]);
        request.resize(size, 0);
        request
    };
    assert!(world.get(&[request(20)], at(1), NOW).is_empty());
    let sent = world.get(&[request(68)], at(1), NOW);
    let answer = &sent[0].0;
    assert_eq!(answer[..8], [1, 1, 0, 24, 0x21, 0x12, 0xa4, 0x42]);
    assert_eq!(answer[8..20], [3; 12]);
    // 192.0.2.1:51820, masked; then 203.0.113.1:3479 as it is.
    assert_eq!(answer[20..32], [0, 0x20, 0, 8, 0, 1, 0xeb, 0x7e, 0xe1, 0x12, 0xa6, 0x43]);
    assert_eq!(answer[32..], [0x80, 0x2c, 0, 8, 0, 1, 0x0d, 0x97, 203, 0, 113, 1]);
}

#[test]
fn a_draining_relay_says_so_to_all_and_goes_on() {
    let mut world = World::new();
    let one = world.relay.admit(node(1), KEY, at(1), NOW).unwrap();
    let two = world.relay.admit(node(2), KEY, at(2), NOW).unwrap();
    world.relay.drain(&world.wire);
    let sent = std::mem::take(&mut *world.wire.0.lock().unwrap());
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|each| each.0[..4] == header(ACK, DRAINING)));
    assert_eq!(world.get(&[keepalive(two, 1, &[0; 16], &KEY)], at(2), NOW)[0].0[2], DRAINING);
    assert_eq!(world.get(&[data(one, 2, 100, 0)], at(1), NOW)[0].2, at(2).remote);
}

#[test]
fn any_octets_are_survived() {
    let mut world = World::new();
    let one = world.relay.admit(node(1), KEY, at(1), NOW).unwrap();
    let mut state = 1u64;
    for _ in 0..20_000 {
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize
        };
        let mut datagram = match random() % 4 {
            0 => data(one, 2, 60, 1),
            1 => keepalive(one, 9, &[0; 16], &KEY),
            2 => vec![random() as u8; random() % 300],
            _ => header((random() % 12) as u8, 0).to_vec(),
        };
        datagram.resize(1 + random() % 300, random() as u8);
        let place = random() % datagram.len();
        datagram[place] ^= random() as u8;
        world.get(&[datagram.clone(), datagram], at((random() % 3) as u8), NOW);
    }
}
