//! `Relay`: the forwarding half of a relay. Python's half is `wgpy/relay/server.py`.

use std::os::fd::{AsRawFd, RawFd};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wgpy_dataplane::host::HostRelay;
use wgpy_dataplane::relay::{NodeAddress, Settings};
use zeroize::Zeroizing;

use crate::engine::{OriginTuple, PyOrigin, origin_tuple, parse_origin};
use crate::errors;
use crate::octets::key;

#[pyclass(frozen, module = "wgpy._engine")]
pub struct Relay {
    host: HostRelay,
}

fn node_address(network: &[u8], id: u64) -> PyResult<NodeAddress> {
    let network =
        network.try_into().map_err(|_| PyValueError::new_err("expected a network id of 16 octets"))?;
    Ok(NodeAddress { network, id })
}

#[pymethods]
impl Relay {
    #[new]
    #[pyo3(signature = (port, other_port, *, most_sessions, rate_of_each, rate_of_all, receipt_key))]
    fn new(
        py: Python<'_>,
        port: u16,
        other_port: u16,
        most_sessions: usize,
        rate_of_each: u64,
        rate_of_all: u64,
        receipt_key: &[u8],
    ) -> PyResult<Self> {
        let receipt_key = Zeroizing::new(*key(receipt_key, "receipt key")?);
        let settings = Settings { most_sessions, rate_of_each, rate_of_all, receipt_key };
        let host = py.detach(|| HostRelay::start(port, other_port, settings)).map_err(errors::os_error)?;
        Ok(Self { host })
    }

    fn ports(&self) -> (u16, Option<u16>) {
        self.host.ports()
    }

    fn fileno(&self) -> RawFd {
        self.host.raised_fd().as_raw_fd()
    }

    fn take_registrations<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Vec<(Bound<'py, PyBytes>, PyOrigin<'py>)>> {
        let taken = py.detach(|| self.host.take_registrations());
        let taken =
            taken.ok_or_else(|| PyRuntimeError::new_err("the relay's thread met with a fault of its own"))?;
        let tuple = |(data, origin): &(Box<[u8]>, _)| (PyBytes::new(py, data), origin_tuple(py, origin));
        Ok(taken.iter().map(tuple).collect())
    }

    fn admit(
        &self,
        py: Python<'_>,
        network: &[u8],
        id: u64,
        session_key: &[u8],
        origin: OriginTuple<'_>,
    ) -> PyResult<Option<u64>> {
        let node = node_address(network, id)?;
        let (session_key, origin) = (*key(session_key, "session key")?, parse_origin(origin)?);
        Ok(py.detach(|| self.host.admit(node, session_key, origin)))
    }

    fn remove(&self, py: Python<'_>, network: &[u8], id: u64) -> PyResult<bool> {
        let node = node_address(network, id)?;
        Ok(py.detach(|| self.host.remove(&node)))
    }

    fn send(&self, py: Python<'_>, datagram: &[u8], to: OriginTuple<'_>) -> PyResult<()> {
        let to = parse_origin(to)?;
        py.detach(|| self.host.send(datagram, &to));
        Ok(())
    }

    fn expire(&self, py: Python<'_>) -> usize {
        py.detach(|| self.host.expire())
    }

    fn drain(&self, py: Python<'_>) {
        py.detach(|| self.host.drain());
    }

    fn counts(&self, py: Python<'_>) -> Vec<(&'static str, u64)> {
        py.detach(|| self.host.counts())
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.host.close());
    }
}
