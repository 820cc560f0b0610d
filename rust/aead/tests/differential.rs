//! Every kernel that this machine has, against two libraries that know nothing of each other: ring and RustCrypto.

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305 as RustCrypto, Nonce};
use wgpy_aead::{ChaCha20Poly1305, Kernel, Message, TAG_SIZE};

/// SplitMix64: enough to choose lengths and octets, and the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

fn kernels() -> impl Iterator<Item = Kernel> {
    Kernel::ALL.into_iter().filter(|kernel| {
        if !kernel.is_available() {
            eprintln!("skipped: this machine has no {}", kernel.description());
        }
        kernel.is_available()
    })
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce.into()
}

/// One sealed text by RustCrypto.
fn sealed_by_rust_crypto(key: &[u8; 32], counter: u64, text: &[u8]) -> (Vec<u8>, [u8; TAG_SIZE]) {
    let mut sealed = text.to_vec();
    let tag =
        RustCrypto::new(key.into()).encrypt_in_place_detached(&nonce(counter), b"", &mut sealed).unwrap();
    (sealed, tag.into())
}

/// Texts of a batch with their counters, each somewhere in a buffer of its own, and what must not be touched around.
struct Batch {
    counters: Vec<u64>,
    plain: Vec<Vec<u8>>,
    sealed: Vec<Vec<u8>>,
    tags: Vec<[u8; TAG_SIZE]>,
    offsets: Vec<usize>,
}

impl Batch {
    fn new(random: &mut Random, key: &[u8; 32], lengths: &[usize]) -> Self {
        let ring = ChaCha20Poly1305::with_kernel(key, Kernel::Library);
        let mut batch =
            Self { counters: vec![], plain: vec![], sealed: vec![], tags: vec![], offsets: vec![] };
        for &length in lengths {
            let counter = random.next();
            let plain = random.bytes(length);
            let mut sealed = plain.clone();
            let tag = ring.seal(counter, &[], &mut sealed);
            assert_eq!(
                (sealed.clone(), tag),
                sealed_by_rust_crypto(key, counter, &plain),
                "the two libraries differ"
            );
            batch.counters.push(counter);
            batch.plain.push(plain);
            batch.sealed.push(sealed);
            batch.tags.push(tag);
            batch.offsets.push(random.below(65));
        }
        batch
    }

    /// Run `work` over the texts, each misaligned by its offset and between octets that must stay.
    fn with_messages(
        &self,
        texts: &[Vec<u8>],
        tags: &[[u8; TAG_SIZE]],
        work: impl FnOnce(&mut [Message<'_>]),
    ) -> Vec<(Vec<u8>, [u8; TAG_SIZE], bool)> {
        let mut places: Vec<Vec<u8>> = texts
            .iter()
            .zip(&self.offsets)
            .map(|(text, offset)| [&vec![0xa5; *offset][..], text, &[0x5a; 70][..]].concat())
            .collect();
        let mut messages: Vec<Message<'_>> = places
            .iter_mut()
            .enumerate()
            .map(|(i, place)| Message {
                counter: self.counters[i],
                text: &mut place[self.offsets[i]..][..texts[i].len()],
                tag: tags[i],
                is_authentic: false,
            })
            .collect();
        work(&mut messages);
        let said: Vec<_> = messages.iter().map(|message| (message.tag, message.is_authentic)).collect();
        places
            .into_iter()
            .zip(&self.offsets)
            .zip(said)
            .map(|((place, offset), (tag, is_authentic))| {
                let (before, rest) = place.split_at(*offset);
                let (text, after) = rest.split_at(rest.len() - 70);
                assert!(before.iter().all(|octet| *octet == 0xa5), "octets before a text were written");
                assert!(after.iter().all(|octet| *octet == 0x5a), "octets behind a text were written");
                (text.to_vec(), tag, is_authentic)
            })
            .collect()
    }

    fn check(&self, random: &mut Random, cipher: &ChaCha20Poly1305, name: &str) {
        let zeros = vec![[0; TAG_SIZE]; self.plain.len()];
        let sealed = self.with_messages(&self.plain, &zeros, |messages| cipher.seal_batch(messages));
        for (i, (text, tag, _)) in sealed.iter().enumerate() {
            assert!(
                *text == self.sealed[i] && *tag == self.tags[i],
                "{name} seals {i} of {} wrongly",
                sealed.len()
            );
        }
        let opened = self.with_messages(&self.sealed, &self.tags, |messages| cipher.open_batch(messages));
        for (i, (text, _, is_authentic)) in opened.iter().enumerate() {
            assert!(*is_authentic && *text == self.plain[i], "{name} opens {i} of {} wrongly", opened.len());
        }
        // Forged at some places, in a tag or a text: these alone are refused, and show nothing of their plaintext.
        let (mut texts, mut tags) = (self.sealed.clone(), self.tags.clone());
        let forged: Vec<bool> = texts
            .iter_mut()
            .zip(&mut tags)
            .map(|(text, tag)| {
                let is_forged = random.below(3) == 0;
                if is_forged {
                    let bit = 1 << random.below(8);
                    match random.below(text.len() + TAG_SIZE).checked_sub(TAG_SIZE) {
                        Some(place) => text[place] ^= bit,
                        None => tag[random.below(TAG_SIZE)] ^= bit,
                    }
                }
                is_forged
            })
            .collect();
        let opened = self.with_messages(&texts, &tags, |messages| cipher.open_batch(messages));
        for (i, (text, _, is_authentic)) in opened.iter().enumerate() {
            assert_eq!(*is_authentic, !forged[i], "{name}, {i} of {}", opened.len());
            if forged[i] {
                // A text of a few octets may coincide; of sixteen it does not.
                assert!(
                    text.len() < 16 || *text != self.plain[i],
                    "{name} gave away the text of a forged message"
                );
            } else {
                assert!(*text == self.plain[i]);
            }
        }
    }
}

#[test]
fn every_length_up_to_that_of_a_packet() {
    let mut random = Random(1);
    let key: [u8; 32] = random.bytes(32).try_into().unwrap();
    // Sixteen neighbouring lengths at once, and each length alone.
    for first in (0..1520).step_by(16) {
        let lengths: Vec<usize> = (first..first + 16).collect();
        let batch = Batch::new(&mut random, &key, &lengths);
        for kernel in kernels() {
            let cipher = ChaCha20Poly1305::with_kernel(&key, kernel);
            batch.check(&mut random, &cipher, kernel.description());
        }
    }
}

#[test]
fn random_batches_of_random_lengths() {
    let rounds = std::env::var("AEAD_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1000);
    let mut random = Random(2);
    for round in 0..rounds {
        let key: [u8; 32] = random.bytes(32).try_into().unwrap();
        let count = 1 + random.below(128);
        // Mostly packets, sometimes up to the longest datagram.
        let limit = [64, 1500, 1500, 9000, 65_536][round % 5];
        let count = if limit > 9000 { 1 + count % 20 } else { count };
        let common = random.below(limit);
        let lengths: Vec<usize> =
            (0..count).map(|_| if round % 2 == 0 { common } else { random.below(limit) }).collect();
        let batch = Batch::new(&mut random, &key, &lengths);
        for kernel in kernels() {
            let cipher = ChaCha20Poly1305::with_kernel(&key, kernel);
            batch.check(&mut random, &cipher, kernel.description());
        }
    }
}

#[test]
fn hashes_at_the_edges_of_the_prime() {
    // Texts for which Poly1305's sum comes close to 2^130 - 5 or to a carry cannot be aimed at through a random
    // one-time key, but texts of extreme octets find the carries between limbs.
    let mut random = Random(3);
    for fill in [0x00, 0xff, 0xfb, 0x80, 0x7f] {
        let key: [u8; 32] = random.bytes(32).try_into().unwrap();
        for kernel in kernels() {
            let cipher = ChaCha20Poly1305::with_kernel(&key, kernel);
            let ring = ChaCha20Poly1305::with_kernel(&key, Kernel::Library);
            for length in [16, 64, 256, 1424, 4096] {
                // What opening hashes is the ciphertext itself, so that can be chosen.
                let counters = 5..21;
                let tags: Vec<[u8; TAG_SIZE]> = counters
                    .clone()
                    .map(|counter| {
                        let keystream = {
                            let mut zeros = vec![0; length];
                            let _ = ring.seal(counter, &[], &mut zeros);
                            zeros
                        };
                        let mut text: Vec<u8> = keystream.iter().map(|octet| octet ^ fill).collect();
                        let tag = ring.seal(counter, &[], &mut text);
                        assert!(text.iter().all(|octet| *octet == fill));
                        tag
                    })
                    .collect();
                let mut texts = vec![vec![fill; length]; 16];
                let mut messages: Vec<Message<'_>> = texts
                    .iter_mut()
                    .zip(counters)
                    .zip(tags)
                    .map(|((text, counter), tag)| Message { counter, text, tag, is_authentic: false })
                    .collect();
                cipher.open_batch(&mut messages);
                assert!(messages.iter().all(|message| message.is_authentic), "{kernel:?} {fill:#x} {length}");
            }
        }
    }
}

#[test]
fn a_kernel_that_the_machine_lacks_is_the_library() {
    for kernel in Kernel::ALL {
        let cipher = ChaCha20Poly1305::with_kernel(&[1; 32], kernel);
        let mut text = *b"text";
        let mut messages = [Message::to_seal(9, &mut text)];
        cipher.seal_batch(&mut messages);
        let (sealed, tag) = sealed_by_rust_crypto(&[1; 32], 9, b"text");
        assert_eq!((messages[0].text.to_vec(), messages[0].tag), (sealed, tag));
    }
}

#[test]
fn no_messages_are_no_work() {
    for kernel in kernels() {
        let cipher = ChaCha20Poly1305::with_kernel(&[1; 32], kernel);
        cipher.seal_batch(&mut []);
        cipher.open_batch(&mut []);
    }
}
