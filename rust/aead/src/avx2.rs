//! Eight blocks of ChaCha20 in vectors of 256 bits, and four lanes of Poly1305.
#![allow(unsafe_op_in_unsafe_fn, reason = "each line is an instruction, and all ask the same of the CPU")]

use std::arch::asm;
use std::arch::x86_64::*;

use crate::chacha::{BLOCK_SIZE, Lanes, Words, keystreams};
use crate::poly::LaneSet;
use crate::poly26::Wide;

/// Blocks that fit side by side.
const WIDTH: usize = 8;

/// Octets of each word rotated by 16 and by 8 bits, as `vpshufb` takes it.
#[repr(C, align(32))]
struct Octets([u8; 32]);
static ROTATE_16: Octets = Octets([
    2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12,
    13,
]);
static ROTATE_8: Octets = Octets([
    3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14, 3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13,
    14,
]);

/// `_mm256_shuffle_epi8`, as it is: the compiler, which sees what is shuffled, would make two instructions of it.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn shuffle(words: __m256i, octets: &Octets) -> __m256i {
    let shuffled;
    asm!(
        "vpshufb {}, {}, ymmword ptr [{}]",
        lateout(ymm_reg) shuffled, in(ymm_reg) words, in(reg) octets,
        options(pure, readonly, nostack, preserves_flags),
    );
    shuffled
}

impl Words for __m256i {
    const WIDTH: usize = WIDTH;

    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        _mm256_set1_epi32(word as i32)
    }
    #[inline(always)]
    unsafe fn load(words: *const u32) -> Self {
        _mm256_loadu_si256(words.cast())
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        _mm256_add_epi32(self, other)
    }
    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        _mm256_xor_si256(self, other)
    }
    #[inline(always)]
    unsafe fn rotate_left_16(self) -> Self {
        shuffle(self, &ROTATE_16)
    }
    #[inline(always)]
    unsafe fn rotate_left_12(self) -> Self {
        _mm256_or_si256(_mm256_slli_epi32::<12>(self), _mm256_srli_epi32::<20>(self))
    }
    #[inline(always)]
    unsafe fn rotate_left_8(self) -> Self {
        shuffle(self, &ROTATE_8)
    }
    #[inline(always)]
    unsafe fn rotate_left_7(self) -> Self {
        _mm256_or_si256(_mm256_slli_epi32::<7>(self), _mm256_srli_epi32::<25>(self))
    }
}

/// XOR all lanes' texts with their keystream.
///
/// # Safety
/// The CPU has AVX2; each lane's text is as long as it says, and no two overlap.
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn xor_lanes(key: &[u32; 8], lanes: &Lanes) {
    for first in (0..lanes.count).step_by(WIDTH) {
        let [x] = keystreams::<__m256i, 1>(key, lanes, first);
        // Within 128 bits first: half q of what `transpose_words` gives at j has four words of lane 4q+j.
        let left =
            halves(transpose_words([x[0], x[1], x[2], x[3]]), transpose_words([x[4], x[5], x[6], x[7]]));
        let right = halves(
            transpose_words([x[8], x[9], x[10], x[11]]),
            transpose_words([x[12], x[13], x[14], x[15]]),
        );
        for lane in 0..WIDTH {
            let length = usize::from(lanes.length[first + lane]);
            xor_text(lanes.text[first + lane], length, left[lane], right[lane]);
        }
    }
}

/// Transpose four vectors of twice four words, each half by itself.
#[inline(always)]
unsafe fn transpose_words(x: [__m256i; 4]) -> [__m256i; 4] {
    let low_01 = _mm256_unpacklo_epi32(x[0], x[1]);
    let high_01 = _mm256_unpackhi_epi32(x[0], x[1]);
    let low_23 = _mm256_unpacklo_epi32(x[2], x[3]);
    let high_23 = _mm256_unpackhi_epi32(x[2], x[3]);
    [
        _mm256_unpacklo_epi64(low_01, low_23),
        _mm256_unpackhi_epi64(low_01, low_23),
        _mm256_unpacklo_epi64(high_01, high_23),
        _mm256_unpackhi_epi64(high_01, high_23),
    ]
}

/// The eight rows of 32 octets of which `a` and `b` have the halves.
#[inline(always)]
unsafe fn halves(a: [__m256i; 4], b: [__m256i; 4]) -> [__m256i; 8] {
    [
        _mm256_permute2x128_si256::<0x20>(a[0], b[0]),
        _mm256_permute2x128_si256::<0x20>(a[1], b[1]),
        _mm256_permute2x128_si256::<0x20>(a[2], b[2]),
        _mm256_permute2x128_si256::<0x20>(a[3], b[3]),
        _mm256_permute2x128_si256::<0x31>(a[0], b[0]),
        _mm256_permute2x128_si256::<0x31>(a[1], b[1]),
        _mm256_permute2x128_si256::<0x31>(a[2], b[2]),
        _mm256_permute2x128_si256::<0x31>(a[3], b[3]),
    ]
}

#[inline(always)]
unsafe fn xor_text(text: *mut u8, length: usize, left: __m256i, right: __m256i) {
    if length == BLOCK_SIZE {
        let (first, second) = (text.cast::<__m256i>(), text.cast::<__m256i>().add(1));
        _mm256_storeu_si256(first, _mm256_xor_si256(_mm256_loadu_si256(first), left));
        _mm256_storeu_si256(second, _mm256_xor_si256(_mm256_loadu_si256(second), right));
    } else {
        let mut keystream = [0_u8; BLOCK_SIZE];
        _mm256_storeu_si256(keystream.as_mut_ptr().cast(), left);
        _mm256_storeu_si256(keystream.as_mut_ptr().cast::<__m256i>().add(1), right);
        for (i, keystream) in keystream.iter().enumerate().take(length) {
            *text.add(i) ^= keystream;
        }
    }
}

impl Wide for __m256i {
    const WIDTH: usize = 4;
    const BLOCKS: usize = 2;

    #[inline(always)]
    unsafe fn splat(value: u64) -> Self {
        _mm256_set1_epi64x(value as i64)
    }
    #[inline(always)]
    unsafe fn load(values: *const u64) -> Self {
        _mm256_loadu_si256(values.cast())
    }
    #[inline(always)]
    unsafe fn store(self, values: *mut u64) {
        _mm256_storeu_si256(values.cast(), self);
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        _mm256_add_epi64(self, other)
    }
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        _mm256_and_si256(self, other)
    }
    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        _mm256_or_si256(self, other)
    }
    #[inline(always)]
    unsafe fn multiply(self, other: Self) -> Self {
        _mm256_mul_epu32(self, other)
    }
    #[inline(always)]
    unsafe fn shift_left<const BITS: u32>(self) -> Self {
        _mm256_sll_epi64(self, _mm_cvtsi32_si128(BITS as i32))
    }
    #[inline(always)]
    unsafe fn shift_right<const BITS: u32>(self) -> Self {
        _mm256_srl_epi64(self, _mm_cvtsi32_si128(BITS as i32))
    }
    #[inline(always)]
    unsafe fn select(self, set: LaneSet, other: Self) -> Self {
        let bits = _mm256_set_epi64x(8, 4, 2, 1);
        let chosen = _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x(i64::from(set)), bits), bits);
        _mm256_blendv_epi8(self, other, chosen)
    }
    #[inline(always)]
    unsafe fn columns(rows: *const *const u8) -> [[Self; 2]; 4] {
        let row_0 = _mm256_loadu_si256((*rows).cast());
        let row_1 = _mm256_loadu_si256((*rows.add(1)).cast());
        let row_2 = _mm256_loadu_si256((*rows.add(2)).cast());
        let row_3 = _mm256_loadu_si256((*rows.add(3)).cast());
        // Lower and upper halves of both blocks, of two lanes each.
        let low_01 = _mm256_unpacklo_epi64(row_0, row_1);
        let high_01 = _mm256_unpackhi_epi64(row_0, row_1);
        let low_23 = _mm256_unpacklo_epi64(row_2, row_3);
        let high_23 = _mm256_unpackhi_epi64(row_2, row_3);
        let first = [
            _mm256_permute2x128_si256::<0x20>(low_01, low_23),
            _mm256_permute2x128_si256::<0x20>(high_01, high_23),
        ];
        let second = [
            _mm256_permute2x128_si256::<0x31>(low_01, low_23),
            _mm256_permute2x128_si256::<0x31>(high_01, high_23),
        ];
        [first, second, first, second]
    }
}
