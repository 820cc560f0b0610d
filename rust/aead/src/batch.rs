//! Several messages under one key: which blocks share a vector.

use std::hint::black_box;
use std::marker::PhantomData;

use crate::TAG_SIZE;
use crate::chacha::{BLOCK_SIZE, Beside, Lanes};
use crate::kernel::Instructions;
use crate::poly::KEY_PLACE;
use crate::scrub::scrub_stack;

/// Messages that are worked on together: with a common MTU they fit into a first-level cache.
pub const MAX_BATCH: usize = 16;

/// Octets of stack that a kernel takes at most for its lanes; tests/residue.rs finds out.
const KERNEL_STACK: usize = 4096;

/// A message to be sealed, or to be opened.
pub struct Message<'a> {
    /// Of the nonce.
    pub counter: u64,
    /// Plaintext before, ciphertext after, or the other way round.
    pub text: &'a mut [u8],
    /// Made by sealing, compared by opening.
    pub tag: [u8; TAG_SIZE],
    /// Said by opening.
    pub is_authentic: bool,
}

impl<'a> Message<'a> {
    /// A message to be sealed.
    #[must_use]
    pub fn to_seal(counter: u64, text: &'a mut [u8]) -> Self {
        Self { counter, text, tag: [0; TAG_SIZE], is_authentic: false }
    }

    /// A message to be opened: `sealed` is ciphertext ‖ tag. None when that is too short for a tag.
    #[must_use]
    pub fn to_open(counter: u64, sealed: &'a mut [u8]) -> Option<Self> {
        let (text, tag) = sealed.split_last_chunk_mut::<TAG_SIZE>()?;
        Some(Self { counter, text, tag: *tag, is_authentic: false })
    }
}

/// One-time keys of a batch, each the first half of block 0. They are overwritten on drop.
#[repr(align(64))]
pub(crate) struct OneTimeKeys(pub [[u8; KEY_PLACE]; MAX_BATCH]);

impl Drop for OneTimeKeys {
    fn drop(&mut self) {
        // As vectors, which zeroize's writes of one octet are not; the fence of `black_box` keeps them.
        self.0 = [[0; KEY_PLACE]; MAX_BATCH];
        black_box(&mut self.0);
    }
}

impl Default for OneTimeKeys {
    fn default() -> Self {
        Self([[0; KEY_PLACE]; MAX_BATCH])
    }
}

/// Blocks on their way to the kernel, which is called for as many as it has lanes.
pub(crate) struct Blocks<'a, I, B> {
    key: &'a [u32; 8],
    lanes: Lanes,
    /// What is done meanwhile.
    pub beside: B,
    instructions: PhantomData<I>,
}

impl<'a, I: Instructions, B: Beside> Blocks<'a, I, B> {
    #[inline(always)]
    pub fn new(key: &'a [u32; 8], beside: B) -> Self {
        Self { key, lanes: Lanes::new(), beside, instructions: PhantomData }
    }

    /// Block 0 of a message's keystream, into its place, which is all zeros.
    ///
    /// # Safety
    /// The machine has the kernel; what is pushed may be written until the flush, and nobody but `beside` looks at
    /// it before. So for all of these.
    #[inline(always)]
    pub unsafe fn push_key(&mut self, counter: u64, place: *mut [u8; KEY_PLACE]) {
        self.lanes.push_block(counter, 0, place.cast(), KEY_PLACE);
        if self.lanes.is_full() {
            // SAFETY: as this function's.
            unsafe { self.flush() };
        }
    }

    /// A text of `length` octets, with the blocks from 1.
    #[inline(always)]
    pub unsafe fn push_text(&mut self, counter: u64, text: *mut u8, length: usize) {
        let (mut block, mut at) = (1, 0);
        while at < length {
            // SAFETY: `at` is within the text.
            let covered = self.lanes.push(counter, block, unsafe { text.add(at) }, length - at);
            at += covered;
            block = block.wrapping_add((covered / BLOCK_SIZE) as u32);
            if self.lanes.is_full() {
                // SAFETY: as this function's.
                unsafe { self.flush() };
            }
        }
    }

    #[inline(always)]
    pub unsafe fn flush(&mut self) {
        if self.lanes.count == 0 {
            return;
        }
        self.lanes.end();
        // SAFETY: as this function's; each lane's text is a part of a text or place that was lent to `push_*`.
        unsafe { I::xor_lanes(self.key, &self.lanes, &mut self.beside) };
        self.lanes.clear();
    }

    /// The last flush. What kernels left on the stack is overwritten: the key's words, in vectors for which there was no
    /// register.
    #[inline(always)]
    pub unsafe fn end(&mut self) {
        // SAFETY: as this function's.
        unsafe { self.flush() };
        scrub_stack::<KERNEL_STACK>();
    }
}

/// In constant time.
pub(crate) fn is_equal(one: &[u8; TAG_SIZE], other: &[u8; TAG_SIZE]) -> bool {
    black_box(u128::from_le_bytes(*one) ^ u128::from_le_bytes(*other)) == 0
}
