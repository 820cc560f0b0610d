//! The cipher by itself: every kernel of the machine against the library, over lengths, counters and forgeries of an
//! input.

use wgpy_aead::{ChaCha20Poly1305, Kernel, Message, TAG_SIZE};

use crate::input::Input;

/// More than two batches' worth.
const MOST_MESSAGES: usize = 40;

/// One text with what makes of it a message.
struct Case {
    counter: u64,
    plain: Vec<u8>,
    sealed: Vec<u8>,
    tag: [u8; TAG_SIZE],
    /// The octet of text and tag that is spoiled, if any.
    spoiled: Option<usize>,
}

fn case(input: &mut Input<'_>, library: &ChaCha20Poly1305) -> Case {
    let (length, counter, spoiled) = (input.number(), u64::from(input.number()), input.number());
    // Mostly packets; the upper ends of the counter too.
    let length = usize::from(if length & 0x8000 == 0 { length % 1600 } else { length & 0x3fff });
    let counter = if counter & 1 == 0 { counter } else { u64::MAX - counter };
    let count = usize::from(input.octet());
    let fill = input.octets(count);
    let plain: Vec<u8> = (0..length).map(|i| *fill.get(i % fill.len().max(1)).unwrap_or(&0)).collect();
    let mut sealed = plain.clone();
    let tag = library.seal(counter, &[], &mut sealed);
    let spoiled = (spoiled & 3 == 0).then(|| usize::from(spoiled) % (length + TAG_SIZE));
    Case { counter, plain, sealed, tag, spoiled }
}

/// Texts sealed in a batch are what the library makes of each; opened, they are what they were, and what is spoiled is
/// refused and stays as it came.
pub fn seal_batch(data: &[u8]) {
    let mut input = Input(data);
    let mut key = [0; 32];
    key.iter_mut().zip(input.octets(32)).for_each(|(octet, given)| *octet = *given);
    let library = ChaCha20Poly1305::with_kernel(&key, Kernel::Library);
    let mut cases = Vec::new();
    while !input.is_empty() && cases.len() < MOST_MESSAGES {
        cases.push(case(&mut input, &library));
    }
    for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        let cipher = ChaCha20Poly1305::with_kernel(&key, kernel);
        let mut texts: Vec<Vec<u8>> = cases.iter().map(|case| case.plain.clone()).collect();
        let mut messages: Vec<Message<'_>> =
            texts.iter_mut().zip(&cases).map(|(text, case)| Message::to_seal(case.counter, text)).collect();
        cipher.seal_batch(&mut messages);
        for (message, case) in messages.iter().zip(&cases) {
            assert!(*message.text == case.sealed[..] && message.tag == case.tag, "{kernel:?} seals wrongly");
        }
        let mut given: Vec<Vec<u8>> =
            cases.iter().map(|case| [&case.sealed[..], &case.tag[..]].concat()).collect();
        for (given, case) in given.iter_mut().zip(&cases) {
            if let Some(place) = case.spoiled {
                given[place] ^= 1 << (case.counter & 7);
            }
        }
        let mut texts = given.clone();
        let mut messages: Vec<Message<'_>> = texts
            .iter_mut()
            .zip(&cases)
            .map(|(text, case)| Message::to_open(case.counter, text).expect("it has a tag"))
            .collect();
        cipher.open_batch(&mut messages);
        for ((message, case), given) in messages.iter().zip(&cases).zip(&given) {
            assert_eq!(message.is_authentic, case.spoiled.is_none(), "{kernel:?} on {}", case.plain.len());
            if message.is_authentic {
                assert!(*message.text == case.plain[..], "{kernel:?} opens wrongly");
            } else if kernel != Kernel::Library {
                assert!(*message.text == given[..case.plain.len()], "{kernel:?} touches what is forged");
            }
        }
    }
}
