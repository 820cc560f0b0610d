//! What an engine has to tell, until it is drained: one place for each kind, each of bounded size.
//!
//! Handshake messages wait in a queue whose depth is the measure of load. Work is coalesced per peer and
//! never lost. Control messages and other datagrams are in rings that lose their oldest: whoever sent them
//! sends them again.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ends::Origin;
use super::number_map::NumberMap;
use crate::allowed_ips::PeerId;

/// Handshake messages that wait at most.
pub const HANDSHAKE_QUEUE: usize = 4096;
/// Handshake messages given out at once: the rest stays, so that its depth tells how far the core is behind.
const HANDSHAKES_A_DRAIN: usize = 16;
/// Control messages, and other datagrams, that wait at most.
const RING_LIMIT: usize = 1024;

/// Bits of [`Event::PeerWork`], the numbers of the seam.
pub mod work {
    /// A packet is staged and no keypair may send.
    pub const NEED_KEY: u8 = 1;
    /// Sending with a keypair that is due.
    pub const REKEY_SEND: u8 = 2;
    /// Received with a keypair that is due.
    pub const REKEY_RECEIVE: u8 = 4;
    /// `next` became `current`.
    pub const CONFIRMED: u8 = 8;
    /// The endpoint moved.
    pub const ENDPOINT: u8 = 16;
    /// A watched fact is there.
    pub const FACT: u8 = 32;
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message that passed the first line of defence; `peer` is the owner of its receiver index.
    HandshakeMessage {
        /// The message.
        data: Vec<u8>,
        /// Where from.
        origin: Origin,
        /// Orders it among all that was received.
        seq: u64,
        /// How many waited when it came.
        depth: usize,
        /// None for an initiation.
        peer: Option<PeerId>,
    },
    /// What a peer needs.
    PeerWork {
        /// Who.
        peer: PeerId,
        /// See [`work`].
        bits: u8,
        /// The local index of the keypair that was confirmed.
        confirmed_index: Option<u32>,
        /// The latest endpoint.
        endpoint: Option<SocketAddr>,
    },
    /// A control message of the mesh.
    Control {
        /// From whom.
        peer: PeerId,
        /// By which path.
        path: Origin,
        /// Decrypted, with its padding.
        data: Vec<u8>,
    },
    /// A datagram that was expected.
    OtherDatagram {
        /// All of it.
        data: Vec<u8>,
        /// Where from.
        origin: Origin,
    },
    /// The engine cannot go on.
    EngineFailed(String),
}

#[derive(Default)]
struct PendingWork {
    bits: u8,
    confirmed_index: Option<u32>,
    endpoint: Option<SocketAddr>,
}

#[derive(Default)]
struct Queues {
    handshakes: VecDeque<Event>,
    work: NumberMap<PendingWork>,
    controls: VecDeque<Event>,
    others: VecDeque<Event>,
    failure: Option<String>,
    is_signalled: bool,
}

impl Queues {
    fn is_empty(&self) -> bool {
        self.work.is_empty()
            && self.handshakes.is_empty()
            && self.controls.is_empty()
            && self.others.is_empty()
            && self.failure.is_none()
    }
}

/// Tells that there are events, or that there are none any more.
pub trait Signal: Send + Sync {
    /// There is something to drain.
    fn raise(&self);
    /// There is nothing.
    fn clear(&self);
}

/// Where events wait.
pub struct EventQueues {
    queues: Mutex<Queues>,
    signal: Box<dyn Signal>,
}

impl EventQueues {
    /// `signal` is raised as long as anything waits.
    #[must_use]
    pub fn new(signal: Box<dyn Signal>) -> Self {
        Self { queues: Mutex::default(), signal }
    }

    fn change<R>(&self, change: impl FnOnce(&mut Queues) -> R) -> R {
        let mut queues: MutexGuard<'_, Queues> = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut queues);
        let waits = !queues.is_empty();
        if waits != queues.is_signalled {
            queues.is_signalled = waits;
            if waits { self.signal.raise() } else { self.signal.clear() }
        }
        result
    }

    /// How many handshake messages wait.
    #[must_use]
    pub fn handshake_depth(&self) -> usize {
        self.change(|queues| queues.handshakes.len())
    }

    /// False, and the message is lost, when the queue is full.
    #[must_use]
    pub fn put_handshake(&self, message: Event) -> bool {
        self.change(|queues| {
            let fits = queues.handshakes.len() < HANDSHAKE_QUEUE;
            if fits {
                queues.handshakes.push_back(message);
            }
            fits
        })
    }

    /// The identity or the sockets changed: what waits is for the old ones.
    pub fn discard_handshakes(&self) {
        self.change(|queues| queues.handshakes = VecDeque::new());
    }

    /// A peer wants something.
    pub fn put_work(&self, peer: PeerId, bits: u8) {
        self.change(|queues| queues.work.entry(peer).or_default().bits |= bits);
    }

    /// A peer's `next` was confirmed.
    pub fn put_confirmed(&self, peer: PeerId, index: u32) {
        self.change(|queues| {
            let pending = queues.work.entry(peer).or_default();
            pending.bits |= work::CONFIRMED;
            pending.confirmed_index = Some(index);
        });
    }

    /// A peer was heard from there.
    pub fn put_endpoint(&self, peer: PeerId, endpoint: SocketAddr) {
        self.change(|queues| {
            let pending = queues.work.entry(peer).or_default();
            pending.bits |= work::ENDPOINT;
            pending.endpoint = Some(endpoint);
        });
    }

    /// A control message or another datagram came.
    pub fn put_lossy(&self, event: Event) {
        self.change(|queues| {
            let ring = match event {
                Event::Control { .. } => &mut queues.controls,
                _ => &mut queues.others,
            };
            if ring.len() >= RING_LIMIT {
                ring.pop_front();
            }
            ring.push_back(event);
        });
    }

    /// The first reason stands.
    pub fn put_failure(&self, reason: String) {
        self.change(|queues| {
            queues.failure.get_or_insert(reason);
        });
    }

    /// It was removed: nothing more is told of it, but for handshake messages, which the core ignores.
    pub fn forget_peer(&self, peer: PeerId) {
        self.change(|queues| queues.work.remove(&peer));
    }

    /// Everything that waits, of handshake messages the oldest few.
    #[must_use]
    pub fn drain(&self) -> Vec<Event> {
        self.change(|queues| {
            let mut events: Vec<Event> = queues
                .work
                .drain()
                .map(|(peer, PendingWork { bits, confirmed_index, endpoint })| Event::PeerWork {
                    peer,
                    bits,
                    confirmed_index,
                    endpoint,
                })
                .collect();
            let few = queues.handshakes.len().min(HANDSHAKES_A_DRAIN);
            events.extend(queues.handshakes.drain(..few));
            events.extend(queues.controls.drain(..));
            events.extend(queues.others.drain(..));
            events.extend(queues.failure.take().map(Event::EngineFailed));
            events
        })
    }
}
