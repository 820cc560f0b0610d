//! Poly1305 in eight lanes with AVX-512 IFMA: limbs of 44, 44 and 42 bits, and products of 52 bits.
#![allow(unsafe_op_in_unsafe_fn, reason = "each line is an instruction, and all ask the same of the CPU")]
#![allow(clippy::incompatible_msrv, reason = "build.rs leaves this module out where the compiler is older")]

use std::arch::x86_64::*;

use crate::avx512::{block_columns, copy_padded};
use crate::poly::{BLOCK_SIZE, Field, LaneSet, MAX_ROW, lanes_with_more, octets, tag};

const MASK_44: i64 = (1 << 44) - 1;
const MASK_42: i64 = (1 << 42) - 1;
/// 2^128, the bit above each block, in the third limb.
const HIGH_BIT: i64 = 1 << 40;

type Limbs = [__m512i; 3];

/// A number to multiply with: its limbs, and the upper two times 20. (2^132 ≡ 20.)
#[derive(Clone, Copy)]
struct Factor {
    r: Limbs,
    s1: __m512i,
    s2: __m512i,
}

/// r, r², r³, r⁴ and what is added in the end.
pub(crate) struct Key {
    powers: [Factor; 4],
    /// What the bits above the blocks of a row come to: 2^128·(r⁴ + r³ + r² + r).
    high_bits: Limbs,
    s_low: __m512i,
    s_high: __m512i,
}

/// The hash of each lane, its limbs a little above their bits.
#[derive(Clone, Copy)]
pub(crate) struct Hash(Limbs);

/// Six sums of products, those of 52 bits and what is above.
struct Products {
    low: Limbs,
    high: Limbs,
}

#[inline(always)]
unsafe fn set1(value: i64) -> __m512i {
    _mm512_set1_epi64(value)
}

/// 128 bits as limbs.
#[inline(always)]
unsafe fn limbs([low, high]: [__m512i; 2]) -> Limbs {
    let mask = set1(MASK_44);
    [
        _mm512_and_si512(low, mask),
        _mm512_and_si512(_mm512_shrdi_epi64::<44>(low, high), mask),
        _mm512_srli_epi64::<24>(high),
    ]
}

#[inline(always)]
unsafe fn block(halves: [__m512i; 2]) -> Limbs {
    let [l0, l1, l2] = limbs(halves);
    [l0, l1, _mm512_or_si512(l2, set1(HIGH_BIT))]
}

impl Factor {
    #[inline(always)]
    unsafe fn new(r: Limbs) -> Self {
        Self { r, s1: times_20(r[1]), s2: times_20(r[2]) }
    }
}

#[inline(always)]
unsafe fn times_20(x: __m512i) -> __m512i {
    _mm512_add_epi64(_mm512_slli_epi64::<4>(x), _mm512_slli_epi64::<2>(x))
}

impl Products {
    #[inline(always)]
    unsafe fn zero() -> Self {
        let zero = _mm512_setzero_si512();
        Self { low: [zero; 3], high: [zero; 3] }
    }

    #[inline(always)]
    unsafe fn add(&mut self, x: &Limbs, factor: &Factor) {
        let Factor { r, s1, s2 } = factor;
        for (i, factors) in
            [[&r[0], s2, s1], [&r[1], &r[0], s2], [&r[2], &r[1], &r[0]]].into_iter().enumerate()
        {
            for (x, factor) in x.iter().zip(factors) {
                self.low[i] = _mm512_madd52lo_epu64(self.low[i], *x, *factor);
                self.high[i] = _mm512_madd52hi_epu64(self.high[i], *x, *factor);
            }
        }
    }

    /// The sum, each limb at most a little above its bits. The carries are taken side by side, then once more from
    /// the first limb, which gets the largest.
    #[inline(always)]
    unsafe fn reduce(self) -> Limbs {
        let Self { low, high } = self;
        let (mask_44, mask_42) = (set1(MASK_44), set1(MASK_42));
        // 2^52 of one limb's weight is 2^8 of the next one's, and 2^140 for the third.
        let d1 = _mm512_add_epi64(low[1], _mm512_slli_epi64::<8>(high[0]));
        let d2 = _mm512_add_epi64(low[2], _mm512_slli_epi64::<8>(high[1]));
        let over = _mm512_add_epi64(_mm512_srli_epi64::<42>(d2), _mm512_slli_epi64::<10>(high[2]));
        let over = _mm512_add_epi64(over, _mm512_slli_epi64::<2>(over));
        let h0 = _mm512_add_epi64(_mm512_and_si512(low[0], mask_44), over);
        let h1 = _mm512_add_epi64(_mm512_and_si512(d1, mask_44), _mm512_srli_epi64::<44>(low[0]));
        let h2 = _mm512_add_epi64(_mm512_and_si512(d2, mask_42), _mm512_srli_epi64::<44>(d1));
        let h1 = _mm512_add_epi64(h1, _mm512_srli_epi64::<44>(h0));
        [_mm512_and_si512(h0, mask_44), h1, h2]
    }
}

#[inline(always)]
unsafe fn multiply(x: &Limbs, factor: &Factor) -> Limbs {
    let mut products = Products::zero();
    products.add(x, factor);
    products.reduce()
}

#[inline(always)]
unsafe fn add(x: &Limbs, y: &Limbs) -> Limbs {
    [_mm512_add_epi64(x[0], y[0]), _mm512_add_epi64(x[1], y[1]), _mm512_add_epi64(x[2], y[2])]
}

impl Field for Hash {
    const WIDTH: usize = 8;
    const ROW: usize = 64;
    type Key = Key;

    #[inline(always)]
    unsafe fn key(keys: *const *const u8) -> Key {
        let [[r_low, r_high], [s_low, s_high]] = block_columns(keys, 0);
        let r = limbs([
            _mm512_and_si512(r_low, set1(0x0fff_fffc_0fff_ffff)),
            _mm512_and_si512(r_high, set1(0x0fff_fffc_0fff_fffc)),
        ]);
        let first = Factor::new(r);
        let second = Factor::new(multiply(&r, &first));
        let third = Factor::new(multiply(&second.r, &first));
        let fourth = Factor::new(multiply(&second.r, &second));
        let powers = [first, second, third, fourth];
        let sum = add(&add(&first.r, &second.r), &add(&third.r, &fourth.r));
        let zero = _mm512_setzero_si512();
        let high_bits = multiply(&sum, &Factor::new([zero, zero, set1(HIGH_BIT)]));
        Key { powers, high_bits, s_low, s_high }
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([_mm512_setzero_si512(); 3])
    }

    /// Four blocks for one reduction: (h + m₀)·r⁴ + m₁·r³ + m₂·r² + m₃·r.
    #[inline(always)]
    unsafe fn absorb_row(self, rows: *const *const u8, key: &Key) -> Self {
        let [first, second, third, fourth] = &key.powers;
        let mut products = Products { low: key.high_bits, high: [_mm512_setzero_si512(); 3] };
        // The hash comes last, since what is before does not wait for it.
        let [block_2, block_3] = block_columns(rows, 1);
        products.add(&limbs(block_3), first);
        products.add(&limbs(block_2), second);
        let [block_0, block_1] = block_columns(rows, 0);
        products.add(&limbs(block_1), third);
        products.add(&add(&self.0, &limbs(block_0)), fourth);
        Self(products.reduce())
    }

    #[inline(always)]
    unsafe fn absorb_rest(mut self, rows: *const *const u8, lengths: *const usize, key: &Key) -> Self {
        let mut padded = [[0_u8; MAX_ROW]; 8];
        let mut at = [padded[0].as_ptr(); 8];
        for (lane, (padded, at)) in padded.iter_mut().zip(&mut at).enumerate() {
            copy_padded(padded.as_mut_ptr(), *rows.add(lane), *lengths.add(lane));
            *at = padded.as_ptr();
        }
        let ([first, second], [third, fourth]) =
            (block_columns(at.as_ptr(), 0), block_columns(at.as_ptr(), 1));
        for (i, halves) in [first, second, third, fourth].into_iter().enumerate() {
            let set = lanes_with_more(lengths, 8, i * BLOCK_SIZE);
            if set == 0 {
                break;
            }
            let next = multiply(&add(&self.0, &block(halves)), &key.powers[0]);
            self = self.select(set, Self(next));
        }
        self
    }

    #[inline(always)]
    unsafe fn absorb_lengths(self, lengths: *const usize, key: &Key) -> Self {
        let lengths = _mm512_loadu_si512(octets(lengths, 8).as_ptr().cast());
        Self(multiply(&add(&self.0, &block([_mm512_setzero_si512(), lengths])), &key.powers[0]))
    }

    #[inline(always)]
    unsafe fn select(self, set: LaneSet, other: Self) -> Self {
        let (x, y, set) = (self.0, other.0, set as u8);
        Self([
            _mm512_mask_mov_epi64(x[0], set, y[0]),
            _mm512_mask_mov_epi64(x[1], set, y[1]),
            _mm512_mask_mov_epi64(x[2], set, y[2]),
        ])
    }

    #[inline(always)]
    unsafe fn finish(self, key: &Key, tags: *mut [u8; 16]) {
        let h = [words(self.0[0]), words(self.0[1]), words(self.0[2])];
        let (s_low, s_high) = (words(key.s_low), words(key.s_high));
        for lane in 0..8 {
            let low = u128::from(h[0][lane]) + (u128::from(h[1][lane]) << 44);
            let (low, carry) = low.overflowing_add(u128::from(h[2][lane]) << 88);
            let top = (h[2][lane] >> 40) + u64::from(carry);
            *tags.add(lane) = tag(low, top, [s_low[lane], s_high[lane]]);
        }
    }
}

#[inline(always)]
unsafe fn words(vector: __m512i) -> [u64; 8] {
    let mut words = [0; 8];
    _mm512_storeu_si512(words.as_mut_ptr().cast(), vector);
    words
}
