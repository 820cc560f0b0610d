//! Every exception that crosses to Python is made here.
//!
//! Nothing a stranger sends raises, so none of the errors of `wgpy.errors` begins here: what raises is a
//! caller's mistake (ValueError, and TypeError from argument conversion) or the host (OSError with its
//! errno).

use std::io;

use pyo3::PyErr;
use pyo3::exceptions::{PyOSError, PyOverflowError, PyTypeError, PyValueError};

/// A key of the wrong size.
pub fn key_size(what: &str, size: usize) -> PyErr {
    PyValueError::new_err(format!("a {what} has 32 octets, not {size}"))
}

/// An address that is neither IPv4 nor IPv6.
pub fn address_size(size: usize) -> PyErr {
    PyValueError::new_err(format!("an address has 4 or 16 octets, not {size}"))
}

/// A prefix longer than its address.
pub fn prefix_length(length: u32, longest: u32) -> PyErr {
    PyValueError::new_err(format!("a prefix of this family has at most {longest} bits, not {length}"))
}

/// A descriptor of -1, as a closed socket has.
pub fn closed_descriptor() -> PyErr {
    PyOSError::new_err((libc::EBADF, "the socket is closed"))
}

/// An instant that is not a number.
pub fn not_an_instant() -> PyErr {
    PyValueError::new_err("a deadline is a number of seconds, not NaN")
}

/// More octets asked for than the buffer has.
pub fn beyond_buffer(length: usize, size: usize) -> PyErr {
    PyValueError::new_err(format!("{length} octets were received into a buffer of {size}"))
}

/// A receive without a segment size.
pub fn no_segment_size() -> PyErr {
    PyValueError::new_err("a segment has at least one octet; without UDP_GRO its size is the length")
}

/// A buffer whose octets are not in one row.
pub fn not_contiguous() -> PyErr {
    PyTypeError::new_err("a packet is a contiguous buffer of octets")
}

/// A number that is no file descriptor.
pub fn no_descriptor(fd: i32) -> PyErr {
    PyValueError::new_err(format!("a file descriptor is not negative; got {fd}"))
}

/// All ids were used.
pub fn no_peer_ids() -> PyErr {
    PyOverflowError::new_err("2^32 peers were added to this engine, and their ids never recur")
}

/// What the kernel said, with its errno, from which Python chooses the kind of OSError.
pub fn os_error(error: io::Error) -> PyErr {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(number) => {
            let text = text.strip_suffix(&format!(" (os error {number})")).unwrap_or(&text).to_owned();
            PyOSError::new_err((number, text))
        }
        None => PyOSError::new_err(text),
    }
}

/// What the kernel said last.
pub fn last_os_error() -> PyErr {
    os_error(io::Error::last_os_error())
}
