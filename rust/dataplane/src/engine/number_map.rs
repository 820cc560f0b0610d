//! A hash for numbers that we chose ourselves, peer ids and random indices: one multiplication.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Fibonacci hashing. Not for numbers that a stranger chooses.
#[derive(Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for &octet in octets {
            self.write_u32(octet.into());
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Keyed by a number of ours.
pub type NumberMap<V> = HashMap<u32, V, BuildHasherDefault<NumberHasher>>;
