//! Messages whose Poly1305 hash ends where the last reduction decides: they are not met by chance in a lifetime.

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use num_bigint::BigUint;
use wgpy_aead::{ChaCha20Poly1305, Kernel, Message};

const KEY: [u8; 32] = [0x42; 32];

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

/// The two halves of a message's one-time key, the first clamped (RFC 8439 §2.5, §2.6).
fn one_time_key(counter: u64) -> (BigUint, BigUint) {
    let mut key = [0; 32];
    ChaCha20::new(&KEY.into(), &nonce(counter).into()).apply_keystream(&mut key);
    for i in [3, 7, 11, 15] {
        key[i] &= 15;
    }
    for i in [4, 8, 12] {
        key[i] &= 252;
    }
    (BigUint::from_bytes_le(&key[..16]), BigUint::from_bytes_le(&key[16..]))
}

fn two_to(exponent: u32) -> BigUint {
    BigUint::from(1_u8) << exponent
}

/// A ciphertext of `blocks` whole blocks, the last chosen so that the hash is `target` modulo 2^130 - 5, with its
/// counter and tag. Not every counter allows it: the last block must be one of 128 bits.
fn message_that_ends_at(target: &BigUint, blocks: usize, first_counter: u64) -> (u64, Vec<u8>, [u8; 16]) {
    let p = two_to(130) - 5_u8;
    for counter in first_counter.. {
        let (r, s) = one_time_key(counter);
        let inverse = r.modpow(&(&p - 2_u8), &p);
        let mut text: Vec<u8> = (0..(blocks - 1) * 16).map(|i| (i as u8).wrapping_mul(13)).collect();
        let mut hash = BigUint::default();
        for block in text.chunks(16) {
            hash = (hash + two_to(128) + BigUint::from_bytes_le(block)) * &r % &p;
        }
        // The block of lengths: 8 octets of additional data's, 8 of the text's.
        let lengths = two_to(128) + (BigUint::from(blocks * 16) << 64);
        // ((hash + last)·r + lengths)·r = target
        let before = (target * &inverse + &p * 2_u8 - &lengths % &p) * &inverse % &p;
        let last: BigUint = (before + &p - &hash) % &p;
        if last < two_to(128) || last >= two_to(129) {
            continue;
        }
        let mut octets = (&last - two_to(128)).to_bytes_le();
        octets.resize(16, 0);
        text.extend_from_slice(&octets);
        assert_eq!(((hash + last) * &r + lengths) * r % &p, target % &p);
        let mut tag = ((target % &p + s) % two_to(128)).to_bytes_le();
        tag.resize(16, 0);
        return (counter, text, tag.try_into().unwrap());
    }
    unreachable!("one counter in four allows it")
}

#[test]
fn hashes_at_and_around_the_prime() {
    let p = two_to(130) - 5_u8;
    let mut targets: Vec<BigUint> = (0..8_u8).map(BigUint::from).collect();
    targets.extend((1..8_u8).map(|below| &p - below));
    targets.extend([44, 52, 78, 88, 104, 128, 129].map(two_to));
    targets.extend([26, 44, 52, 78, 88, 104, 128, 129].map(|exponent| two_to(exponent) - 1_u8));
    for blocks in [1, 4, 5, 8, 89] {
        let cases: Vec<_> = targets
            .iter()
            .zip(1_u64..)
            .map(|(target, i)| message_that_ends_at(target, blocks, i << 20))
            .collect();
        for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
            let cipher = ChaCha20Poly1305::with_kernel(&KEY, kernel);
            let mut texts: Vec<_> = cases.iter().map(|(_, text, _)| text.clone()).collect();
            let mut messages: Vec<Message<'_>> = texts
                .iter_mut()
                .zip(&cases)
                .map(|(text, &(counter, _, tag))| Message { counter, text, tag, is_authentic: false })
                .collect();
            cipher.open_batch(&mut messages);
            for (message, target) in messages.iter().zip(&targets) {
                assert!(message.is_authentic, "{} with {blocks} blocks, hash {target}", kernel.description());
            }
        }
    }
}
