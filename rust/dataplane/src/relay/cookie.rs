//! Cookies: who has one received at the address that it sends from. They cost the relay no memory.

use std::net::{IpAddr, SocketAddr};

use blake2::Blake2sMac;
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use zeroize::Zeroizing;

use super::message::{MAC_SIZE, RANDOM_SIZE};
use crate::engine::fill_random;

const SECOND: u64 = 1_000_000_000;
/// A cookie is good for this long, and again as long.
const SECRET_AGE: u64 = 10 * SECOND;
const KEY_SIZE: usize = 32;

type KeyedMac = Blake2sMac<U16>;

/// Keyed BLAKE2s-128.
#[must_use]
pub fn mac(key: &[u8; KEY_SIZE], parts: &[&[u8]]) -> KeyedMac {
    let mut mac = <KeyedMac as KeyInit>::new_from_slice(key).expect("a key has at most 32 octets");
    parts.iter().for_each(|part| mac.update(part));
    mac
}

/// The secrets behind cookies: this one and the one before.
#[derive(Default)]
pub struct Cookies {
    secrets: [Zeroizing<[u8; KEY_SIZE]>; 2],
    made_at: Option<u64>,
}

impl Cookies {
    fn renew(&mut self, now: u64) {
        let age = self.made_at.map(|made_at| now.saturating_sub(made_at));
        if age.is_some_and(|age| age < SECRET_AGE) {
            return;
        }
        self.secrets.swap(0, 1);
        fill_random(&mut *self.secrets[0]);
        if age.is_none_or(|age| age >= 2 * SECRET_AGE) {
            fill_random(&mut *self.secrets[1]);
        }
        self.made_at = Some(now);
    }

    /// The cookie of a sender and its random octets.
    pub fn make(&mut self, from: SocketAddr, random: &[u8], now: u64) -> [u8; MAC_SIZE] {
        self.renew(now);
        with(&self.secrets[0], from, random).finalize().into_bytes().into()
    }

    /// Whether it is one of ours that is not over. In constant time.
    pub fn verify(&mut self, from: SocketAddr, random: &[u8], cookie: &[u8], now: u64) -> bool {
        self.renew(now);
        self.secrets.iter().any(|secret| with(secret, from, random).verify_slice(cookie).is_ok())
    }
}

fn with(secret: &[u8; KEY_SIZE], from: SocketAddr, random: &[u8]) -> KeyedMac {
    debug_assert_eq!(random.len(), RANDOM_SIZE);
    let port = from.port().to_be_bytes();
    match from.ip() {
        IpAddr::V4(address) => mac(secret, &[&address.octets(), &port, random]),
        IpAddr::V6(address) => mac(secret, &[&address.octets(), &port, random]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_good_for_its_sender_and_random_octets_and_for_ten_to_twenty_seconds() {
        let mut cookies = Cookies::default();
        let from = SocketAddr::from(([192, 0, 2, 1], 5));
        let cookie = cookies.make(from, &[1; 16], 100 * SECOND);
        assert!(cookies.verify(from, &[1; 16], &cookie, 110 * SECOND));
        assert!(!cookies.verify(from, &[2; 16], &cookie, 110 * SECOND));
        assert!(!cookies.verify(([192, 0, 2, 1], 6).into(), &[1; 16], &cookie, 110 * SECOND));
        assert!(!cookies.verify(([192, 0, 2, 2], 5).into(), &[1; 16], &cookie, 110 * SECOND));
        assert!(!cookies.verify(from, &[1; 16], &cookie, 120 * SECOND));
        let cookie = cookies.make(from, &[1; 16], 120 * SECOND);
        assert!(!cookies.verify(from, &[1; 16], &cookie, 160 * SECOND), "both secrets are gone");
    }
}
