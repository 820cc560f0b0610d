//! Sixteen blocks of ChaCha20 in vectors of 512 bits, and eight lanes of Poly1305.
#![allow(unsafe_op_in_unsafe_fn, reason = "each line is an instruction, and all ask the same of the CPU")]
#![allow(clippy::incompatible_msrv, reason = "build.rs leaves this module out where the compiler is older")]

use std::arch::x86_64::*;

use crate::chacha::{BLOCK_SIZE, Beside, Lanes, Words, keystreams};
use crate::poly::LaneSet;
use crate::poly26::Wide;

/// Blocks that fit side by side.
const WIDTH: usize = 16;

impl Words for __m512i {
    const WIDTH: usize = WIDTH;
    const HAVE_REGISTERS: bool = true;

    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        _mm512_set1_epi32(word as i32)
    }
    #[inline(always)]
    unsafe fn load(words: *const u32) -> Self {
        _mm512_loadu_si512(words.cast())
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        _mm512_add_epi32(self, other)
    }
    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        _mm512_xor_si512(self, other)
    }
    #[inline(always)]
    unsafe fn rotate_left_16(self) -> Self {
        _mm512_rol_epi32::<16>(self)
    }
    #[inline(always)]
    unsafe fn rotate_left_12(self) -> Self {
        _mm512_rol_epi32::<12>(self)
    }
    #[inline(always)]
    unsafe fn rotate_left_8(self) -> Self {
        _mm512_rol_epi32::<8>(self)
    }
    #[inline(always)]
    unsafe fn rotate_left_7(self) -> Self {
        _mm512_rol_epi32::<7>(self)
    }
}

/// XOR all lanes' texts with their keystream.
///
/// # Safety
/// The CPU has AVX-512 F and BW; each lane's text is as long as it says, and no two overlap. As for [`Beside::step`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn xor_lanes<B: Beside>(key: &[u32; 8], lanes: &Lanes, beside: &mut B) {
    let mut first = 0;
    // Two groups at a time fill the vector units where one would wait for each result.
    while lanes.count > first + WIDTH {
        let [one, other] = keystreams::<_, _, 2>(key, lanes, first, beside);
        xor_texts(lanes, first, one, beside);
        xor_texts(lanes, first + WIDTH, other, beside);
        first += 2 * WIDTH;
    }
    if lanes.count > first {
        let [x] = keystreams::<_, _, 1>(key, lanes, first, beside);
        xor_texts(lanes, first, x, beside);
    }
}

/// XOR the texts of sixteen lanes.
#[inline(always)]
unsafe fn xor_texts<B: Beside>(lanes: &Lanes, first: usize, x: [__m512i; 16], beside: &mut B) {
    // Row j of each has in quarter q four words of lane 4q+j.
    let words_0 = transpose_words([x[0], x[1], x[2], x[3]]);
    let words_4 = transpose_words([x[4], x[5], x[6], x[7]]);
    let words_8 = transpose_words([x[8], x[9], x[10], x[11]]);
    let words_12 = transpose_words([x[12], x[13], x[14], x[15]]);
    for j in 0..4 {
        let rows = quarters([words_0[j], words_4[j], words_8[j], words_12[j]]);
        for (q, row) in rows.into_iter().enumerate() {
            let lane = first + 4 * q + j;
            xor_text(lanes.text[lane], usize::from(lanes.length[lane]), row);
        }
    }
    beside.xored(&lanes.length[first..first + WIDTH]);
}

/// Transpose four vectors of four times four words, each quarter by itself.
#[inline(always)]
unsafe fn transpose_words(x: [__m512i; 4]) -> [__m512i; 4] {
    let low_01 = _mm512_unpacklo_epi32(x[0], x[1]);
    let high_01 = _mm512_unpackhi_epi32(x[0], x[1]);
    let low_23 = _mm512_unpacklo_epi32(x[2], x[3]);
    let high_23 = _mm512_unpackhi_epi32(x[2], x[3]);
    [
        _mm512_unpacklo_epi64(low_01, low_23),
        _mm512_unpackhi_epi64(low_01, low_23),
        _mm512_unpacklo_epi64(high_01, high_23),
        _mm512_unpackhi_epi64(high_01, high_23),
    ]
}

/// Transpose four vectors of four quarters.
#[inline(always)]
unsafe fn quarters(x: [__m512i; 4]) -> [__m512i; 4] {
    let even_01 = _mm512_shuffle_i32x4::<0x88>(x[0], x[1]);
    let odd_01 = _mm512_shuffle_i32x4::<0xdd>(x[0], x[1]);
    let even_23 = _mm512_shuffle_i32x4::<0x88>(x[2], x[3]);
    let odd_23 = _mm512_shuffle_i32x4::<0xdd>(x[2], x[3]);
    [
        _mm512_shuffle_i32x4::<0x88>(even_01, even_23),
        _mm512_shuffle_i32x4::<0x88>(odd_01, odd_23),
        _mm512_shuffle_i32x4::<0xdd>(even_01, even_23),
        _mm512_shuffle_i32x4::<0xdd>(odd_01, odd_23),
    ]
}

#[inline(always)]
unsafe fn xor_text(text: *mut u8, length: usize, keystream: __m512i) {
    if length == BLOCK_SIZE {
        let mixed = _mm512_xor_si512(_mm512_loadu_si512(text.cast()), keystream);
        _mm512_storeu_si512(text.cast(), mixed);
    } else if length > 0 {
        // Not with an empty mask: suppressing the fault of a lane without a text takes the CPU longer than the rest.
        let mask = first_octets(length);
        let mixed = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, text.cast()), keystream);
        _mm512_mask_storeu_epi8(text.cast(), mask, mixed);
    }
}

/// A mask of the first octets, less than 64.
#[inline(always)]
fn first_octets(length: usize) -> u64 {
    (1 << length) - 1
}

/// Copy a row of less than 64 octets, zeros behind.
#[inline(always)]
pub(crate) unsafe fn copy_padded(to: *mut u8, from: *const u8, length: usize) {
    _mm512_storeu_si512(to.cast(), _mm512_maskz_loadu_epi8(first_octets(length), from.cast()));
}

impl Wide for __m512i {
    const WIDTH: usize = 8;
    const BLOCKS: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: u64) -> Self {
        _mm512_set1_epi64(value as i64)
    }
    #[inline(always)]
    unsafe fn load(values: *const u64) -> Self {
        _mm512_loadu_si512(values.cast())
    }
    #[inline(always)]
    unsafe fn store(self, values: *mut u64) {
        _mm512_storeu_si512(values.cast(), self);
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        _mm512_add_epi64(self, other)
    }
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        _mm512_and_si512(self, other)
    }
    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        _mm512_or_si512(self, other)
    }
    #[inline(always)]
    unsafe fn multiply(self, other: Self) -> Self {
        _mm512_mul_epu32(self, other)
    }
    #[inline(always)]
    unsafe fn shift_left<const BITS: u32>(self) -> Self {
        _mm512_slli_epi64::<BITS>(self)
    }
    #[inline(always)]
    unsafe fn shift_right<const BITS: u32>(self) -> Self {
        _mm512_srli_epi64::<BITS>(self)
    }
    #[inline(always)]
    unsafe fn select(self, set: LaneSet, other: Self) -> Self {
        _mm512_mask_mov_epi64(self, set as u8, other)
    }
    #[inline(always)]
    unsafe fn columns(rows: *const *const u8) -> [[Self; 2]; 4] {
        let ([first, second], [third, fourth]) = (block_columns(rows, 0), block_columns(rows, 1));
        [first, second, third, fourth]
    }
}

/// The lower and the upper halves of the blocks 2i and 2i+1 of eight rows.
///
/// Half of the work is done by loads: shuffles have to queue for one port of the CPU.
#[inline(always)]
pub(crate) unsafe fn block_columns(rows: *const *const u8, i: usize) -> [[__m512i; 2]; 2] {
    // Blocks of lanes 0 and 2, 1 and 3, and so on, as quarters.
    let even = two_lanes(rows, i);
    let odd = two_lanes(rows.add(1), i);
    let (low_0123, high_0123) = (_mm512_unpacklo_epi64(even, odd), _mm512_unpackhi_epi64(even, odd));
    let even = two_lanes(rows.add(4), i);
    let odd = two_lanes(rows.add(5), i);
    let (low_4567, high_4567) = (_mm512_unpacklo_epi64(even, odd), _mm512_unpackhi_epi64(even, odd));
    let first = [
        _mm512_shuffle_i64x2::<0x88>(low_0123, low_4567),
        _mm512_shuffle_i64x2::<0x88>(high_0123, high_4567),
    ];
    let second = [
        _mm512_shuffle_i64x2::<0xdd>(low_0123, low_4567),
        _mm512_shuffle_i64x2::<0xdd>(high_0123, high_4567),
    ];
    [first, second]
}

/// Two blocks of a row and two of the next but one.
#[inline(always)]
unsafe fn two_lanes(rows: *const *const u8, i: usize) -> __m512i {
    let left = _mm256_loadu_si256((*rows).cast::<__m256i>().add(i));
    let right = _mm256_loadu_si256((*rows.add(2)).cast::<__m256i>().add(i));
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(left), right)
}
