//! Four blocks of ChaCha20 in vectors of 128 bits, and two lanes of Poly1305.
#![allow(unsafe_op_in_unsafe_fn, reason = "each line is an instruction, and all ask the same of the CPU")]

use std::arch::aarch64::*;

use crate::chacha::{BLOCK_SIZE, Beside, Lanes, Words, keystreams};
use crate::poly::LaneSet;
use crate::poly26::Wide;

/// Blocks that fit side by side.
const WIDTH: usize = 4;

/// Octets of each word rotated by 8 bits, as `vqtbl1q_u8` takes it.
const ROTATE_8: [u8; 16] = [3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14];

impl Words for uint32x4_t {
    const WIDTH: usize = WIDTH;
    const HAVE_REGISTERS: bool = true;

    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        vdupq_n_u32(word)
    }
    #[inline(always)]
    unsafe fn load(words: *const u32) -> Self {
        vld1q_u32(words)
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        vaddq_u32(self, other)
    }
    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        veorq_u32(self, other)
    }
    #[inline(always)]
    unsafe fn rotate_left_16(self) -> Self {
        vreinterpretq_u32_u16(vrev32q_u16(vreinterpretq_u16_u32(self)))
    }
    #[inline(always)]
    unsafe fn rotate_left_12(self) -> Self {
        vsriq_n_u32::<20>(vshlq_n_u32::<12>(self), self)
    }
    #[inline(always)]
    unsafe fn rotate_left_8(self) -> Self {
        vreinterpretq_u32_u8(vqtbl1q_u8(vreinterpretq_u8_u32(self), vld1q_u8(ROTATE_8.as_ptr())))
    }
    #[inline(always)]
    unsafe fn rotate_left_7(self) -> Self {
        vsriq_n_u32::<25>(vshlq_n_u32::<7>(self), self)
    }
}

/// XOR all lanes' texts with their keystream.
///
/// # Safety
/// The CPU has NEON; each lane's text is as long as it says, and no two overlap. As for [`Beside::step`].
#[target_feature(enable = "neon")]
pub(crate) unsafe fn xor_lanes<B: Beside>(key: &[u32; 8], lanes: &Lanes, beside: &mut B) {
    for first in (0..lanes.count).step_by(WIDTH) {
        let [x] = keystreams::<uint32x4_t, _, 1>(key, lanes, first, beside);
        // Row j of each has four words of lane j.
        let quarters = [
            transpose_words([x[0], x[1], x[2], x[3]]),
            transpose_words([x[4], x[5], x[6], x[7]]),
            transpose_words([x[8], x[9], x[10], x[11]]),
            transpose_words([x[12], x[13], x[14], x[15]]),
        ];
        for lane in 0..WIDTH {
            let keystream = [quarters[0][lane], quarters[1][lane], quarters[2][lane], quarters[3][lane]];
            xor_text(lanes.text[first + lane], usize::from(lanes.length[first + lane]), keystream);
        }
        beside.xored(&lanes.length[first..first + WIDTH]);
    }
}

/// Transpose four vectors of four words.
#[inline(always)]
unsafe fn transpose_words(x: [uint32x4_t; 4]) -> [uint8x16_t; 4] {
    let even_01 = vreinterpretq_u64_u32(vtrn1q_u32(x[0], x[1]));
    let odd_01 = vreinterpretq_u64_u32(vtrn2q_u32(x[0], x[1]));
    let even_23 = vreinterpretq_u64_u32(vtrn1q_u32(x[2], x[3]));
    let odd_23 = vreinterpretq_u64_u32(vtrn2q_u32(x[2], x[3]));
    [
        vreinterpretq_u8_u64(vtrn1q_u64(even_01, even_23)),
        vreinterpretq_u8_u64(vtrn1q_u64(odd_01, odd_23)),
        vreinterpretq_u8_u64(vtrn2q_u64(even_01, even_23)),
        vreinterpretq_u8_u64(vtrn2q_u64(odd_01, odd_23)),
    ]
}

#[inline(always)]
unsafe fn xor_text(text: *mut u8, length: usize, keystream: [uint8x16_t; 4]) {
    if length == BLOCK_SIZE {
        for (i, keystream) in keystream.into_iter().enumerate() {
            let part = text.add(16 * i);
            vst1q_u8(part, veorq_u8(vld1q_u8(part), keystream));
        }
    } else {
        let mut octets = [0_u8; BLOCK_SIZE];
        for (i, keystream) in keystream.into_iter().enumerate() {
            vst1q_u8(octets.as_mut_ptr().add(16 * i), keystream);
        }
        for (i, keystream) in octets.iter().enumerate().take(length) {
            *text.add(i) ^= keystream;
        }
    }
}

impl Wide for uint64x2_t {
    const WIDTH: usize = 2;
    const BLOCKS: usize = 1;

    #[inline(always)]
    unsafe fn splat(value: u64) -> Self {
        vdupq_n_u64(value)
    }
    #[inline(always)]
    unsafe fn load(values: *const u64) -> Self {
        vld1q_u64(values)
    }
    #[inline(always)]
    unsafe fn store(self, values: *mut u64) {
        vst1q_u64(values, self);
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        vaddq_u64(self, other)
    }
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        vandq_u64(self, other)
    }
    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        vorrq_u64(self, other)
    }
    #[inline(always)]
    unsafe fn multiply(self, other: Self) -> Self {
        vmull_u32(vmovn_u64(self), vmovn_u64(other))
    }
    #[inline(always)]
    unsafe fn shift_left<const BITS: u32>(self) -> Self {
        vshlq_u64(self, vdupq_n_s64(i64::from(BITS)))
    }
    #[inline(always)]
    unsafe fn shift_right<const BITS: u32>(self) -> Self {
        vshlq_u64(self, vdupq_n_s64(-i64::from(BITS)))
    }
    #[inline(always)]
    unsafe fn select(self, set: LaneSet, other: Self) -> Self {
        let lanes = [u64::from(set & 1).wrapping_neg(), u64::from(set >> 1 & 1).wrapping_neg()];
        vbslq_u64(vld1q_u64(lanes.as_ptr()), other, self)
    }
    #[inline(always)]
    unsafe fn columns(rows: *const *const u8) -> [[Self; 2]; 4] {
        let row_0 = vreinterpretq_u64_u8(vld1q_u8(*rows));
        let row_1 = vreinterpretq_u64_u8(vld1q_u8(*rows.add(1)));
        let block = [vtrn1q_u64(row_0, row_1), vtrn2q_u64(row_0, row_1)];
        [block, block, block, block]
    }
}
