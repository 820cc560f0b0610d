//! A keypair: the two transport keys of a session, its sending counter and its replay window.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use blake2::{Blake2s256, Digest};
use zeroize::{Zeroize, Zeroizing};

use crate::aead::{self, ChaCha20Poly1305, KEY_SIZE, Message, scrub_stack};
use crate::allowed_ips::PeerId;
use crate::message::{REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME};
use crate::replay::ReplayWindow;

const BLOCK_SIZE: usize = 64;

type Key = Zeroizing<[u8; KEY_SIZE]>;

fn hmac(key: &[u8; KEY_SIZE], parts: &[&[u8]]) -> Key {
    let mut pad = Zeroizing::new([0x36; BLOCK_SIZE]);
    pad.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
    let mut inner = Blake2s256::new_with_prefix(*pad);
    parts.iter().for_each(|part| inner.update(part));
    pad.iter_mut().for_each(|pad| *pad ^= 0x36 ^ 0x5c);
    let mut digest = inner.finalize();
    let mut result = Blake2s256::new_with_prefix(*pad).chain_update(digest).finalize();
    let key = Zeroizing::new(result.into());
    digest.as_mut_slice().zeroize();
    result.as_mut_slice().zeroize();
    key
}

/// KDF2 of the paper (§5.4) with an empty input.
fn derive_transport_keys(chaining_key: &[u8; KEY_SIZE]) -> (Key, Key) {
    let secret = hmac(chaining_key, &[]);
    let first = hmac(&secret, &[&[1]]);
    let second = hmac(&secret, &[&first[..], &[2]]);
    (first, second)
}

struct TransportKeys {
    sending: ChaCha20Poly1305,
    receiving: ChaCha20Poly1305,
}

impl TransportKeys {
    // A frame of its own, dead when `scrub_stack` runs.
    #[inline(never)]
    fn derive(chaining_key: &[u8; KEY_SIZE], is_initiator: bool) -> Self {
        let (initiator, responder) = derive_transport_keys(chaining_key);
        let (sending, receiving) =
            if is_initiator { (&initiator, &responder) } else { (&responder, &initiator) };
        Self { sending: ChaCha20Poly1305::new(sending), receiving: ChaCha20Poly1305::new(receiving) }
    }
}

/// Octets of stack that the derivation takes at most.
const DERIVATION_STACK: usize = 16 * 1024;

/// A keypair may be used by several threads: counters never recur, a datagram is accepted once.
pub struct Keypair {
    /// The index our peer's packets carry.
    pub local_index: u32,
    /// The index our packets carry.
    pub remote_index: u32,
    /// Whether we initiated the handshake.
    pub is_initiator: bool,
    /// Whose it is.
    pub peer: PeerId,
    /// When the session was derived.
    pub created_at: u64,
    keys: RwLock<Option<TransportKeys>>,
    next_counter: AtomicU64,
    replay: Mutex<ReplayWindow>,
}

/// What a keypair takes from the handshake.
pub struct Established {
    /// The index our peer's packets carry.
    pub local_index: u32,
    /// The index our packets carry.
    pub remote_index: u32,
    /// Whether we initiated the handshake.
    pub is_initiator: bool,
    /// Whose it is.
    pub peer: PeerId,
    /// Now.
    pub created_at: u64,
}

impl Keypair {
    /// Derive the transport keys from the handshake's final chaining key (paper §5.4.5).
    #[must_use]
    pub fn new(chaining_key: &[u8; KEY_SIZE], established: Established) -> Self {
        let Established { local_index, remote_index, is_initiator, peer, created_at } = established;
        let keys = TransportKeys::derive(chaining_key, is_initiator);
        scrub_stack::<DERIVATION_STACK>();
        Self {
            local_index,
            remote_index,
            is_initiator,
            peer,
            created_at,
            keys: RwLock::new(Some(keys)),
            next_counter: AtomicU64::new(0),
            replay: Mutex::default(),
        }
    }

    /// Overwrite the keys. From then on nothing is sealed or opened.
    pub fn wipe(&self) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = None;
        scrub_stack::<DERIVATION_STACK>();
    }

    /// The counter of the next packet.
    #[must_use]
    pub fn next_counter(&self) -> u64 {
        self.next_counter.load(Ordering::Relaxed)
    }

    /// Go on from `counter`, unless that is behind.
    pub fn skip_counters(&self, counter: u64) {
        self.next_counter.fetch_max(counter, Ordering::Relaxed);
    }

    /// Take `count` consecutive counters for sending, the first of which it gives; None when the keypair may
    /// not send that many.
    #[must_use]
    pub fn reserve_counters(&self, count: usize, now: u64) -> Option<u64> {
        drop(self.live_keys(now)?);
        let count = count as u64;
        let take = |next: u64| next.checked_add(count).filter(|&end| end <= REJECT_AFTER_MESSAGES);
        self.next_counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()
    }

    /// Seal a run with reserved counters. False when the keys were wiped meanwhile, and then nothing is
    /// sealed.
    #[must_use]
    pub fn seal_run(&self, first_counter: u64, run: &mut [u8], segment_size: usize) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let Some(keys) = &*keys else { return false };
        aead::seal_run(&keys.sending, first_counter, run, segment_size);
        true
    }

    /// Whether what comes with this counter is dropped as received before, be it authentic or not.
    #[must_use]
    pub fn has_received(&self, counter: u64) -> bool {
        self.replay.lock().unwrap_or_else(PoisonError::into_inner).would_refuse(counter)
    }

    /// What opens datagrams; None when the keypair may not receive any more.
    #[must_use]
    pub fn receiver(&self, now: u64) -> Option<Receiver<'_>> {
        let keys = self.live_keys(now)?;
        let replay = self.replay.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Receiver { keys, replay })
    }

    fn live_keys(&self, now: u64) -> Option<RwLockReadGuard<'_, Option<TransportKeys>>> {
        if now.saturating_sub(self.created_at) >= REJECT_AFTER_TIME {
            return None;
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.is_some().then_some(keys)
    }
}

impl Drop for Keypair {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// The right to open datagrams.
pub struct Receiver<'a> {
    keys: RwLockReadGuard<'a, Option<TransportKeys>>,
    replay: MutexGuard<'a, ReplayWindow>,
}

impl Receiver<'_> {
    /// Open ciphertext ‖ tag in place; false when the tag is wrong.
    #[cfg(test)]
    #[must_use]
    pub fn open(&self, counter: u64, sealed: &mut [u8]) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.receiving.open(counter, &[], sealed))
    }

    /// Open messages in place, and say of each whether its tag is right.
    pub fn open_batch(&self, messages: &mut [Message<'_>]) {
        if let Some(keys) = self.keys.as_ref() {
            keys.receiving.open_batch(messages);
        }
    }

    /// True when an authenticated counter is new.
    #[must_use]
    pub fn check_and_set(&mut self, counter: u64) -> bool {
        self.replay.check_and_set(counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn established(is_initiator: bool) -> Established {
        Established { local_index: 1, remote_index: 2, is_initiator, peer: 3, created_at: 1_000 }
    }

    #[test]
    fn hmac_is_that_of_an_independent_implementation() {
        // Python: hmac.new(bytes(range(32)), b"abc", hashlib.blake2s).hexdigest()
        let key: [u8; 32] = std::array::from_fn(|i| i as u8);
        let hex: String = hmac(&key, &[b"a", b"bc"]).iter().map(|octet| format!("{octet:02x}")).collect();
        assert_eq!(hex, "82623be5bc0a391b24dce53e67d028eff92d586de0485ac37822e597d049c74f");
    }

    #[test]
    fn what_the_initiator_seals_the_responder_opens_and_the_other_way_round() {
        let initiator = Keypair::new(&[9; 32], established(true));
        let responder = Keypair::new(&[9; 32], established(false));
        for (from, to) in [(&initiator, &responder), (&responder, &initiator)] {
            let mut run = [5; 64];
            let counter = from.reserve_counters(1, 2_000).unwrap();
            assert!(from.seal_run(counter, &mut run, 64));
            let mut own = run;
            assert!(
                !from.receiver(2_000).unwrap().open(0, &mut own[16..]),
                "the two directions have two keys"
            );
            let mut receiver = to.receiver(2_000).unwrap();
            assert!(receiver.open(0, &mut run[16..]));
            assert_eq!(run[16..48], [5; 32]);
            assert!(receiver.check_and_set(0) && !receiver.check_and_set(0));
        }
    }

    #[test]
    fn counters_end_at_the_reject_limit() {
        let keypair = Keypair::new(&[9; 32], established(true));
        assert_eq!(keypair.reserve_counters(3, 0).unwrap(), 0);
        assert_eq!(keypair.reserve_counters(1, 0).unwrap(), 3);
        keypair.skip_counters(2);
        assert_eq!(keypair.next_counter(), 4, "a counter that was used stays used");
        keypair.skip_counters(REJECT_AFTER_MESSAGES - 2);
        assert!(keypair.reserve_counters(3, 0).is_none());
        assert_eq!(keypair.reserve_counters(2, 0).unwrap(), REJECT_AFTER_MESSAGES - 2);
        assert!(keypair.reserve_counters(1, 0).is_none());
        keypair.skip_counters(u64::MAX);
        assert!(keypair.reserve_counters(1, 0).is_none());
    }

    #[test]
    fn a_keypair_dies_of_age_and_of_wiping() {
        let keypair = Keypair::new(&[9; 32], established(true));
        let last = 1_000 + REJECT_AFTER_TIME - 1;
        assert!(keypair.reserve_counters(1, last).is_some() && keypair.receiver(last).is_some());
        assert!(keypair.reserve_counters(1, last + 1).is_none() && keypair.receiver(last + 1).is_none());
        keypair.wipe();
        assert!(!keypair.seal_run(0, &mut [0; 32], 32));
        assert!(keypair.reserve_counters(1, 1_000).is_none() && keypair.receiver(1_000).is_none());
    }
}
