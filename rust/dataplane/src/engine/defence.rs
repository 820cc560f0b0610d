//! The first line of defence (paper §5.3): what a handshake message has to pass before the core spends a DH
//! on it.
//!
//! Its mac1 must be right; then, under load, its mac2, for want of which it is answered with a cookie; then
//! the bucket of its source must have a token. Load is judged for each message from the depth of the queue
//! it would join; and from how many initiations come without a cookie, whether the core keeps up or not: a
//! flood that it could just bear would have all of a processor.

use std::net::{IpAddr, SocketAddr};

use blake2::Blake2sMac;
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use zeroize::Zeroizing;

use super::drops::Drop;
use super::events::HANDSHAKE_QUEUE;
use super::ratelimiter::RateLimiter;
use super::system_random::{RandomPool, fill_random};
use crate::aead::{ChaCha20Poly1305, KEY_SIZE};
use crate::message::TAG_SIZE;
use crate::xchacha::derive_subkey;

const SECOND: u64 = 1_000_000_000;
/// A queue this deep is load.
const UNDER_LOAD_DEPTH: usize = HANDSHAKE_QUEUE / 8;
/// Load lasts as long after.
const UNDER_LOAD_HOLD: u64 = SECOND;
/// Initiations without a cookie that may come: a second, and at once. While more do, none of them passes.
const UNPROVEN_PER_SECOND: u64 = 200;
const UNPROVEN_BURST: u64 = UNDER_LOAD_DEPTH as u64;
/// The secret behind cookies is as old at most.
const COOKIE_SECRET_MAX_AGE: u64 = 120 * SECOND;
const MAC_SIZE: usize = 16;
const COOKIE_NONCE_SIZE: usize = 24;
/// Octets of a cookie reply.
pub const COOKIE_REPLY_SIZE: usize = 64;

type KeyedMac = Blake2sMac<U16>;

/// What to do with a message.
pub enum Verdict {
    /// It is worth a DH.
    Pass,
    /// Drop it silently.
    Drop(Drop),
    /// Drop it, and send its sender this.
    CookieReply([u8; COOKIE_REPLY_SIZE]),
}

/// Keys made of a static public key, mac1's and the cookies'.
pub type IdentityKeys<'a> = (&'a [u8; KEY_SIZE], &'a [u8; KEY_SIZE]);

struct Identity {
    mac1_key: Zeroizing<[u8; KEY_SIZE]>,
    cookie_key: Zeroizing<[u8; KEY_SIZE]>,
}

impl Identity {
    fn of((mac1_key, cookie_key): IdentityKeys<'_>) -> Self {
        Self { mac1_key: Zeroizing::new(*mac1_key), cookie_key: Zeroizing::new(*cookie_key) }
    }

    /// Whether a message is addressed to it. `verify_slice` compares in constant time.
    fn is_meant(&self, body: &[u8], mac1: &[u8]) -> bool {
        mac(&*self.mac1_key, &[body]).verify_slice(mac1).is_ok()
    }
}

/// Judges initiations and responses that have the size of their type.
#[derive(Default)]
pub struct FirstDefence {
    identity: Option<Identity>,
    previous: Option<Identity>,
    secret: Zeroizing<[u8; KEY_SIZE]>,
    secret_created_at: Option<u64>,
    limiter: RateLimiter,
    under_load_at: Option<u64>,
    unproven: Unproven,
    nonces: RandomPool,
}

/// A bucket of nanoseconds, of which an initiation without a cookie takes its part of a second, whether it
/// passes or not: during a flood the bucket stays empty.
#[derive(Default)]
struct Unproven {
    taken: u64,
    counted_at: u64,
}

impl Unproven {
    const COST: u64 = SECOND / UNPROVEN_PER_SECOND;

    fn allow(&mut self, now: u64) -> bool {
        self.taken = self.taken.saturating_sub(now.saturating_sub(self.counted_at));
        self.counted_at = now;
        let wanted = self.taken + Self::COST;
        self.taken = wanted.min(UNPROVEN_BURST * Self::COST);
        wanted <= self.taken
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> KeyedMac {
    let mut mac = <KeyedMac as KeyInit>::new_from_slice(key).expect("a key has at most 32 octets");
    parts.iter().for_each(|part| mac.update(part));
    mac
}

impl FirstDefence {
    /// Our static key's; None: no message passes.
    pub fn set_identity(&mut self, keys: Option<IdentityKeys<'_>>) {
        self.identity = keys.map(Identity::of);
    }

    /// Those of a static key that we had before, whose messages pass as well; None: there is none.
    pub fn set_previous_identity(&mut self, keys: Option<IdentityKeys<'_>>) {
        self.previous = keys.map(Identity::of);
    }

    /// What to do with a message that came while `depth` others wait.
    pub fn judge(&mut self, message: &[u8], source: SocketAddr, depth: usize, now: u64) -> Verdict {
        let Some(end) = message.len().checked_sub(2 * MAC_SIZE) else {
            return Verdict::Drop(Drop::InvalidMac1);
        };
        let (body, macs) = message.split_at(end);
        let (mac1, mac2) = macs.split_at(MAC_SIZE);
        let is_meant = |identity: &Identity| identity.is_meant(body, mac1);
        let is_current = self.identity.as_ref().is_some_and(is_meant);
        if !is_current && !self.previous.as_ref().is_some_and(is_meant) {
            return Verdict::Drop(Drop::InvalidMac1);
        }
        let is_initiation = message.first() == Some(&1);
        if !self.is_under_load(depth, now) && (!is_initiation || self.unproven.allow(now)) {
            return Verdict::Pass;
        }
        let cookie = self.cookie(source, now);
        // Zeros mean that none was made: that spares the mac of looking.
        let proves_source = mac2 != [0; MAC_SIZE] && mac(&*cookie, &[body, mac1]).verify_slice(mac2).is_ok();
        if !proves_source {
            let asked = if is_current { &self.identity } else { &self.previous };
            let reply = asked
                .as_ref()
                .and_then(|asked| create_reply(asked, &mut self.nonces, message, mac1, &cookie));
            return match reply {
                Some(reply) => Verdict::CookieReply(reply),
                None => Verdict::Drop(Drop::UnderLoad),
            };
        }
        if !self.limiter.allow(source.ip(), now) {
            return Verdict::Drop(Drop::RateLimited);
        }
        Verdict::Pass
    }

    fn is_under_load(&mut self, depth: usize, now: u64) -> bool {
        if depth >= UNDER_LOAD_DEPTH {
            self.under_load_at = Some(now);
            return true;
        }
        self.under_load_at.is_some_and(|at| now.saturating_sub(at) < UNDER_LOAD_HOLD)
    }

    /// Bound to an address and port by a secret of ours that lives two minutes.
    fn cookie(&mut self, source: SocketAddr, now: u64) -> Zeroizing<[u8; MAC_SIZE]> {
        let is_fresh = |created_at: u64| now.saturating_sub(created_at) < COOKIE_SECRET_MAX_AGE;
        if !self.secret_created_at.is_some_and(is_fresh) {
            fill_random(&mut *self.secret);
            self.secret_created_at = Some(now);
        }
        let port = source.port().to_be_bytes();
        let cookie = match source.ip() {
            IpAddr::V4(address) => mac(&*self.secret, &[&address.octets(), &port]),
            IpAddr::V6(address) => mac(&*self.secret, &[&address.octets(), &port]),
        };
        Zeroizing::new(cookie.finalize().into_bytes().into())
    }
}

/// Type 3, the index of its sender, a nonce, the cookie sealed by XChaCha20-Poly1305 over its mac1.
fn create_reply(
    identity: &Identity,
    nonces: &mut RandomPool,
    message: &[u8],
    mac1: &[u8],
    cookie: &[u8; MAC_SIZE],
) -> Option<[u8; COOKIE_REPLY_SIZE]> {
    let mut reply = [0; COOKIE_REPLY_SIZE];
    reply[0] = 3;
    reply[4..8].copy_from_slice(message.get(4..8)?);
    let (nonce, sealed) = reply[8..].split_at_mut(COOKIE_NONCE_SIZE);
    nonces.fill(nonce);
    let (nonce_start, nonce_end) = nonce.split_first_chunk::<16>()?;
    let counter = u64::from_le_bytes(nonce_end.try_into().ok()?);
    let aead = ChaCha20Poly1305::new(&derive_subkey(&identity.cookie_key, nonce_start));
    let (text, tag) = sealed.split_at_mut(MAC_SIZE);
    text.copy_from_slice(cookie);
    tag[..TAG_SIZE].copy_from_slice(&aead.seal(counter, mac1, text));
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addressed_to(mac1_key: &[u8; KEY_SIZE]) -> [u8; 148] {
        let mut message = [0; 148];
        message[0] = 1;
        let mac1 = mac(mac1_key, &[&message[..116]]).finalize().into_bytes();
        message[116..132].copy_from_slice(&mac1);
        message
    }

    #[test]
    fn messages_to_the_previous_identity_pass_until_it_is_gone_and_get_its_cookies() {
        let mut defence = FirstDefence::default();
        defence.set_identity(Some((&[1; KEY_SIZE], &[2; KEY_SIZE])));
        let source = SocketAddr::from(([198, 51, 100, 1], 51820));
        let (current, previous) = (addressed_to(&[1; KEY_SIZE]), addressed_to(&[3; KEY_SIZE]));
        let is_dropped = |verdict| matches!(verdict, Verdict::Drop(Drop::InvalidMac1));
        assert!(is_dropped(defence.judge(&previous, source, 0, SECOND)));
        defence.set_previous_identity(Some((&[3; KEY_SIZE], &[4; KEY_SIZE])));
        for message in [&current, &previous] {
            assert!(matches!(defence.judge(message, source, 0, SECOND), Verdict::Pass));
        }
        for (message, cookie_key) in [(&current, [2; KEY_SIZE]), (&previous, [4; KEY_SIZE])] {
            let Verdict::CookieReply(reply) = defence.judge(message, source, UNDER_LOAD_DEPTH, SECOND) else {
                panic!("under load it is answered with a cookie");
            };
            let nonce_start: &[u8; 16] = reply[8..24].try_into().unwrap();
            let counter = u64::from_le_bytes(reply[24..32].try_into().unwrap());
            let mut cookie = *defence.cookie(source, SECOND);
            let aead = ChaCha20Poly1305::new(&derive_subkey(&cookie_key, nonce_start));
            let tag = aead.seal(counter, &message[116..132], &mut cookie);
            assert_eq!((&reply[32..48], &reply[48..]), (&cookie[..], &tag[..]));
        }
        defence.set_previous_identity(None);
        assert!(is_dropped(defence.judge(&previous, source, 0, SECOND)));
        assert!(!is_dropped(defence.judge(&current, source, 0, SECOND)));
    }

    #[test]
    fn past_two_hundred_a_second_initiations_need_a_cookie_though_the_core_keeps_up() {
        let mut defence = FirstDefence::default();
        defence.set_identity(Some((&[1; KEY_SIZE], &[2; KEY_SIZE])));
        let source = SocketAddr::from(([198, 51, 100, 1], 51820));
        let mut message = addressed_to(&[1; KEY_SIZE]);
        let now = 100 * SECOND;
        let mut passed = |message: &[u8], count: usize, now: u64| {
            let verdicts = (0..count).map(|_| defence.judge(message, source, 0, now));
            verdicts.filter(|verdict| matches!(verdict, Verdict::Pass)).count()
        };
        assert_eq!(passed(&message, 600, now), 512);
        assert_eq!(passed(&message, 100, now + SECOND / 10), 20);
        let flood = (0..20_000).map(|number| now + SECOND / 5 + number * SECOND / 20_000);
        assert_eq!(flood.map(|at| passed(&message, 1, at)).sum::<usize>(), 20, "in a flood none passes");
        let now = now + 6 * SECOND / 5;
        assert_eq!(passed(&message, 100, now + SECOND / 10), 20, "when it ends the allowance comes back");
        let mut response = message;
        response[0] = 2;
        let mac1 = mac(&[1; KEY_SIZE], &[&response[..116]]).finalize().into_bytes();
        response[116..132].copy_from_slice(&mac1);
        assert_eq!(passed(&response, 10, now + SECOND / 10), 10, "those are for an index of ours");
        assert_eq!(passed(&message, 600, now + 10 * SECOND), 512, "the allowance is full again");
        let cookie = defence.cookie(source, now + 10 * SECOND);
        let mac2 = mac(&*cookie, &[&message[..132]]).finalize().into_bytes();
        message[132..].copy_from_slice(&mac2);
        assert!(matches!(defence.judge(&message, source, 0, now + 10 * SECOND), Verdict::Pass), "proven");
    }
}
