//! Poly1305 (RFC 8439 §2.5) of one text by the CPU's own products of 64 bits, which leaves its vectors to others.

use crate::poly::{BLOCK_SIZE, KEY_PLACE, tag};

/// A hash on its way: `low` + 2^128·`top` + `carry`.
#[derive(Clone, Copy)]
pub(crate) struct Hash {
    low: u128,
    top: u64,
    /// What the last reduction is still to add. The next block is added meanwhile, and does not wait for it.
    carry: u64,
    r: [u64; 2],
    /// 5/4 of the upper half of r, whose two lowest bits are zero. (2^130 ≡ 5, so 2^128 times it is this.)
    s: u64,
    /// What is added in the end.
    end: [u64; 2],
}

impl Hash {
    /// Begin with a one-time key.
    #[inline(always)]
    pub fn new(key: &[u8; KEY_PLACE]) -> Self {
        let mut words = [0; 4];
        for (word, octets) in words.iter_mut().zip(key.chunks_exact(8)) {
            *word = octets.iter().rev().fold(0, |word, &octet| word << 8 | u64::from(octet));
        }
        let r = [words[0] & 0x0fff_fffc_0fff_ffff, words[1] & 0x0fff_fffc_0fff_fffc];
        Self { low: 0, top: 0, carry: 0, r, s: r[1] + (r[1] >> 2), end: [words[2], words[3]] }
    }

    /// Take a block: h = (h + m + 2^128)·r.
    #[inline(always)]
    pub fn absorb(&mut self, block: [u8; BLOCK_SIZE]) {
        let wide = |x: u64, y: u64| u128::from(x) * u128::from(y);
        let ([r0, r1], s) = (self.r, self.s);
        let (low, first) = self.low.overflowing_add(u128::from_le_bytes(block));
        let (low, second) = low.overflowing_add(u128::from(self.carry));
        // At most 6: what is multiplied with it stays below 2^64.
        let h2 = self.top + 1 + u64::from(first) + u64::from(second);
        let (h0, h1) = (low as u64, (low >> 64) as u64);
        // r and s have at most 61 bits, so no sum reaches 2^127.
        let d0 = wide(h0, r0) + wide(h1, s);
        let d1 = wide(h0, r1) + u128::from(h2 * s) + wide(h1, r0) + (d0 >> 64);
        let d2 = h2 * r0 + (d1 >> 64) as u64;
        self.low = u128::from(d0 as u64) | d1 << 64;
        self.top = d2 & 3;
        // Five times what is above 2^130.
        self.carry = (d2 >> 2) + (d2 & !3);
    }

    /// Take the last octets of a text, less than a block, and its length; there is no additional data. The tag.
    #[inline(always)]
    pub fn finish(&mut self, rest: &[u8], length: usize) -> [u8; 16] {
        if !rest.is_empty() {
            let mut block = [0; BLOCK_SIZE];
            block[..rest.len()].copy_from_slice(rest);
            self.absorb(block);
        }
        self.absorb((u128::from(length as u64) << 64).to_le_bytes());
        let (low, carry) = self.low.overflowing_add(u128::from(self.carry));
        tag(low, self.top + u64::from(carry), self.end)
    }
}
