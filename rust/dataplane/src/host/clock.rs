//! The boot-time clock, which counts suspend.

use crate::engine::Clock;

/// CLOCK_BOOTTIME.
pub struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> u64 {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` is a timespec to write to. The clock is there since Linux 2.6.39.
        unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) };
        (now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64).max(1)
    }
}
