//! Which kernel this process uses: the best that the machine has, that agrees with the library and is faster, or the
//! one that `WGPY_AEAD` names.

use std::env;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::{ChaCha20Poly1305, KEY_SIZE, Kernel, MAX_BATCH, Message, TAG_SIZE};

/// The variable that names a kernel.
const VARIABLE: &str = "WGPY_AEAD";
const NAMES: &str = "library, avx2, avx512 or neon";
/// Batches that each is timed at; the least counts. All of it takes a third of a millisecond.
const TRIALS: usize = 8;

/// What was chosen.
#[derive(Debug, PartialEq, Eq)]
pub struct Choice {
    /// The kernel.
    pub kernel: Kernel,
    /// Why it is not what was asked for, or not the best that the machine has: a sentence for people.
    pub warning: Option<String>,
}

/// The choice of this process, made at the first call.
pub fn chosen() -> &'static Choice {
    static CHOICE: OnceLock<Choice> = OnceLock::new();
    CHOICE.get_or_init(|| {
        let wanted = env::var_os(VARIABLE).map(|name| name.to_string_lossy().into_owned());
        let wanted = wanted.as_deref().filter(|name| !name.is_empty());
        choose(wanted, Kernel::is_available, agrees_with_library, is_faster_than_library)
    })
}

fn choose(
    wanted: Option<&str>,
    is_available: impl Fn(Kernel) -> bool,
    is_right: impl Fn(Kernel) -> bool,
    is_faster: impl Fn(Kernel) -> bool,
) -> Choice {
    let mut warnings = Vec::new();
    let mut candidates: Vec<Kernel> = Kernel::ALL.to_vec();
    let mut is_asked_for = wanted.is_some();
    if let Some(wanted) = wanted {
        candidates.retain(|kernel| kernel.name() == wanted);
        if candidates.is_empty() {
            warnings.push(format!("{VARIABLE} is {wanted:?}, expected {NAMES}"));
            candidates = Kernel::ALL.to_vec();
            is_asked_for = false;
        } else if !candidates.iter().copied().any(&is_available) {
            warnings.push(format!("{VARIABLE} is {wanted}, which this machine does not have"));
        }
    }
    candidates.retain(|&kernel| is_available(kernel));
    let first_right = candidates.into_iter().find(|&kernel| {
        let is_right = is_right(kernel);
        if !is_right {
            let name = kernel.description();
            warnings
                .push(format!("{name} computes ChaCha20-Poly1305 wrongly on this machine; please report it"));
        }
        is_right
    });
    // AVX2 takes 0.7 of ring's time on one generation of a maker's CPUs, and 1.3 on another.
    let kernel = first_right.filter(|&kernel| is_asked_for || is_faster(kernel)).unwrap_or(Kernel::Library);
    let warning =
        (!warnings.is_empty()).then(|| format!("{}; {} is used", warnings.join("; "), kernel.description()));
    Choice { kernel, warning }
}

/// Seal and open batches whose sizes and lengths reach each path of a kernel, and compare.
fn agrees_with_library(kernel: Kernel) -> bool {
    let mut key = [0; KEY_SIZE];
    key.iter_mut().zip(1..).for_each(|(octet, i)| *octet = i);
    let (ours, library) =
        (ChaCha20Poly1305::with_kernel(&key, kernel), ChaCha20Poly1305::with_kernel(&key, Kernel::Library));
    // Lengths around those of blocks, vectors and rows, mixed.
    let lengths = [1424, 0, 64, 1, 63, 1424, 1424, 65, 15, 16, 17, 512, 1040, 127, 129, 1408, 300, 1424];
    for count in [1, 2, 5, 8, 9, MAX_BATCH, lengths.len()] {
        let first_counter = u64::MAX - 100 + count as u64;
        let plain: Vec<Vec<u8>> =
            lengths[..count].iter().zip(7..).map(|(&length, fill)| vec![fill; length]).collect();
        let mut expected = plain.clone();
        let mut expected_tags = Vec::with_capacity(count);
        for (text, counter) in expected.iter_mut().zip(first_counter..) {
            expected_tags.push(library.seal(counter, &[], text));
        }
        let mut texts = plain.clone();
        let mut messages: Vec<Message<'_>> = texts
            .iter_mut()
            .zip(first_counter..)
            .map(|(text, counter)| Message::to_seal(counter, text))
            .collect();
        ours.seal_batch(&mut messages);
        let tags: Vec<[u8; TAG_SIZE]> = messages.iter().map(|message| message.tag).collect();
        if texts != expected || tags != expected_tags {
            return false;
        }
        let mut messages: Vec<Message<'_>> = texts
            .iter_mut()
            .zip(first_counter..)
            .zip(tags)
            .map(|((text, counter), tag)| Message { counter, text, tag, is_authentic: false })
            .collect();
        // One of them forged: it alone is refused.
        let forged = count / 2;
        messages[forged].tag[3] ^= 0x40;
        ours.open_batch(&mut messages);
        let is_as_due = |(i, message): (usize, &Message<'_>)| {
            message.is_authentic == (i != forged) && (i == forged || *message.text == plain[i][..])
        };
        if !messages.iter().enumerate().all(is_as_due) {
            return false;
        }
    }
    true
}

/// Seal a full batch of full packets with both in turn, and compare the least times.
fn is_faster_than_library(kernel: Kernel) -> bool {
    let mut texts = vec![[0; 1424]; MAX_BATCH];
    let mut time = |kernel| {
        let cipher = ChaCha20Poly1305::with_kernel(&[7; KEY_SIZE], kernel);
        let mut messages: Vec<Message<'_>> =
            texts.iter_mut().zip(0..).map(|(text, counter)| Message::to_seal(counter, text)).collect();
        let started = Instant::now();
        cipher.seal_batch(&mut messages);
        started.elapsed()
    };
    let (mut ours, mut library) = (Duration::MAX, Duration::MAX);
    for _ in 0..TRIALS {
        ours = ours.min(time(kernel));
        library = library.min(time(Kernel::Library));
    }
    kernel != Kernel::Library && ours < library
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: fn(Kernel) -> bool = |_| true;

    #[test]
    fn the_best_kernel_of_the_machine_is_chosen_without_a_word() {
        assert_eq!(choose(None, GOOD, GOOD, GOOD), Choice { kernel: Kernel::Avx512Ifma, warning: None });
        let old = |kernel| !matches!(kernel, Kernel::Avx512 | Kernel::Avx512Ifma);
        assert_eq!(choose(None, old, GOOD, GOOD), Choice { kernel: Kernel::Avx2, warning: None });
    }

    #[test]
    fn the_variable_chooses() {
        let choice = |name| choose(Some(name), |kernel| kernel != Kernel::Avx512Ifma, GOOD, |_| false);
        assert_eq!(choice("library"), Choice { kernel: Kernel::Library, warning: None });
        assert_eq!(choice("avx2"), Choice { kernel: Kernel::Avx2, warning: None });
        assert_eq!(choice("avx512"), Choice { kernel: Kernel::Avx512, warning: None });
    }

    #[test]
    fn what_cannot_be_had_is_said_and_something_else_used() {
        let choice = choose(Some("avx512"), |kernel| kernel == Kernel::Library, GOOD, GOOD);
        assert_eq!(choice.kernel, Kernel::Library);
        let warning = choice.warning.unwrap();
        assert_eq!(warning, "WGPY_AEAD is avx512, which this machine does not have; library (ring) is used");
        let choice = choose(Some("avx\n3"), GOOD, GOOD, GOOD);
        assert_eq!(choice.kernel, Kernel::Avx512Ifma);
        let warning = choice.warning.unwrap();
        assert!(warning.starts_with("WGPY_AEAD is \"avx\\n3\", expected library, avx2, avx512 or neon;"));
    }

    #[test]
    fn a_kernel_that_computes_wrongly_is_left_out() {
        let choice = choose(None, GOOD, |kernel| matches!(kernel, Kernel::Library | Kernel::Avx2), GOOD);
        assert_eq!(choice.kernel, Kernel::Avx2);
        assert!(choice.warning.unwrap().contains("avx512 with IFMA computes ChaCha20-Poly1305 wrongly"));
        assert_eq!(choose(None, GOOD, |_| false, GOOD).kernel, Kernel::Library);
    }

    #[test]
    fn a_kernel_that_is_no_faster_than_the_library_is_left_out_without_a_word_unless_asked_for() {
        let avx2 = |kernel| matches!(kernel, Kernel::Library | Kernel::Avx2);
        let choice = |wanted| choose(wanted, avx2, GOOD, |_| false);
        assert_eq!(choice(None), Choice { kernel: Kernel::Library, warning: None });
        assert_eq!(choice(Some("avx2")), Choice { kernel: Kernel::Avx2, warning: None });
        let misnamed = choice(Some("avx3"));
        assert_eq!(misnamed.kernel, Kernel::Library);
        assert!(misnamed.warning.unwrap().ends_with("library (ring) is used"));
    }

    #[test]
    fn the_library_is_not_faster_than_itself() {
        assert!(!is_faster_than_library(Kernel::Library));
    }

    #[test]
    fn every_kernel_of_this_machine_agrees_with_the_library() {
        for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
            assert!(agrees_with_library(kernel), "{kernel:?}");
        }
    }
}
