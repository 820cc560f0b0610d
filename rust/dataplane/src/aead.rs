//! The AEAD of transport data: ChaCha20-Poly1305 with the nonce 0^32 ‖ LE64(counter), empty additional data.
//!
//! The cipher is the crate `wgpy-aead`, which takes messages by the dozen. Here is how those of a run are handed
//! over.

pub use wgpy_aead::{ChaCha20Poly1305, KEY_SIZE, MAX_BATCH, Message, chosen, scrub_stack};

use crate::message::{HEADER_SIZE, TAG_SIZE};

/// No messages yet: places for as many as a cipher takes at once.
#[must_use]
pub fn empty_batch<'a>() -> [Message<'a>; MAX_BATCH] {
    std::array::from_fn(|_| Message::to_seal(0, &mut []))
}

/// Seal, in place, a run of transport messages with consecutive counters.
///
/// Each chunk of `segment_size` octets (the last may be shorter) is one message: header, padded packet, room for
/// the tag. Chunks shorter than header and tag together are left alone.
pub fn seal_run(cipher: &ChaCha20Poly1305, first_counter: u64, run: &mut [u8], segment_size: usize) {
    let segment_size = segment_size.max(1);
    for (batch, first_counter) in
        run.chunks_mut(segment_size.saturating_mul(MAX_BATCH)).zip((first_counter..).step_by(MAX_BATCH))
    {
        let mut messages = empty_batch();
        let mut tags: [&mut [u8]; MAX_BATCH] = Default::default();
        let mut count = 0;
        for (message, counter) in batch.chunks_mut(segment_size).zip(first_counter..) {
            let Some(end) = message.len().checked_sub(TAG_SIZE).filter(|&end| end >= HEADER_SIZE) else {
                continue;
            };
            let (message, tag) = message.split_at_mut(end);
            messages[count] = Message::to_seal(counter, &mut message[HEADER_SIZE..]);
            tags[count] = tag;
            count += 1;
        }
        cipher.seal_batch(&mut messages[..count]);
        for (message, tag) in messages.iter().zip(tags).take(count) {
            tag.copy_from_slice(&message.tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn opens_the_vector_of_rfc_8439_appendix_a5() {
        // The only AEAD vector of the RFC whose nonce begins with four zero octets.
        let key: [u8; 32] =
            hex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0").try_into().unwrap();
        let counter = u64::from_le_bytes(hex("0102030405060708").try_into().unwrap());
        let mut sealed =
            hex("64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43ee\
             a09ee94e382d26b0bdb7b73c321b0100d4f03b7f355894cf332f830e710b97ce98c8a84abd0b9481\
             14ad176e008d33bd60f982b1ff37c8559797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0\
             f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0a06c523e\
             af4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a0bb2316053fa7699\
             1955ebd63159434ecebb4e466dae5a1073a6727627097a1049e617d91d361094fa68f0ff77987130\
             305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709beead9d67890cbb22392336fea1851f\
             38");
        let additional_data = hex("f33388860000000000004e91");
        let aead = ChaCha20Poly1305::new(&key);
        let original = sealed.clone();
        assert!(aead.open(counter, &additional_data, &mut sealed));
        let mut plaintext = sealed[..sealed.len() - TAG_SIZE].to_vec();
        assert!(plaintext.starts_with(b"Internet-Drafts are draft documents"));
        let tag = aead.seal(counter, &additional_data, &mut plaintext);
        assert_eq!([&plaintext[..], &tag[..]].concat(), original);
        let mut forged = original;
        forged[7] ^= 1;
        assert!(!aead.open(counter, &additional_data, &mut forged));
    }

    #[test]
    fn a_run_is_what_its_messages_sealed_one_by_one_are() {
        let mut random = Random::new(1);
        let key: [u8; 32] = random.bytes(32).try_into().unwrap();
        let aead = ChaCha20Poly1305::new(&key);
        for segment_size in [32, 48, 100, 1452] {
            for length in [32, segment_size, 3 * segment_size, 3 * segment_size + 32, 45 * segment_size] {
                let plain = random.bytes(length);
                let mut run = plain.clone();
                let first = random.next() >> 1;
                seal_run(&aead, first, &mut run, segment_size);
                for (i, (sealed, plain)) in
                    run.chunks(segment_size).zip(plain.chunks(segment_size)).enumerate()
                {
                    assert_eq!(sealed[..HEADER_SIZE], plain[..HEADER_SIZE]);
                    let mut body = plain[HEADER_SIZE..plain.len() - TAG_SIZE].to_vec();
                    let tag = aead.seal(first + i as u64, &[], &mut body);
                    assert_eq!(sealed[HEADER_SIZE..], [&body[..], &tag[..]].concat());
                }
            }
        }
    }

    #[test]
    fn what_is_too_short_for_a_tag_does_not_open() {
        let aead = ChaCha20Poly1305::new(&[7; 32]);
        for length in 0..TAG_SIZE {
            assert!(!aead.open(0, &[], &mut vec![0; length]));
        }
        let mut stub = [9; 31];
        seal_run(&aead, 0, &mut stub, 31);
        assert_eq!(stub, [9; 31]);
    }
}
