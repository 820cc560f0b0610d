//! The boot-time clock, which counts suspend, and timers on it.

use std::os::fd::RawFd;
use std::ptr;

use pyo3::prelude::*;

use crate::{errors, nanoseconds};

#[pyfunction]
pub fn boottime_ns() -> PyResult<u64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a timespec to write to.
    if unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) } != 0 {
        return Err(errors::last_os_error());
    }
    Ok(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

#[pyfunction]
pub fn timerfd_create() -> PyResult<RawFd> {
    // SAFETY: no memory is handed over.
    let fd = unsafe { libc::timerfd_create(libc::CLOCK_BOOTTIME, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
    if fd < 0 { Err(errors::last_os_error()) } else { Ok(fd) }
}

#[pyfunction]
pub fn timerfd_settime(fd: RawFd, deadline: f64) -> PyResult<()> {
    if deadline.is_nan() {
        return Err(errors::not_an_instant());
    }
    let mut value = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // Zero would disarm the timer; infinity is to do so.
    if deadline != f64::INFINITY {
        let deadline = nanoseconds(deadline).max(1);
        value.tv_sec = (deadline / 1_000_000_000) as libc::time_t;
        value.tv_nsec = (deadline % 1_000_000_000) as libc::c_long;
    }
    let timer = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
    // SAFETY: `timer` is an itimerspec to read, and no former value is asked for.
    if unsafe { libc::timerfd_settime(fd, libc::TFD_TIMER_ABSTIME, &timer, ptr::null_mut()) } != 0 {
        return Err(errors::last_os_error());
    }
    Ok(())
}
