//! ring's ChaCha20-Poly1305: one message at a time.

use std::mem::MaybeUninit;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};
use zeroize::{Zeroize, Zeroizing};

use crate::{KEY_SIZE, KeyWords, TAG_SIZE};

/// Its key schedule stays at one place on the heap and is overwritten on drop.
pub(crate) struct Library {
    // Initialised by `new` and until `drop`. ring's key has no wiping of its own, MaybeUninit can be
    // overwritten.
    key: Box<MaybeUninit<LessSafeKey>>,
}

impl Library {
    #[cold]
    pub fn new(words: &KeyWords) -> Self {
        let key = Self::place(words);
        crate::scrub_stack::<{ 4 * STACK }>();
        key
    }

    // A frame of its own, dead when it is scrubbed: ring's keys are moved several times.
    #[inline(never)]
    fn place(words: &KeyWords) -> Self {
        let mut octets = Zeroizing::new([0; KEY_SIZE]);
        for (octets, word) in octets.chunks_exact_mut(4).zip(words) {
            octets.copy_from_slice(&word.to_le_bytes());
        }
        let unbound = UnboundKey::new(&CHACHA20_POLY1305, &*octets).expect("the key has the cipher's size");
        let mut place = Box::new(MaybeUninit::uninit());
        place.write(LessSafeKey::new(unbound));
        Self { key: place }
    }

    fn key(&self) -> &LessSafeKey {
        // SAFETY: `new` initialised it, and only `drop` ends that.
        unsafe { self.key.assume_init_ref() }
    }

    pub fn seal(&self, counter: u64, additional_data: &[u8], text: &mut [u8]) -> [u8; TAG_SIZE] {
        let tag = self
            .key()
            .seal_in_place_separate_tag(nonce(counter), Aad::from(additional_data), text)
            .expect("a packet is shorter than ChaCha20's 256 GiB");
        let mut octets = [0; TAG_SIZE];
        octets.copy_from_slice(tag.as_ref());
        octets
    }

    pub fn open(&self, counter: u64, additional_data: &[u8], text: &mut [u8], tag: [u8; TAG_SIZE]) -> bool {
        let additional_data = Aad::from(additional_data);
        self.key()
            .open_in_place_separate_tag(nonce(counter), additional_data, Tag::from(tag), text, 0..)
            .is_ok()
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: it is initialised (see `key`), dropped once, and not used after this.
        unsafe { self.key.assume_init_drop() };
        std::slice::from_mut(&mut *self.key).zeroize();
    }
}

/// Octets of stack that a call of ring's takes at most, as tests/residue.rs finds: 1.2 KiB, more where it is not optimised.
const STACK: usize = if cfg!(debug_assertions) { 4096 } else { 2048 };

/// Overwrite what finished calls left: ring hands its assembler a copy of the key, and that keeps it in vectors.
pub(crate) fn scrub_stack() {
    crate::scrub_stack::<STACK>();
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}
