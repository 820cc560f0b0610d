//! Several messages under one key: which blocks share a vector, and what is hashed when.

use std::hint::black_box;
use std::marker::PhantomData;
use std::ptr;

use crate::TAG_SIZE;
use crate::chacha::{BLOCK_SIZE, Lanes};
use crate::kernel::Instructions;
use crate::poly::{self, KEY_PLACE};

/// Messages that are worked on together: with a common MTU they fit into a first-level cache.
pub const MAX_BATCH: usize = 16;

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
struct OneTimeKeys([[u8; KEY_PLACE]; MAX_BATCH]);

impl Drop for OneTimeKeys {
    fn drop(&mut self) {
        // As vectors, which zeroize's writes of one octet are not; the fence of `black_box` keeps them.
        self.0 = [[0; KEY_PLACE]; MAX_BATCH];
        black_box(&mut self.0);
    }
}

/// Blocks on their way to the kernel, which is called for as many as it has lanes.
struct Blocks<'a, I> {
    key: &'a [u32; 8],
    lanes: Lanes,
    instructions: PhantomData<I>,
}

impl<'a, I: Instructions> Blocks<'a, I> {
    #[inline(always)]
    fn new(key: &'a [u32; 8]) -> Self {
        Self { key, lanes: Lanes::new(), instructions: PhantomData }
    }

    /// Block 0 of a message's keystream, into its place.
    ///
    /// # Safety
    /// The machine has the kernel, and nobody looks at what is pushed before the flush; so for all of these.
    #[inline(always)]
    unsafe fn push_key(&mut self, counter: u64, place: &mut [u8; KEY_PLACE]) {
        self.lanes.push_block(counter, 0, place.as_mut_ptr(), KEY_PLACE);
        if self.lanes.is_full() {
            // SAFETY: as this function's.
            unsafe { self.flush() };
        }
    }

    /// A text, with the blocks from 1.
    #[inline(always)]
    unsafe fn push_text(&mut self, counter: u64, text: &mut [u8]) {
        let (start, length) = (text.as_mut_ptr(), text.len());
        let (mut block, mut at) = (1, 0);
        while at < length {
            // SAFETY: `at` is within the text.
            let covered = self.lanes.push(counter, block, unsafe { start.add(at) }, length - at);
            at += covered;
            block = block.wrapping_add((covered / BLOCK_SIZE) as u32);
            if self.lanes.is_full() {
                // SAFETY: as this function's.
                unsafe { self.flush() };
            }
        }
    }

    #[inline(always)]
    unsafe fn flush(&mut self) {
        if self.lanes.count == 0 {
            return;
        }
        self.lanes.end();
        // SAFETY: as this function's; each lane's text is a part of a text or place that was lent to `push_*`.
        unsafe { I::xor_lanes(self.key, &self.lanes) };
        self.lanes.clear();
    }
}

/// Hash the texts, which are ciphertext.
///
/// # Safety
/// The machine has the kernel.
#[inline(always)]
unsafe fn tags<I: Instructions>(keys: &OneTimeKeys, messages: &[Message<'_>]) -> [[u8; TAG_SIZE]; MAX_BATCH] {
    let mut texts = [ptr::null(); MAX_BATCH];
    let mut lengths = [0; MAX_BATCH];
    let mut tags = [[0; TAG_SIZE]; MAX_BATCH];
    let count = messages.len().min(MAX_BATCH);
    for (message, (text, length)) in messages.iter().zip(texts.iter_mut().zip(&mut lengths)) {
        (*text, *length) = (message.text.as_ptr(), message.text.len());
    }
    // SAFETY: the caller's for the machine; the pointers are those of slices that are borrowed here.
    unsafe {
        poly::tags::<I::Field>(&keys.0[..count], &texts[..count], &lengths[..count], &mut tags[..count]);
    }
    tags
}

/// Seal at most [`MAX_BATCH`] messages.
///
/// # Safety
/// The machine has the kernel.
#[inline(always)]
pub(crate) unsafe fn seal<I: Instructions>(key: &[u32; 8], messages: &mut [Message<'_>]) {
    let mut keys = OneTimeKeys([[0; KEY_PLACE]; MAX_BATCH]);
    let mut blocks = Blocks::<I>::new(key);
    // SAFETY: as this function's; what is pushed is next looked at by `tags`.
    let tags = unsafe {
        for (message, place) in messages.iter().zip(&mut keys.0) {
            blocks.push_key(message.counter, place);
        }
        for message in &mut *messages {
            blocks.push_text(message.counter, message.text);
        }
        blocks.flush();
        tags::<I>(&keys, messages)
    };
    for (message, tag) in messages.iter_mut().zip(tags) {
        message.tag = tag;
    }
}

/// Open at most [`MAX_BATCH`] messages. What is not authentic stays ciphertext.
///
/// # Safety
/// The machine has the kernel.
#[inline(always)]
pub(crate) unsafe fn open<I: Instructions>(key: &[u32; 8], messages: &mut [Message<'_>]) {
    let mut keys = OneTimeKeys([[0; KEY_PLACE]; MAX_BATCH]);
    let mut blocks = Blocks::<I>::new(key);
    // SAFETY: as this function's; the keys are next looked at by `tags`, the texts by nobody.
    unsafe {
        for (message, place) in messages.iter().zip(&mut keys.0) {
            blocks.push_key(message.counter, place);
        }
        blocks.flush();
        let tags = tags::<I>(&keys, messages);
        for (message, tag) in messages.iter_mut().zip(tags) {
            message.is_authentic = is_equal(&message.tag, &tag);
            if message.is_authentic {
                blocks.push_text(message.counter, message.text);
            }
        }
        blocks.flush();
    }
}

/// In constant time.
fn is_equal(one: &[u8; TAG_SIZE], other: &[u8; TAG_SIZE]) -> bool {
    black_box(u128::from_le_bytes(*one) ^ u128::from_le_bytes(*other)) == 0
}
