//! The token bucket of each source address (paper §5.3): 20 a second, five at once.
//!
//! One IPv6 source is a /64, for whoever has one address of it has them all.

use std::collections::HashMap;
use std::net::IpAddr;

const SECOND: u64 = 1_000_000_000;
const TOKEN: u64 = SECOND / 20;
const BURST: u64 = 5 * TOKEN;
/// An entry unused for so long is forgotten; its bucket has long been full again.
const IDLE_TIME: u64 = SECOND;
/// Sources remembered at once; when so many are active, further ones are refused.
const TABLE_LIMIT: usize = 8192;

/// A bucket a source, filled with nanoseconds.
#[derive(Default)]
pub struct RateLimiter {
    // The standard hash is keyed: sources are chosen by strangers.
    buckets: HashMap<(bool, u64), (u64, u64)>,
    collected_at: u64,
}

impl RateLimiter {
    /// Take a token of the address's bucket; false when there is none.
    pub fn allow(&mut self, address: IpAddr, now: u64) -> bool {
        let source = match address {
            IpAddr::V4(address) => (false, u64::from(u32::from(address))),
            IpAddr::V6(address) => (true, (u128::from(address) >> 64) as u64),
        };
        if now.saturating_sub(self.collected_at) >= IDLE_TIME {
            self.collected_at = now;
            self.buckets.retain(|_, bucket| now.saturating_sub(bucket.1) < IDLE_TIME);
        }
        let full = self.buckets.len() >= TABLE_LIMIT;
        let filled = match self.buckets.get(&source) {
            Some(&(tokens, counted_at)) => BURST.min(tokens + now.saturating_sub(counted_at)),
            None if full => return false,
            None => BURST,
        };
        let allowed = filled >= TOKEN;
        self.buckets.insert(source, (if allowed { filled - TOKEN } else { filled }, now));
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_at_once_then_twenty_a_second_for_each_ipv4_address_and_each_ipv6_64() {
        for (one, same, other) in
            [("192.0.2.1", "192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2:3:4:5", "2001:db8:0:1::1")]
        {
            let mut limiter = RateLimiter::default();
            let mut allow = |address: &str, ms: u64| {
                limiter.allow(address.parse().unwrap(), 10 * SECOND + ms * 1_000_000)
            };
            assert_eq!([0; 6].map(|ms| allow(one, ms)), [true, true, true, true, true, false]);
            assert!(!allow(same, 0) && allow(other, 0));
            assert!(allow(same, 50) && !allow(one, 60));
            assert!(allow(one, 160) && allow(same, 160) && !allow(one, 160));
        }
    }

    #[test]
    fn the_table_is_bounded_and_idle_sources_are_forgotten() {
        let mut limiter = RateLimiter::default();
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        for number in 0..TABLE_LIMIT as u32 {
            assert!(limiter.allow(address(number), 5 * SECOND));
        }
        assert!(!limiter.allow(address(1 << 20), 5 * SECOND));
        assert!(limiter.allow(address(1), 5 * SECOND), "those known go on");
        assert!(limiter.allow(address(1 << 20), 7 * SECOND));
        assert_eq!(limiter.buckets.len(), 1);
    }
}
