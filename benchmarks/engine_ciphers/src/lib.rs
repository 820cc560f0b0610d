//! `rust/aead`'s interface over the library that a feature names: what the engine would be with it.

pub const KEY_SIZE: usize = 32;
pub const TAG_SIZE: usize = 16;
pub const MAX_BATCH: usize = 16;

/// As in `rust/aead`.
pub struct Message<'a> {
    pub counter: u64,
    pub text: &'a mut [u8],
    pub tag: [u8; TAG_SIZE],
    pub is_authentic: bool,
}

impl<'a> Message<'a> {
    #[must_use]
    pub fn to_seal(counter: u64, text: &'a mut [u8]) -> Self {
        Self { counter, text, tag: [0; TAG_SIZE], is_authentic: false }
    }

    #[must_use]
    pub fn to_open(counter: u64, sealed: &'a mut [u8]) -> Option<Self> {
        let (text, tag) = sealed.split_last_chunk_mut::<TAG_SIZE>()?;
        Some(Self { counter, text, tag: *tag, is_authentic: false })
    }
}

/// What `wgpy doctor` and the log say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel;

impl Kernel {
    #[must_use]
    pub fn name(self) -> &'static str {
        library::NAME
    }

    #[must_use]
    pub fn description(self) -> &'static str {
        library::NAME
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Choice {
    pub kernel: Kernel,
    pub warning: Option<String>,
}

pub fn chosen() -> &'static Choice {
    &Choice { kernel: Kernel, warning: None }
}

#[derive(Debug)]
pub struct ChaCha20Poly1305(library::Key);

impl ChaCha20Poly1305 {
    #[must_use]
    pub fn new(key: &[u8; KEY_SIZE]) -> Self {
        Self(library::key(key))
    }

    pub fn seal_batch(&self, messages: &mut [Message<'_>]) {
        for message in messages {
            message.tag = self.seal(message.counter, &[], message.text);
        }
    }

    pub fn open_batch(&self, messages: &mut [Message<'_>]) {
        for message in messages {
            message.is_authentic =
                library::open(&self.0, nonce(message.counter), &[], message.text, message.tag);
        }
    }

    #[must_use]
    pub fn seal(&self, counter: u64, additional_data: &[u8], plaintext: &mut [u8]) -> [u8; TAG_SIZE] {
        library::seal(&self.0, nonce(counter), additional_data, plaintext)
    }

    #[must_use]
    pub fn open(&self, counter: u64, additional_data: &[u8], sealed: &mut [u8]) -> bool {
        let Some((text, tag)) = sealed.split_last_chunk_mut::<TAG_SIZE>() else { return false };
        library::open(&self.0, nonce(counter), additional_data, text, *tag)
    }
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

#[cfg(feature = "aws-lc-rs")]
mod library {
    use std::cell::RefCell;

    use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

    pub const NAME: &str = "aws-lc-rs";
    pub type Key = LessSafeKey;

    pub fn key(key: &[u8; 32]) -> Key {
        LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has the cipher's size"))
    }

    pub fn seal(key: &Key, nonce: [u8; 12], additional: &[u8], text: &mut [u8]) -> [u8; 16] {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(additional), text).expect("it is short");
        tag.as_ref().try_into().expect("a tag has 16 octets")
    }

    pub fn open(key: &Key, nonce: [u8; 12], additional: &[u8], text: &mut [u8], tag: [u8; 16]) -> bool {
        // It takes a tag apart from its text only when it writes elsewhere. The copy is one part in thirty.
        thread_local!(static SEALED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
        let nonce = Nonce::assume_unique_for_key(nonce);
        SEALED.with_borrow_mut(|sealed| {
            sealed.clear();
            sealed.extend_from_slice(text);
            key.open_separate_gather(nonce, Aad::from(additional), sealed, &tag, text).is_ok()
        })
    }
}

#[cfg(feature = "rustcrypto")]
mod library {
    use chacha20poly1305::aead::{AeadInOut, KeyInit};

    pub const NAME: &str = if cfg!(chacha20_avx512) { "RustCrypto AVX-512" } else { "RustCrypto" };
    pub type Key = chacha20poly1305::ChaCha20Poly1305;

    pub fn key(key: &[u8; 32]) -> Key {
        Key::new(&(*key).into())
    }

    pub fn seal(key: &Key, nonce: [u8; 12], additional: &[u8], text: &mut [u8]) -> [u8; 16] {
        key.encrypt_inout_detached(&nonce.into(), additional, text.into()).expect("it is short").into()
    }

    pub fn open(key: &Key, nonce: [u8; 12], additional: &[u8], text: &mut [u8], tag: [u8; 16]) -> bool {
        key.decrypt_inout_detached(&nonce.into(), additional, text.into(), &tag.into()).is_ok()
    }
}
