//! ChaCha20-Poly1305 (RFC 8439) as WireGuard's transport data uses it, for many packets in one call.
//!
//! The nonce is 0^32 ‖ LE64(counter). A data plane seals and opens packets by the dozen under one key. Libraries
//! take one at a time, and at packet size most of their cost is set-up and vectors that one packet does not fill.
//! Here the blocks of up to sixteen packets, those of their one-time keys among them, share ChaCha20's vectors
//! ([`chacha`]). Their hashes run side by side in Poly1305's vectors ([`in_lanes`]), or on the scalar units at the same time as
//! ChaCha20 ([`beside`]).
//!
//! [`kernel`] says which instructions are used; [`library`] is ring, for all else: other machines, one packet
//! alone, additional data.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
mod avx512;
mod batch;
#[cfg(target_arch = "x86_64")]
mod beside;
mod chacha;
mod choice;
#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
mod ifma;
mod in_lanes;
mod kernel;
mod library;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
mod poly;
mod poly26;
#[cfg(target_arch = "x86_64")]
mod poly64;
mod scrub;

pub use batch::{MAX_BATCH, Message};
pub use choice::{Choice, chosen};
pub use kernel::Kernel;
pub use scrub::scrub_stack;

use std::sync::OnceLock;

use zeroize::Zeroizing;

use crate::kernel::Functions;
use crate::library::Library;

/// Octets in a key.
pub const KEY_SIZE: usize = 32;
/// Octets in a tag.
pub const TAG_SIZE: usize = 16;

/// A key, ready for use. It is overwritten on drop, and no use of it leaves any of it on the stack.
pub struct ChaCha20Poly1305 {
    /// Made when it is first used: it is a kilobyte, and not every key comes to it.
    library: OnceLock<Library>,
    kernel: Kernel,
    /// Batches that the library does faster are the library's.
    is_picky: bool,
    words: Box<Zeroizing<KeyWords>>,
}

/// A key as ChaCha20 takes it.
pub(crate) type KeyWords = [u32; 8];

impl ChaCha20Poly1305 {
    /// Set up a key for the kernel that [`chosen`] says, and for the library where that is faster.
    #[must_use]
    pub fn new(key: &[u8; KEY_SIZE]) -> Self {
        Self { is_picky: true, ..Self::with_kernel(key, chosen().kernel) }
    }

    /// Set up a key for one kernel and whatever batches. The library takes the place of a kernel that this machine does
    /// not have.
    #[must_use]
    pub fn with_kernel(key: &[u8; KEY_SIZE], kernel: Kernel) -> Self {
        let mut words = Box::new(Zeroizing::new(KeyWords::default()));
        for (word, octets) in words.iter_mut().zip(key.chunks_exact(4)) {
            *word = u32::from_le_bytes([octets[0], octets[1], octets[2], octets[3]]);
        }
        let kernel = if kernel.is_available() { kernel } else { Kernel::Library };
        Self { library: OnceLock::new(), kernel, is_picky: false, words }
    }

    /// Seal each message's text in place and set its tag. No additional data.
    pub fn seal_batch(&self, messages: &mut [Message<'_>]) {
        if cfg!(feature = "null-cipher") {
            return;
        }
        for batch in messages.chunks_mut(MAX_BATCH) {
            match self.functions(batch) {
                // SAFETY: the machine has the kernel, see `with_kernel`.
                Some(functions) => unsafe { (functions.seal)(&self.words, batch) },
                None => {
                    let library = self.library();
                    for message in batch {
                        message.tag = library.seal(message.counter, &[], message.text);
                    }
                    library::scrub_stack();
                }
            }
        }
    }

    /// Open each message's text in place if its tag is right, and say so in `is_authentic`. A text whose tag is
    /// wrong holds nothing of use afterwards. No additional data.
    pub fn open_batch(&self, messages: &mut [Message<'_>]) {
        if cfg!(feature = "null-cipher") {
            return messages.iter_mut().for_each(|message| message.is_authentic = true);
        }
        for batch in messages.chunks_mut(MAX_BATCH) {
            match self.functions(batch) {
                // SAFETY: the machine has the kernel, see `with_kernel`.
                Some(functions) => unsafe { (functions.open)(&self.words, batch) },
                None => {
                    let library = self.library();
                    for message in batch {
                        message.is_authentic = library.open(message.counter, &[], message.text, message.tag);
                    }
                    library::scrub_stack();
                }
            }
        }
    }

    /// What works on a batch; None for the library.
    fn functions(&self, batch: &[Message<'_>]) -> Option<&'static Functions> {
        let octets = || batch.iter().map(|message| message.text.len()).sum();
        if self.is_picky && !self.kernel.is_worthwhile(batch.len(), octets()) {
            return None;
        }
        self.kernel.functions()
    }

    fn library(&self) -> &Library {
        self.library.get_or_init(|| Library::new(&self.words))
    }

    /// Seal one `plaintext` in place and give its tag.
    #[must_use]
    pub fn seal(&self, counter: u64, additional_data: &[u8], plaintext: &mut [u8]) -> [u8; TAG_SIZE] {
        let tag = self.library().seal(counter, additional_data, plaintext);
        library::scrub_stack();
        tag
    }

    /// Open one `sealed` (ciphertext ‖ tag) in place; the plaintext is what precedes the tag. False when the tag is
    /// wrong, and then `sealed` holds nothing of use.
    #[must_use]
    pub fn open(&self, counter: u64, additional_data: &[u8], sealed: &mut [u8]) -> bool {
        let Some((text, tag)) = sealed.split_last_chunk_mut::<TAG_SIZE>() else { return false };
        let is_authentic = self.library().open(counter, additional_data, text, *tag);
        library::scrub_stack();
        is_authentic
    }
}

impl std::fmt::Debug for ChaCha20Poly1305 {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ChaCha20Poly1305").field("kernel", &self.kernel).finish_non_exhaustive()
    }
}
