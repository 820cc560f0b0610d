//! Batches whose hashes are made by the scalar units, one after another, while the vectors are at the rounds.
//!
//! A CPU has both and executes out of order, so the hash costs next to nothing: a few blocks of it stand between any two
//! half rounds of ChaCha20. What is sealed is hashed right after it was enciphered; what is opened, before.

use std::ptr;
use std::slice;

use crate::TAG_SIZE;
use crate::batch::{Blocks, MAX_BATCH, Message, OneTimeKeys, is_equal};
use crate::chacha::Beside;
use crate::kernel::{Instructions, Order};
use crate::poly::{BLOCK_SIZE, KEY_PLACE};
use crate::poly64::Hash;

/// Blocks that are hashed between two half rounds: sixteen blocks of ChaCha20 have 36 such places, and 64 to hash.
const STEP: usize = 2;

/// Hashes on the scalar units.
pub(crate) struct HashesBeside;

impl Order for HashesBeside {
    #[inline(always)]
    unsafe fn seal<I: Instructions>(key: &[u32; 8], messages: &mut [Message<'_>]) {
        let mut keys = OneTimeKeys::default();
        let texts = Texts::of(messages);
        // SAFETY: the texts and keys are borrowed until the end, and used through these pointers alone.
        unsafe {
            let places = keys.0.as_mut_ptr();
            let mut blocks = Blocks::<I, _>::new(key, Hashes::new(places, &texts, Ciphertext::IsMade));
            for (i, message) in messages.iter().enumerate() {
                blocks.push_key(message.counter, places.add(i));
            }
            for (message, &(text, length)) in messages.iter().zip(texts.used()) {
                blocks.push_text(message.counter, text, length);
            }
            blocks.end();
            blocks.beside.catch_up(messages.len());
            for (message, tag) in messages.iter_mut().zip(blocks.beside.tags) {
                message.tag = tag;
            }
        }
    }

    #[inline(always)]
    unsafe fn open<I: Instructions>(key: &[u32; 8], messages: &mut [Message<'_>]) {
        let mut keys = OneTimeKeys::default();
        let texts = Texts::of(messages);
        // SAFETY: as in `seal`. A text is pushed, to be deciphered, when it has been hashed.
        unsafe {
            let places = keys.0.as_mut_ptr();
            let mut blocks = Blocks::<I, _>::new(key, Hashes::new(places, &texts, Ciphertext::IsGiven));
            for (i, message) in messages.iter().enumerate() {
                blocks.push_key(message.counter, places.add(i));
            }
            blocks.flush();
            for (i, (message, &(text, length))) in messages.iter_mut().zip(texts.used()).enumerate() {
                blocks.beside.catch_up(i + 1);
                message.is_authentic = is_equal(&message.tag, &blocks.beside.tags[i]);
                if message.is_authentic {
                    blocks.push_text(message.counter, text, length);
                }
            }
            blocks.end();
        }
    }
}

/// Where the texts of a batch are.
struct Texts {
    all: [(*mut u8, usize); MAX_BATCH],
    count: usize,
}

impl Texts {
    #[inline(always)]
    fn of(messages: &mut [Message<'_>]) -> Self {
        let mut all = [(ptr::null_mut(), 0); MAX_BATCH];
        let count = messages.len().min(MAX_BATCH);
        for (place, message) in all.iter_mut().zip(messages) {
            *place = (message.text.as_mut_ptr(), message.text.len());
        }
        Self { all, count }
    }

    #[inline(always)]
    fn used(&self) -> &[(*mut u8, usize)] {
        &self.all[..self.count]
    }
}

enum Ciphertext {
    /// Sealing: it is there when it has been enciphered.
    IsMade,
    /// Opening: it is there, but the one-time keys are to be made.
    IsGiven,
}

/// The hashes of a batch: some are done, one is on its way, some are to come.
struct Hashes<'a> {
    keys: *const [u8; KEY_PLACE],
    texts: &'a [(*mut u8, usize)],
    tags: [[u8; TAG_SIZE]; MAX_BATCH],
    /// How many tags are made.
    done: usize,
    /// Of the text number `done`, when it has begun.
    hash: Option<Hash>,
    /// What is hashed next: `blocks` whole blocks that are there, and `left` octets behind them.
    at: *const u8,
    blocks: usize,
    left: usize,
    /// Octets behind these blocks, in this text and those after it, that are ciphertext. Keys that are not made yet
    /// count against it.
    there: isize,
    /// Nothing can be done before more is there.
    is_waiting: bool,
}

impl<'a> Hashes<'a> {
    /// # Safety
    /// `keys` and `texts`, as many keys as texts, stay readable while this is used, and are made in their order: keys
    /// first.
    #[inline(always)]
    unsafe fn new(keys: *const [u8; KEY_PLACE], texts: &'a Texts, ciphertext: Ciphertext) -> Self {
        let octets = texts.used().iter().map(|(_, length)| length).sum::<usize>() as isize;
        let missing = (texts.count * KEY_PLACE) as isize;
        Self {
            keys,
            texts: texts.used(),
            tags: [[0; TAG_SIZE]; MAX_BATCH],
            done: 0,
            hash: None,
            at: ptr::null(),
            blocks: 0,
            left: 0,
            there: match ciphertext {
                Ciphertext::IsMade => -missing,
                Ciphertext::IsGiven => octets - missing,
            },
            is_waiting: true,
        }
    }

    /// Take the first `count` of the blocks that are there.
    ///
    /// # Safety
    /// There are as many, and a hash has begun.
    #[inline(always)]
    unsafe fn absorb(&mut self, count: usize) {
        // In registers, since for all that the compiler knows the text could be this.
        let Some(mut hash) = self.hash else { return };
        let mut at = self.at;
        for _ in 0..count {
            // SAFETY: as this function's.
            unsafe {
                hash.absorb(at.cast::<[u8; BLOCK_SIZE]>().read());
                at = at.add(BLOCK_SIZE);
            }
        }
        (self.hash, self.at) = (Some(hash), at);
        self.blocks -= count;
    }

    /// What is not done by whole steps: the end of a text, the beginning of the next one, and what there is of it.
    ///
    /// # Safety
    /// As for [`Self::new`].
    #[cold]
    #[inline(never)]
    unsafe fn turn(&mut self) {
        // SAFETY: as this function's; `there` says what may be read.
        unsafe {
            self.absorb(self.blocks);
            if let Some(hash) = &mut self.hash {
                if self.left < BLOCK_SIZE && self.left as isize <= self.there {
                    let rest = slice::from_raw_parts(self.at, self.left);
                    self.tags[self.done] = hash.finish(rest, self.texts[self.done].1);
                    self.there -= self.left as isize;
                    self.done += 1;
                    self.hash = None;
                }
            }
            if self.hash.is_none() && self.done < self.texts.len() && self.there >= 0 {
                self.hash = Some(Hash::new(&*self.keys.add(self.done)));
                let (text, length) = self.texts[self.done];
                (self.at, self.left) = (text, length);
            }
            if self.hash.is_some() {
                self.blocks = self.left.min(self.there.max(0) as usize) / BLOCK_SIZE;
                self.left -= self.blocks * BLOCK_SIZE;
                self.there -= (self.blocks * BLOCK_SIZE) as isize;
            }
        }
        let can_end = self.hash.is_some() && self.left < BLOCK_SIZE && self.left as isize <= self.there;
        self.is_waiting = self.blocks == 0 && !can_end;
    }

    /// Make the first `count` tags, now.
    ///
    /// # Safety
    /// As for [`Self::new`], and all of what it takes is there.
    #[inline(always)]
    unsafe fn catch_up(&mut self, count: usize) {
        while self.done < count {
            assert!(!self.is_waiting, "what is to be hashed is not there");
            // SAFETY: as this function's.
            unsafe { self.step() };
        }
    }
}

impl Beside for Hashes<'_> {
    #[inline(always)]
    unsafe fn step(&mut self) {
        // SAFETY: who made this keeps what `new` asks for.
        unsafe {
            if self.blocks >= STEP {
                self.absorb(STEP);
            } else if !self.is_waiting {
                self.turn();
            }
        }
    }

    #[inline(always)]
    fn xored(&mut self, lengths: &[u8]) {
        if self.there < 0 || self.done < self.texts.len() {
            self.there += lengths.iter().map(|&length| isize::from(length)).sum::<isize>();
            self.is_waiting = false;
        }
    }
}
