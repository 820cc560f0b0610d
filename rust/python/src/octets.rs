//! Octets from Python: `bytes` are borrowed, for they never change; all other buffers are copied.

use std::ops::Deref;

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors;

/// Octets that stay as they are while the GIL is released.
pub enum Octets<'py> {
    /// Borrowed.
    Bytes(Bound<'py, PyBytes>),
    /// Copied.
    Copied(Vec<u8>),
}

impl Deref for Octets<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes.as_bytes(),
            Self::Copied(octets) => octets,
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Octets<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match object.cast::<PyBytes>() {
            Ok(bytes) => Ok(Self::Bytes(bytes.to_owned())),
            Err(_) => Ok(Self::Copied(first_octets(&object, usize::MAX)?)),
        }
    }
}

/// A copy of the first octets of a buffer, `limit` at most.
pub fn first_octets(object: &Bound<'_, PyAny>, limit: usize) -> PyResult<Vec<u8>> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        let octets = bytes.as_bytes();
        return Ok(octets[..octets.len().min(limit)].to_vec());
    }
    let buffer = PyBuffer::<u8>::get(object)?;
    let cells = buffer.as_slice(object.py()).ok_or_else(errors::not_contiguous)?;
    Ok(cells[..cells.len().min(limit)].iter().map(|cell| cell.get()).collect())
}

/// A new `bytes` whose octets `write` puts there.
pub fn new_bytes<'py>(
    py: Python<'py>,
    size: usize,
    write: impl FnOnce(&mut [u8]),
) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, size, |octets| {
        write(octets);
        Ok(())
    })
}

/// A key from Python.
pub fn key<'a>(octets: &'a [u8], what: &str) -> PyResult<&'a [u8; 32]> {
    octets.try_into().map_err(|_| errors::key_size(what, octets.len()))
}
