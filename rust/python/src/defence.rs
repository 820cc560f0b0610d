//! `FirstDefence`: the first line of defence for an engine in Python.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wgpy_dataplane::engine;
use wgpy_dataplane::engine::Verdict;

use crate::allowed_ips::address;
use crate::nanoseconds;
use crate::octets::key;

type IdentityKeys<'a> = Option<(&'a [u8; 32], &'a [u8; 32])>;

/// Both keys of an identity, or none of it.
pub(crate) fn identity_keys<'a>(
    mac1_key: Option<&'a [u8]>,
    cookie_key: Option<&'a [u8]>,
) -> PyResult<IdentityKeys<'a>> {
    Ok(match (mac1_key, cookie_key) {
        (Some(mac1_key), Some(cookie_key)) => {
            Some((key(mac1_key, "mac1 key")?, key(cookie_key, "cookie key")?))
        }
        _ => None,
    })
}

#[pyclass(frozen, module = "wgpy._engine")]
pub struct FirstDefence(Mutex<engine::FirstDefence>);

impl FirstDefence {
    pub fn lock(&self) -> MutexGuard<'_, engine::FirstDefence> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl FirstDefence {
    #[new]
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn set_identity(&self, mac1_key: Option<&[u8]>, cookie_key: Option<&[u8]>) -> PyResult<()> {
        let keys = identity_keys(mac1_key, cookie_key)?;
        self.lock().set_identity(keys);
        Ok(())
    }

    fn set_previous_identity(&self, mac1_key: Option<&[u8]>, cookie_key: Option<&[u8]>) -> PyResult<()> {
        let keys = identity_keys(mac1_key, cookie_key)?;
        self.lock().set_previous_identity(keys);
        Ok(())
    }

    /// None: it is worth a DH. Else why it is dropped, or what its sender is to be sent.
    #[pyo3(signature = (message, source, port, depth, now))]
    fn judge(
        &self,
        py: Python<'_>,
        message: &[u8],
        source: &[u8],
        port: u16,
        depth: usize,
        now: f64,
    ) -> PyResult<Option<Py<PyAny>>> {
        let source = SocketAddr::from((address(source)?, port));
        match self.lock().judge(message, source, depth, nanoseconds(now)) {
            Verdict::Pass => Ok(None),
            Verdict::Drop(reason) => reason.text().into_py_any(py).map(Some),
            Verdict::CookieReply(reply) => PyBytes::new(py, &reply).into_py_any(py).map(Some),
        }
    }
}
