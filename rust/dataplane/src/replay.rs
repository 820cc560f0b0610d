//! The replay window: RFC 6479 over 8192 bits, of which all but one word are usable.

use crate::message::REJECT_AFTER_MESSAGES;

const WORDS: usize = 128;
/// A counter this far behind the highest one is still accepted, one farther is not.
pub const WINDOW_SIZE: u64 = (WORDS as u64 - 1) * 64;

/// Which counters of one keypair were received. The kilobyte is allocated when the first one is.
#[derive(Default)]
pub struct ReplayWindow {
    highest: u64,
    seen: Option<Box<[u64; WORDS]>>,
}

impl ReplayWindow {
    /// Whether `check_and_set` would say no.
    #[must_use]
    pub fn would_refuse(&self, counter: u64) -> bool {
        if counter >= REJECT_AFTER_MESSAGES || self.highest.saturating_sub(counter) > WINDOW_SIZE {
            return true;
        }
        let Some(seen) = &self.seen else { return false };
        counter <= self.highest && seen[(counter / 64) as usize % WORDS] & (1 << (counter % 64)) != 0
    }

    /// True when the counter is new, which it is once. To be asked after authentication only.
    #[must_use]
    pub fn check_and_set(&mut self, counter: u64) -> bool {
        if counter >= REJECT_AFTER_MESSAGES || self.highest.saturating_sub(counter) > WINDOW_SIZE {
            return false;
        }
        let seen = self.seen.get_or_insert_with(|| Box::new([0; WORDS]));
        let word = counter / 64;
        if counter > self.highest {
            // Words between the old top and the new one hold counters of a lap ago.
            let top = self.highest / 64;
            for stale in 1..=(word - top).min(WORDS as u64) {
                seen[(top + stale) as usize % WORDS] = 0;
            }
            self.highest = counter;
        }
        let bit = 1 << (counter % 64);
        let word = &mut seen[word as usize % WORDS];
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use std::collections::HashSet;

    /// The oracle: remembers every counter.
    #[derive(Default)]
    struct Everything {
        highest: u64,
        seen: HashSet<u64>,
    }

    impl Everything {
        fn check_and_set(&mut self, counter: u64) -> bool {
            if counter >= REJECT_AFTER_MESSAGES || counter + WINDOW_SIZE < self.highest {
                return false;
            }
            self.highest = self.highest.max(counter);
            self.seen.insert(counter)
        }
    }

    fn run(cases: &[(u64, bool)]) {
        let mut window = ReplayWindow::default();
        for (position, &(counter, expected)) in cases.iter().enumerate() {
            assert_eq!(window.would_refuse(counter), !expected, "case {position}: {counter}");
            assert_eq!(window.check_and_set(counter), expected, "case {position}: {counter}");
        }
    }

    #[test]
    fn each_counter_is_accepted_once_in_any_order() {
        run(&[
            (0, true),
            (0, false),
            (1, true),
            (1, false),
            (9, true),
            (8, true),
            (7, true),
            (7, false),
            (8, false),
        ]);
        let mut window = ReplayWindow::default();
        assert!((0..=WINDOW_SIZE).rev().all(|counter| window.check_and_set(counter)));
        assert!((0..=WINDOW_SIZE).all(|counter| !window.check_and_set(counter)));
    }

    #[test]
    fn the_window_reaches_back_8128_and_no_farther() {
        const LIMIT: u64 = WINDOW_SIZE + 1;
        assert_eq!(LIMIT, 8129);
        run(&[(LIMIT, true), (LIMIT - 1, true), (LIMIT, false), (1, true), (1, false), (0, false)]);
        run(&[
            (0, true),
            (LIMIT, true),
            (0, false),
            (1, true),
            (LIMIT + 1, true),
            (1, false),
            (2, true),
            (2, false),
        ]);
        run(&[(3 * LIMIT, true), (2 * LIMIT - 1, false), (2 * LIMIT, false), (2 * LIMIT + 1, true)]);
        run(&[(3 * LIMIT - 1, true), (2 * LIMIT, true), (2 * LIMIT - 1, false)]);
    }

    #[test]
    fn a_far_jump_forgets_all_that_was_seen_and_the_edges_of_words_hold() {
        run(&[
            (63, true),
            (64, true),
            (128, true),
            (1 << 40, true),
            (128, false),
            ((1 << 40) - WINDOW_SIZE, true),
            ((1 << 40) - WINDOW_SIZE - 1, false),
            ((1 << 40) - 64, true),
            ((1 << 40) + 8191, true),
            ((1 << 40) + 8192, true),
            (1 << 40, false),
            ((1 << 40) + 64, true),
            ((1 << 40) + 63, false),
        ]);
    }

    #[test]
    fn counters_at_the_reject_limit_are_refused_and_move_nothing() {
        run(&[
            (REJECT_AFTER_MESSAGES, false),
            (u64::MAX, false),
            (0, true),
            (REJECT_AFTER_MESSAGES - 1, true),
            (REJECT_AFTER_MESSAGES - 1, false),
            (REJECT_AFTER_MESSAGES, false),
            (REJECT_AFTER_MESSAGES + 1, false),
            (u64::MAX, false),
            (REJECT_AFTER_MESSAGES - 2, true),
            (REJECT_AFTER_MESSAGES - 1 - WINDOW_SIZE, true),
            (REJECT_AFTER_MESSAGES - 2 - WINDOW_SIZE, false),
            (1, false),
        ]);
    }

    #[test]
    fn random_walks_agree_with_an_oracle_that_remembers_everything() {
        let mut random = Random::new(4);
        for _ in 0..30 {
            let (mut window, mut oracle) = (ReplayWindow::default(), Everything::default());
            let mut position = if random.below(2) == 0 { 0 } else { random.next() >> 1 };
            for _ in 0..20_000 {
                let counter = match random.below(1000) {
                    0 => position + random.below(3 * 8192),
                    1..500 => position + random.below(5),
                    500..800 => position.saturating_sub(random.below(100)),
                    _ => position.saturating_sub(random.below(8300)),
                };
                assert_eq!(window.check_and_set(counter), oracle.check_and_set(counter), "counter {counter}");
                position = oracle.highest;
            }
        }
    }

    #[test]
    fn nothing_is_allocated_before_the_first_counter() {
        let mut window = ReplayWindow::default();
        assert!(window.seen.is_none());
        assert!(!window.check_and_set(u64::MAX));
        assert!(window.seen.is_none());
        assert!(window.check_and_set(5));
        assert!(window.seen.is_some());
    }
}
