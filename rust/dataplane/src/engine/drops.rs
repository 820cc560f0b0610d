//! Why packets and datagrams were dropped, counted.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why something was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Drop {
            $($(#[$doc])* $name,)*
        }

        const REASONS: &[&str] = &[$($text),*];
    };
}

reasons! {
    /// No peer's allowed IPs cover where the packet goes.
    NoPeer = "no peer for the destination",
    /// The peer is nowhere yet.
    NoEndpoint = "peer without endpoint",
    /// It does not fit the path, and must not be fragmented.
    TooBig = "too big for the path",
    /// A packet of the host contradicts its virtio header.
    MalformedOut = "malformed packet of the host",
    /// Newer packets took its place.
    Staged = "staged too long",
    /// Control messages are never staged.
    ControlWithoutKey = "control without a key",
    /// Our own transport data came back through the TUN.
    Loop = "routing loop",
    /// No message, and nothing that is expected.
    NotWireGuard = "not WireGuard",
    /// Neither a handshake nor a keypair has the index.
    UnknownIndex = "unknown index",
    /// The keypair is too old, or the counter too high.
    Expired = "expired keypair",
    /// The tag is wrong.
    Forged = "forged",
    /// The counter was received before.
    Replayed = "replayed",
    /// A peer's packet contradicts itself.
    MalformedIn = "malformed packet of a peer",
    /// A peer's packet is from an address that is not the peer's.
    Refused = "source not allowed",
    /// The handshake message is not for us.
    InvalidMac1 = "invalid mac1",
    /// The handshake message was answered with a cookie.
    UnderLoad = "under load",
    /// Its source sends too many handshake messages.
    RateLimited = "rate limited",
    /// Too many handshake messages wait.
    QueueFull = "handshake queue full",
    /// The host did not take a packet: the interface is down, or it disliked it.
    Host = "not taken by the host",
    /// The socket did not take a datagram.
    Unsent = "not taken by the socket",
}

impl Drop {
    /// In words.
    #[must_use]
    pub fn text(self) -> &'static str {
        REASONS[self as usize]
    }
}

/// A counter a reason.
#[derive(Default)]
pub struct Drops([AtomicU64; REASONS.len()]);

impl Drops {
    /// Count `number` more.
    pub fn add(&self, reason: Drop, number: usize) {
        if number > 0 {
            self.0[reason as usize].fetch_add(number as u64, Ordering::Relaxed);
        }
    }

    /// Every reason there is with its count.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REASONS.iter().zip(&self.0).map(|(&reason, count)| (reason, count.load(Ordering::Relaxed)))
    }
}
