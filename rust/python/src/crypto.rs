//! The AEAD, the replay window and the checksum on their own.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wgpy_dataplane::aead::{ChaCha20Poly1305, chosen};
use wgpy_dataplane::checksum::Sum;
use wgpy_dataplane::message::TAG_SIZE;
use wgpy_dataplane::replay;

use crate::octets::{Octets, key as parse_key, new_bytes};

#[pyfunction]
#[pyo3(signature = (key, counter, plaintext, additional_data = None))]
pub fn aead_seal<'py>(
    py: Python<'py>,
    key: &[u8],
    counter: u64,
    plaintext: Octets<'py>,
    additional_data: Option<Octets<'py>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let aead = ChaCha20Poly1305::new(parse_key(key, "key")?);
    new_bytes(py, plaintext.len() + TAG_SIZE, |out| {
        let (text, tag) = out.split_at_mut(plaintext.len());
        text.copy_from_slice(&plaintext);
        tag.copy_from_slice(&aead.seal(counter, additional_data.as_deref().unwrap_or_default(), text));
    })
}

#[pyfunction]
#[pyo3(signature = (key, counter, ciphertext, additional_data = None))]
pub fn aead_open<'py>(
    py: Python<'py>,
    key: &[u8],
    counter: u64,
    ciphertext: Octets<'py>,
    additional_data: Option<Octets<'py>>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let aead = ChaCha20Poly1305::new(parse_key(key, "key")?);
    let mut sealed = zeroize::Zeroizing::new(ciphertext.to_vec());
    if !aead.open(counter, additional_data.as_deref().unwrap_or_default(), &mut sealed) {
        return Ok(None);
    }
    Ok(Some(PyBytes::new(py, &sealed[..sealed.len() - TAG_SIZE])))
}

#[pyfunction]
pub fn aead_kernel() -> (&'static str, Option<&'static str>) {
    let choice = chosen();
    (choice.kernel.description(), choice.warning.as_deref())
}

#[pyfunction]
#[pyo3(signature = (data, initial = 0))]
pub fn internet_checksum(data: Octets<'_>, initial: u32) -> u16 {
    Sum::new(initial).octets(&data).checksum()
}

#[pyclass(frozen, module = "wgpy._engine")]
pub struct ReplayWindow {
    window: Mutex<replay::ReplayWindow>,
}

#[pymethods]
impl ReplayWindow {
    #[new]
    fn new() -> Self {
        Self { window: Mutex::default() }
    }

    fn check_and_set(&self, counter: u64) -> bool {
        self.window.lock().unwrap_or_else(PoisonError::into_inner).check_and_set(counter)
    }
}
