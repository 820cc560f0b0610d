//! What sealing and opening leave on the stack: no word of the key.

use std::hint::black_box;
use std::thread;

use wgpy_aead::{ChaCha20Poly1305, Kernel, Message, TAG_SIZE};

/// Octets below the caller that are searched. The deepest call takes less.
const DEPTH: usize = 48 * 1024;

/// A key whose words are nowhere else.
fn key() -> [u8; 32] {
    std::array::from_fn(|i| (i as u8 + 1).wrapping_mul(167) ^ 0x5c)
}

/// Where the stack below the caller has a word of the key: octets below, the deepest last.
#[inline(never)]
fn found(words: &[u32]) -> Vec<usize> {
    let mut places = Vec::with_capacity(DEPTH / 4);
    let here = [0_u64; 1];
    let top = black_box(here.as_ptr()).cast::<u32>();
    for depth in 1..DEPTH / 4 {
        // SAFETY: the stack of these threads is much larger, and what lies below is memory that nobody writes now.
        let word = unsafe { top.sub(depth).read_volatile() };
        if words.contains(&word) {
            places.push(depth * 4);
        }
    }
    places
}

#[inline(never)]
fn clean() {
    black_box(&mut [0_u8; DEPTH + 8192]);
}

/// Let `work` run with the key on a fresh stack, and tell where its words are afterwards.
fn left_by(work: impl FnOnce() + Send + 'static) -> Vec<usize> {
    let search = move || {
        let words: Vec<u32> = key().chunks(4).map(|w| u32::from_le_bytes(w.try_into().unwrap())).collect();
        clean();
        work();
        found(&words)
    };
    thread::Builder::new().stack_size(1 << 20).spawn(search).unwrap().join().unwrap()
}

#[inline(never)]
fn leave_a_copy() {
    black_box(&mut [key(); 256]);
}

#[test]
fn a_copy_on_the_stack_is_found() {
    assert!(left_by(leave_a_copy).len() > 1000);
}

#[test]
fn batches_leave_no_word_of_the_key() {
    for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        for (count, length) in [(1, 0), (1, 1424), (3, 64), (16, 1424), (40, 300)] {
            for opens in [false, true] {
                let cipher = ChaCha20Poly1305::with_kernel(&key(), kernel);
                let places = left_by(move || {
                    let mut texts = vec![vec![1; length]; count];
                    let mut messages: Vec<_> = texts
                        .iter_mut()
                        .zip(7..)
                        .map(|(text, counter)| Message::to_seal(counter, text))
                        .collect();
                    cipher.seal_batch(&mut messages);
                    if opens {
                        cipher.open_batch(&mut messages);
                        assert!(messages.iter().all(|message| message.is_authentic));
                    }
                });
                assert_eq!(places, [], "{kernel:?}, {count} of {length} octets, opened: {opens}");
            }
        }
    }
}

#[test]
fn a_message_alone_leaves_no_word_of_the_key() {
    for length in [0, 64, 1424, 9000] {
        let cipher = ChaCha20Poly1305::new(&key());
        let places = left_by(move || {
            let mut sealed = vec![1; length + TAG_SIZE];
            let (text, tag) = sealed.split_at_mut(length);
            tag.copy_from_slice(&cipher.seal(7, b"additional", text));
            assert!(cipher.open(7, b"additional", &mut sealed));
        });
        assert_eq!(places, [], "{length} octets");
    }
}
