//! Eight blocks of ChaCha20 in vectors of 256 bits.
#![allow(unsafe_op_in_unsafe_fn, reason = "each line is an instruction, and all ask the same of the CPU")]

use std::arch::asm;
use std::arch::x86_64::*;

use crate::chacha::{BLOCK_SIZE, Beside, Lanes, Words, keystreams};

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
    const HAVE_REGISTERS: bool = false;

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
/// The CPU has AVX2; each lane's text is as long as it says, and no two overlap. As for [`Beside::step`].
#[target_feature(enable = "avx2")]
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

/// XOR the texts of eight lanes.
#[inline(always)]
unsafe fn xor_texts<B: Beside>(lanes: &Lanes, first: usize, x: [__m256i; 16], beside: &mut B) {
    // Within 128 bits first: half q of what `transpose_words` gives at j has four words of lane 4q+j.
    let left = halves(transpose_words([x[0], x[1], x[2], x[3]]), transpose_words([x[4], x[5], x[6], x[7]]));
    let right =
        halves(transpose_words([x[8], x[9], x[10], x[11]]), transpose_words([x[12], x[13], x[14], x[15]]));
    for lane in 0..WIDTH {
        let length = usize::from(lanes.length[first + lane]);
        xor_text(lanes.text[first + lane], length, left[lane], right[lane]);
    }
    beside.xored(&lanes.length[first..first + WIDTH]);
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
