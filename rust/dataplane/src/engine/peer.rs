//! One peer: its keypairs, where it is, and the facts of its packets.
//!
//! Plain fields change under the engine's writing lock alone. Atomic ones are changed by the threads that
//! move packets, each by at most one store a batch.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::ends::Origin;
use super::session::Slots;

/// Bits of `watch`, the numbers of the seam.
pub mod fact {
    /// Data was sent, and nothing authenticated received since.
    pub const DATA_SENT: u8 = 1;
    /// Data was received, and nothing authenticated sent since.
    pub const DATA_RECEIVED: u8 = 2;
    /// Something authenticated was received after the watch was set.
    pub const AUTHENTICATED_RECEIVED: u8 = 4;
}

/// An instant that may not have been; zero: not.
#[derive(Default)]
struct Instant(AtomicU64);

impl Instant {
    fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::SeqCst)).filter(|&at| at != 0)
    }

    fn set(&self, now: u64) {
        self.0.store(now, Ordering::SeqCst);
    }

    fn set_first(&self, now: u64) {
        if self.0.load(Ordering::Relaxed) == 0 {
            let _ = self.0.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    fn clear(&self) {
        // Most of the time it is clear, and reading leaves the cache line to others.
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::SeqCst);
        }
    }
}

/// See the seam's `Facts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Facts {
    pub data_sent_first: Option<u64>,
    pub data_received_first: Option<u64>,
    pub data_received_last: Option<u64>,
    pub authenticated_sent_last: Option<u64>,
    pub authenticated_received_last: Option<u64>,
    pub staged: usize,
    /// Local index, created at, whether we initiated, whether it may send.
    pub current: Option<(u32, u64, bool, bool)>,
}

/// The ways to a peer that the mesh chose.
pub struct Paths {
    /// Where it is.
    pub primary: Origin,
    /// Where everything goes too.
    pub also: Vec<Origin>,
}

/// Where to send: the endpoint and the source to send from.
pub type Way = (SocketAddr, Option<Origin>);

/// A peer.
#[derive(Default)]
pub struct Peer {
    /// Its keypairs.
    pub slots: Slots,
    /// Indices of its handshakes.
    pub handshake_indices: Vec<u32>,
    /// Where it is.
    pub endpoint: Option<SocketAddr>,
    /// The sticky source: where the peer last reached us.
    pub source: Option<Origin>,
    /// What the core knows as the endpoint.
    pub reported: Option<SocketAddr>,
    /// Whether the endpoint is only reported when it moves.
    pub stays: bool,
    /// Chosen by the mesh.
    pub paths: Option<Box<Paths>>,
    /// Octets of the longest packet that the path takes; 0: nobody found it to be less than the device's.
    pub path_mtu: u16,
    /// Of the handshake message accepted last: where a response goes when the endpoint does not follow.
    pub handshake_origin: Option<Origin>,

    /// Of the latest authenticated packet.
    pub authenticated_seq: AtomicU64,
    /// Octets received in whole UDP payloads.
    pub rx_bytes: AtomicU64,
    /// Octets sent in whole UDP payloads.
    pub tx_bytes: AtomicU64,
    data_sent_first: Instant,
    data_received_first: Instant,
    data_received_last: Instant,
    authenticated_sent_last: Instant,
    authenticated_received_last: Instant,
    watched: AtomicU8,
}

impl Peer {
    /// The facts but for what is staged.
    #[must_use]
    pub fn facts(&self, now: u64) -> Facts {
        let data_received_first = self.data_received_first.get();
        let current = self.slots.current.as_ref().map(|session| {
            let keypair = &session.keypair;
            (keypair.local_index, keypair.created_at, keypair.is_initiator, session.may_send(now))
        });
        Facts {
            data_sent_first: self.data_sent_first.get(),
            data_received_first,
            // The two are not stored at once; the first one counts.
            data_received_last: data_received_first
                .map(|first| self.data_received_last.get().unwrap_or(first)),
            authenticated_sent_last: self.authenticated_sent_last.get(),
            authenticated_received_last: self.authenticated_received_last.get(),
            staged: 0,
            current,
        }
    }

    /// Wait for a fact. True when one is there already, and is to be reported.
    #[must_use]
    pub fn watch(&self, mask: u8) -> bool {
        self.watched.store(mask, Ordering::SeqCst);
        let is_there = (mask & fact::DATA_SENT != 0 && self.data_sent_first.get().is_some())
            || (mask & fact::DATA_RECEIVED != 0 && self.data_received_first.get().is_some());
        is_there && self.end_watch(fact::DATA_SENT | fact::DATA_RECEIVED)
    }

    /// Whether one of these is watched; then the watch ends here, once.
    fn end_watch(&self, bits: u8) -> bool {
        // Sequentially consistent with `watch`: either it sees the fact, or this sees the watch.
        self.watched.load(Ordering::SeqCst) & bits != 0 && self.watched.swap(0, Ordering::SeqCst) & bits != 0
    }

    /// An authenticated packet was sent.
    pub fn note_authenticated_sent(&self, now: u64) {
        self.authenticated_sent_last.set(now);
        self.data_received_first.clear();
        self.data_received_last.clear();
    }

    /// Data was sent. True: to be reported.
    #[must_use]
    pub fn note_data_sent(&self, now: u64) -> bool {
        self.data_sent_first.set_first(now);
        self.end_watch(fact::DATA_SENT)
    }

    /// An authenticated packet was received. True: to be reported.
    #[must_use]
    pub fn note_authenticated_received(&self, now: u64) -> bool {
        self.authenticated_received_last.set(now);
        self.data_sent_first.clear();
        self.end_watch(fact::AUTHENTICATED_RECEIVED)
    }

    /// Data was received. True: to be reported.
    #[must_use]
    pub fn note_data_received(&self, now: u64) -> bool {
        self.data_received_last.set(now);
        self.data_received_first.set_first(now);
        self.end_watch(fact::DATA_RECEIVED)
    }

    /// The way packets go; none when it is not known.
    #[must_use]
    pub fn way(&self) -> Option<Way> {
        match &self.paths {
            Some(paths) => Some((paths.primary.remote, Some(paths.primary))),
            None => self.endpoint.map(|endpoint| (endpoint, self.source)),
        }
    }

    /// The other ways that everything goes too.
    #[must_use]
    pub fn also(&self) -> &[Origin] {
        self.paths.as_ref().map_or(&[], |paths| &paths.also)
    }

    /// All of them.
    pub fn ways(&self) -> impl Iterator<Item = Way> {
        self.way().into_iter().chain(self.also().iter().map(|origin| (origin.remote, Some(*origin))))
    }

    fn follows(&self, origin: &Origin) -> bool {
        !self.stays || self.endpoint == Some(origin.remote)
    }

    fn is_news(&self, origin: &Origin) -> bool {
        self.reported != Some(origin.remote)
            && !(self.stays && self.ways().any(|(remote, _)| remote == origin.remote))
    }

    /// Whether [`Self::note_origin`] would change anything.
    #[must_use]
    pub fn is_elsewhere(&self, origin: &Origin) -> bool {
        self.source.as_ref() != Some(origin) && (self.follows(origin) || self.is_news(origin))
    }

    /// An authenticated packet came from there. True when the endpoint moved, or would have.
    #[must_use]
    pub fn note_origin(&mut self, origin: &Origin) -> bool {
        if self.source.as_ref() == Some(origin) {
            return false;
        }
        if self.follows(origin) {
            self.endpoint = Some(origin.remote);
            self.source = Some(*origin);
        }
        let is_news = self.is_news(origin);
        if is_news {
            self.reported = Some(origin.remote);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_peer_is_small() {
        assert!(size_of::<Peer>() < 640, "{} octets", size_of::<Peer>());
    }
}
