//! The ciphers that are compared, each at its best: keys set up beforehand, sealing in place.

use std::hint::black_box;

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use wgpy_aead::{ChaCha20Poly1305, Kernel, MAX_BATCH, Message};

/// Any key does.
const KEY: [u8; 32] = [0x5a; 32];

/// Who seals a batch: texts of one size, one behind the other, with consecutive counters.
pub trait Sealer {
    /// For tables.
    fn name(&self) -> String;
    /// Seal all, and let the tags go.
    fn seal(&mut self, counter: u64, texts: &mut [u8], size: usize);
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

/// One of our kernels, or what a tunnel has: the best one with the library for what that does faster.
struct Ours(Option<Kernel>, ChaCha20Poly1305);

impl Sealer for Ours {
    fn name(&self) -> String {
        self.0.map_or_else(|| "wgpy".into(), |kernel| format!("wgpy {}", kernel.description()))
    }

    fn seal(&mut self, counter: u64, texts: &mut [u8], size: usize) {
        let batches = texts.chunks_mut(size * MAX_BATCH);
        for (batch, first) in batches.zip((counter..).step_by(MAX_BATCH)) {
            let mut messages: [Message<'_>; MAX_BATCH] =
                std::array::from_fn(|_| Message::to_seal(0, &mut []));
            let mut count = 0;
            for ((text, counter), message) in batch.chunks_mut(size).zip(first..).zip(&mut messages) {
                *message = Message::to_seal(counter, text);
                count += 1;
            }
            self.1.seal_batch(&mut messages[..count]);
            black_box(&messages);
        }
    }
}

struct Ring(ring::aead::LessSafeKey);

impl Sealer for Ring {
    fn name(&self) -> String {
        "ring".into()
    }

    fn seal(&mut self, counter: u64, texts: &mut [u8], size: usize) {
        for (text, counter) in texts.chunks_mut(size).zip(counter..) {
            let nonce = ring::aead::Nonce::assume_unique_for_key(nonce(counter));
            let empty = ring::aead::Aad::empty();
            _ = black_box(self.0.seal_in_place_separate_tag(nonce, empty, text).expect("it is short"));
        }
    }
}

struct AwsLc(aws_lc_rs::aead::LessSafeKey);

impl Sealer for AwsLc {
    fn name(&self) -> String {
        "aws-lc-rs".into()
    }

    fn seal(&mut self, counter: u64, texts: &mut [u8], size: usize) {
        for (text, counter) in texts.chunks_mut(size).zip(counter..) {
            let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce(counter));
            let empty = aws_lc_rs::aead::Aad::empty();
            _ = black_box(self.0.seal_in_place_separate_tag(nonce, empty, text).expect("it is short"));
        }
    }
}

struct RustCrypto(chacha20poly1305::ChaCha20Poly1305);

impl Sealer for RustCrypto {
    fn name(&self) -> String {
        "RustCrypto".into()
    }

    fn seal(&mut self, counter: u64, texts: &mut [u8], size: usize) {
        for (text, counter) in texts.chunks_mut(size).zip(counter..) {
            let tag = self.0.encrypt_in_place_detached(&nonce(counter).into(), b"", text);
            _ = black_box(tag.expect("it is short"));
        }
    }
}

/// EVP with its context kept: a new nonce a message.
struct OpenSsl(CipherCtx, Vec<u8>);

impl Sealer for OpenSsl {
    fn name(&self) -> String {
        "OpenSSL".into()
    }

    fn seal(&mut self, counter: u64, texts: &mut [u8], size: usize) {
        let Self(context, out) = self;
        out.resize(size, 0);
        for (text, counter) in texts.chunks_mut(size).zip(counter..) {
            let mut tag = [0; 16];
            context.encrypt_init(None, None, Some(&nonce(counter))).expect("the nonce has the cipher's size");
            context.cipher_update(text, Some(out)).expect("there is room");
            context.cipher_final(&mut []).expect("there is nothing left");
            context.tag(&mut tag).expect("it is made");
        }
    }
}

/// All that this machine can run, ring first: ratios refer to it.
#[must_use]
pub fn sealers() -> Vec<Box<dyn Sealer>> {
    let key = ring::aead::UnboundKey::new(&ring::aead::CHACHA20_POLY1305, &KEY).expect("the key's size");
    let mut all: Vec<Box<dyn Sealer>> = vec![Box::new(Ring(ring::aead::LessSafeKey::new(key)))];
    let key =
        aws_lc_rs::aead::UnboundKey::new(&aws_lc_rs::aead::CHACHA20_POLY1305, &KEY).expect("the key's size");
    all.push(Box::new(AwsLc(aws_lc_rs::aead::LessSafeKey::new(key))));
    all.push(Box::new(RustCrypto(chacha20poly1305::ChaCha20Poly1305::new(&KEY.into()))));
    let mut context = CipherCtx::new().expect("there is memory");
    let cipher = Cipher::chacha20_poly1305();
    context.encrypt_init(Some(cipher), Some(&KEY), None).expect("the key's size");
    all.push(Box::new(OpenSsl(context, Vec::new())));
    let kernels = Kernel::ALL.into_iter().rev().filter(|&kernel| kernel != Kernel::Library);
    for kernel in kernels.filter(|kernel| kernel.is_available()) {
        all.push(Box::new(Ours(Some(kernel), ChaCha20Poly1305::with_kernel(&KEY, kernel))));
    }
    all.push(Box::new(Ours(None, ChaCha20Poly1305::new(&KEY))));
    all
}
