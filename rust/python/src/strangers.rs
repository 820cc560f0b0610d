//! `Sieve`: receiving during a flood, for an engine in Python.

use std::os::fd::{BorrowedFd, RawFd};

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict};
use wgpy_dataplane::engine::Drop;
use wgpy_dataplane::host::{Known, sift};

use crate::defence::FirstDefence;
use crate::engine::{PyOrigin, origin_tuple};
use crate::session::Session;
use crate::{errors, nanoseconds};

/// Length, size of each datagram, TOS, origin, and whether it is an initiation that has passed.
type PyReceived<'py> = (usize, usize, u8, PyOrigin<'py>, bool);
/// That, if there is any; why how many were kept from the engine; how many the kernel threw away unread.
type PySifted<'py> = (Option<PyReceived<'py>>, Vec<(&'static str, usize)>, u32);

#[pyclass(frozen, module = "wgpy._engine")]
pub struct Sieve {
    defence: Py<FirstDefence>,
    indices: Py<PyDict>,
    sessions: Py<PyDict>,
}

/// Both dicts of a sieve, for one call.
struct Indices<'a, 'py> {
    indices: &'a Bound<'py, PyDict>,
    sessions: &'a Bound<'py, PyDict>,
}

impl Known for Indices<'_, '_> {
    fn has_index(&self, index: u32) -> bool {
        // Should a dict fail to tell, the engine finds out itself.
        self.indices.contains(index).unwrap_or(true)
    }

    fn why_dropped(&self, index: u32, counter: u64) -> Option<Drop> {
        let session = self.sessions.get_item(index).ok()?;
        let Some(session) = session else { return Some(Drop::UnknownIndex) };
        let session = session.cast::<Session>().ok()?;
        session.get().keypair.has_received(counter).then_some(Drop::Replayed)
    }
}

#[pymethods]
impl Sieve {
    #[new]
    fn new(defence: Py<FirstDefence>, indices: Py<PyDict>, sessions: Py<PyDict>) -> Self {
        Self { defence, indices, sessions }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a call for a batch: an object for them would be made for each"
    )]
    fn receive<'py>(
        &self,
        py: Python<'py>,
        fd: RawFd,
        is_ipv6: bool,
        buffer: &Bound<'py, PyByteArray>,
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
        // SAFETY: the GIL is held until the last use, and the only Python that runs is a dict looking for an int
        // of ours among ints, so nobody reads, writes or resizes it.
        let octets = unsafe { buffer.as_bytes_mut() };
        let known = Indices { indices: self.indices.bind(py), sessions: self.sessions.bind(py) };
        let defence = &mut self.defence.get().lock();
        let sifted = sift(fd, is_ipv6, octets, defence, &known, depth, nanoseconds(now), drops_garbage, most);
        let received = sifted.received.map(|received| {
            let origin = origin_tuple(py, &received.origin);
            (received.length, received.segment_size, received.tos, origin, sifted.is_judged)
        });
        let kept = sifted.kept.into_iter().map(|(reason, count)| (reason.text(), count)).collect();
        Ok((received, kept, sifted.overflows))
    }
}
