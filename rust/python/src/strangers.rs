//! `sift_strangers`: receiving during a flood, for an engine in Python.

use std::os::fd::{BorrowedFd, RawFd};

use pyo3::prelude::*;
use pyo3::types::PyByteArray;
use wgpy_dataplane::host::sift;

use crate::defence::FirstDefence;
use crate::engine::{PyOrigin, origin_tuple};
use crate::{errors, nanoseconds};

/// Length, size of each datagram, TOS, origin, and whether it is an initiation that has passed.
type PyReceived<'py> = (usize, usize, u8, PyOrigin<'py>, bool);
/// That, if there is any; why how many were kept from the engine; how many the kernel threw away unread.
type PySifted<'py> = (Option<PyReceived<'py>>, Vec<(&'static str, usize)>, u32);

#[pyfunction]
#[pyo3(signature = (fd, is_ipv6, buffer, defence, depth, now, drops_garbage, most))]
#[expect(
    clippy::too_many_arguments,
    reason = "a call for a batch: an object for them would be made for each"
)]
pub fn sift_strangers<'py>(
    py: Python<'py>,
    fd: RawFd,
    is_ipv6: bool,
    buffer: &Bound<'py, PyByteArray>,
    defence: &FirstDefence,
    depth: usize,
    now: f64,
    drops_garbage: bool,
    most: usize,
) -> PyResult<PySifted<'py>> {
    if fd < 0 {
        return Err(errors::closed_descriptor());
    }
    // SAFETY: the caller's socket is open, and nobody can close it before this returns: the GIL is held.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    // SAFETY: the GIL is held and no Python runs until the last use, so nobody reads, writes or resizes it.
    let octets = unsafe { buffer.as_bytes_mut() };
    let sifted = sift(fd, is_ipv6, octets, &mut defence.lock(), depth, nanoseconds(now), drops_garbage, most);
    let received = sifted.received.map(|received| {
        let origin = origin_tuple(py, &received.origin);
        (received.length, received.segment_size, received.tos, origin, sifted.is_judged)
    });
    let kept = sifted.kept.into_iter().map(|(reason, count)| (reason.text(), count)).collect();
    Ok((received, kept, sifted.overflows))
}
