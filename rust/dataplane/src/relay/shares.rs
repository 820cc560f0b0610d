//! How much a sender may send: so much a second for each, and a fair part of what there is for all.
//!
//! Time is cut into windows. In each, what all may send together is shared evenly among those who sent in the
//! one before; what some leave of their share the others may take, once half of the window is over. So who
//! sends less than an even share loses nothing, and little of what there is goes unused.

const SECOND: u64 = 1_000_000_000;
const WINDOW: u64 = SECOND / 50;
/// A sender may save up this much of its own rate: nanoseconds.
const BURST: u64 = SECOND / 4;

/// One sender's account.
#[derive(Default)]
pub struct Account {
    /// Nanoseconds of its rate that are used up.
    used: u64,
    counted_at: u64,
    window: u64,
    sent: u64,
}

/// Octets a second; 0: no limit.
#[derive(Clone, Copy, Default)]
pub struct Rates {
    /// Of one sender.
    pub each: u64,
    /// Of all together.
    pub all: u64,
}

/// What is shared.
pub struct Shares {
    rates: Rates,
    window: u64,
    senders: u64,
    senders_before: u64,
    sent: u64,
}

impl Shares {
    /// Nothing was sent yet.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        Self { rates, window: 0, senders: 0, senders_before: 0, sent: 0 }
    }

    /// Whether a sender may send so many octets now.
    pub fn take(&mut self, account: &mut Account, octets: usize, now: u64) -> bool {
        let octets = octets as u64;
        self.take_of_all(account, octets, now) && self.take_of_own(account, octets, now)
    }

    fn take_of_own(&self, account: &mut Account, octets: u64, now: u64) -> bool {
        if self.rates.each == 0 {
            return true;
        }
        let cost = octets.saturating_mul(SECOND) / self.rates.each;
        account.used = account.used.saturating_sub(now.saturating_sub(account.counted_at));
        account.counted_at = now;
        // One that is not in debt may send, however much that is: a rate below a datagram still moves.
        let allowed = account.used <= BURST;
        account.used += if allowed { cost } else { 0 };
        allowed
    }

    fn take_of_all(&mut self, account: &mut Account, octets: u64, now: u64) -> bool {
        if self.rates.all == 0 {
            return true;
        }
        let window = now / WINDOW;
        if window != self.window {
            self.senders_before = if window == self.window + 1 { self.senders } else { 0 };
            (self.window, self.senders, self.sent) = (window, 0, 0);
        }
        if account.window != window || account.sent == 0 {
            (account.window, account.sent) = (window, 0);
            self.senders += 1;
        }
        let budget = self.rates.all * WINDOW / SECOND;
        let share = budget / self.senders.max(self.senders_before).max(1);
        let is_late = now % WINDOW >= WINDOW / 2;
        let allowed = account.sent + octets <= share.max(octets) && account.sent < share.max(1)
            || is_late && self.sent + octets <= budget;
        if allowed {
            account.sent += octets;
            self.sent += octets;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each of some senders gets through in a second, offering octets a millisecond in datagrams of 1000.
    fn got(rates: Rates, offered: &[usize]) -> Vec<u64> {
        let mut shares = Shares::new(rates);
        let mut accounts: Vec<Account> = offered.iter().map(|_| Account::default()).collect();
        let mut got = vec![0; offered.len()];
        for millisecond in 0..1000 {
            let now = 10 * SECOND + millisecond * SECOND / 1000;
            for (number, &octets) in offered.iter().enumerate() {
                for _ in 0..octets / 1000 {
                    if shares.take(&mut accounts[number], 1000, now) {
                        got[number] += 1000;
                    }
                }
            }
        }
        got
    }

    #[test]
    fn who_sends_less_than_an_even_share_loses_nothing_whatever_the_others_do() {
        let rates = Rates { each: 0, all: 10_000_000 };
        let got = got(rates, &[1_000, 100_000, 50_000]);
        assert_eq!(got[0], 1_000_000, "a tenth of it all, and asked for no more");
        assert!(got[1] + got[2] > 8_000_000, "{got:?}");
        assert!(got.iter().sum::<u64>() <= 10_500_000, "{got:?}");
        assert!(got[2] > 3_000_000, "{got:?}");
    }

    #[test]
    fn one_alone_has_it_all() {
        let got = got(Rates { each: 0, all: 10_000_000 }, &[50_000]);
        assert!((9_000_000..=10_500_000).contains(&got[0]), "{got:?}");
    }

    #[test]
    fn each_has_its_own_rate_and_none_without_limits() {
        let got_limited = got(Rates { each: 2_000_000, all: 0 }, &[50_000, 1_000]);
        assert!((2_000_000..=2_600_000).contains(&got_limited[0]), "{got_limited:?}");
        assert_eq!(got_limited[1], 1_000_000);
        assert_eq!(got(Rates::default(), &[50_000]), [50_000_000]);
    }
}
