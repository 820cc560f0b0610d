//! Batches whose hashes are made side by side in vectors, when all is ciphertext.

use std::marker::PhantomData;
use std::ptr;

use crate::TAG_SIZE;
use crate::batch::{Blocks, MAX_BATCH, Message, OneTimeKeys, is_equal};
use crate::kernel::{Instructions, Order};
use crate::poly::{self, Field};

/// Hashes in the lanes of `F`.
pub(crate) struct HashesInLanes<F>(PhantomData<F>);

impl<F: Field> Order for HashesInLanes<F> {
    #[inline(always)]
    unsafe fn seal<I: Instructions>(key: &[u32; 8], messages: &mut [Message<'_>]) {
        let mut keys = OneTimeKeys::default();
        let mut blocks = Blocks::<I, ()>::new(key, ());
        // SAFETY: as this function's; what is pushed is next looked at by `tags`.
        let tags = unsafe {
            for (message, place) in messages.iter().zip(&mut keys.0) {
                blocks.push_key(message.counter, place);
            }
            for message in &mut *messages {
                blocks.push_text(message.counter, message.text.as_mut_ptr(), message.text.len());
            }
            blocks.end();
            tags::<F>(&keys, messages)
        };
        for (message, tag) in messages.iter_mut().zip(tags) {
            message.tag = tag;
        }
    }

    #[inline(always)]
    unsafe fn open<I: Instructions>(key: &[u32; 8], messages: &mut [Message<'_>]) {
        let mut keys = OneTimeKeys::default();
        let mut blocks = Blocks::<I, ()>::new(key, ());
        // SAFETY: as this function's; the keys are next looked at by `tags`, the texts by nobody.
        unsafe {
            for (message, place) in messages.iter().zip(&mut keys.0) {
                blocks.push_key(message.counter, place);
            }
            blocks.flush();
            let tags = tags::<F>(&keys, messages);
            for (message, tag) in messages.iter_mut().zip(tags) {
                message.is_authentic = is_equal(&message.tag, &tag);
                if message.is_authentic {
                    blocks.push_text(message.counter, message.text.as_mut_ptr(), message.text.len());
                }
            }
            blocks.end();
        }
    }
}

/// Hash the texts, which are ciphertext.
///
/// # Safety
/// The machine has the kernel.
#[inline(always)]
unsafe fn tags<F: Field>(keys: &OneTimeKeys, messages: &[Message<'_>]) -> [[u8; TAG_SIZE]; MAX_BATCH] {
    let mut texts = [ptr::null(); MAX_BATCH];
    let mut lengths = [0; MAX_BATCH];
    let mut tags = [[0; TAG_SIZE]; MAX_BATCH];
    let count = messages.len().min(MAX_BATCH);
    for (message, (text, length)) in messages.iter().zip(texts.iter_mut().zip(&mut lengths)) {
        (*text, *length) = (message.text.as_ptr(), message.text.len());
    }
    // SAFETY: the caller's for the machine; the pointers are those of slices that are borrowed here.
    unsafe {
        poly::tags::<F>(&keys.0[..count], &texts[..count], &lengths[..count], &mut tags[..count]);
    }
    tags
}
