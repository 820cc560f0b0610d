//! `AllowedIps`: the trie of the data plane.

use std::net::IpAddr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use wgpy_dataplane::allowed_ips::{self as dataplane, PeerId};
use wgpy_dataplane::inner::{IPV6_HEADER_SIZE, destination_untrusted, source_untrusted};
use wgpy_dataplane::virtio;

use crate::errors;
use crate::octets::first_octets;

#[pyclass(frozen, module = "wgpy._engine")]
pub struct AllowedIps {
    trie: RwLock<dataplane::AllowedIps>,
}

pub fn address(octets: &[u8]) -> PyResult<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Ok(v4.into());
    }
    <[u8; 16]>::try_from(octets).map(IpAddr::from).map_err(|_| errors::address_size(octets.len()))
}

pub fn prefix(octets: &[u8], length: u32) -> PyResult<(IpAddr, u8)> {
    let address = address(octets)?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    match u8::try_from(length) {
        Ok(length) if length <= longest => Ok((address, length)),
        _ => Err(errors::prefix_length(length, longest.into())),
    }
}

pub fn octets_of<'py>(py: Python<'py>, address: IpAddr) -> Bound<'py, PyBytes> {
    match address {
        IpAddr::V4(address) => PyBytes::new(py, &address.octets()),
        IpAddr::V6(address) => PyBytes::new(py, &address.octets()),
    }
}

/// As much of a packet as says where it is from and where it goes.
fn header(packet: &Bound<'_, PyAny>, vnet_hdr: bool) -> PyResult<Vec<u8>> {
    let skip = if vnet_hdr { virtio::HEADER_SIZE } else { 0 };
    let mut octets = first_octets(packet, skip + IPV6_HEADER_SIZE)?;
    octets.drain(..skip.min(octets.len()));
    Ok(octets)
}

impl AllowedIps {
    // No Python code runs while one of these locks is held.
    pub fn read(&self) -> RwLockReadGuard<'_, dataplane::AllowedIps> {
        self.trie.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, dataplane::AllowedIps> {
        self.trie.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl AllowedIps {
    #[new]
    fn new() -> Self {
        Self { trie: RwLock::default() }
    }

    fn insert(&self, peer: PeerId, address: &[u8], prefix_length: u32) -> PyResult<()> {
        let (address, length) = prefix(address, prefix_length)?;
        self.write().insert(peer, address, length);
        Ok(())
    }

    fn insert_many(&self, peer: PeerId, prefixes: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut parsed = Vec::new();
        for item in prefixes.try_iter()? {
            let (octets, length): (Bound<'_, PyBytes>, u32) = item?.extract()?;
            parsed.push(prefix(octets.as_bytes(), length)?);
        }
        let mut trie = self.write();
        for (address, length) in parsed {
            trie.insert(peer, address, length);
        }
        Ok(())
    }

    fn remove(&self, peer: PeerId, address: &[u8], prefix_length: u32) -> PyResult<bool> {
        let (address, length) = prefix(address, prefix_length)?;
        Ok(self.write().remove(peer, address, length))
    }

    fn remove_peer(&self, peer: PeerId) {
        self.write().remove_by_peer(peer);
    }

    fn prefixes<'py>(&self, py: Python<'py>, peer: PeerId) -> Vec<(Bound<'py, PyBytes>, u8)> {
        let prefixes: Vec<_> = self.read().prefixes(peer).collect();
        prefixes.into_iter().map(|(address, length)| (octets_of(py, address), length)).collect()
    }

    fn __len__(&self) -> usize {
        self.read().len()
    }

    fn lookup(&self, address: &[u8]) -> PyResult<Option<PeerId>> {
        let address = self::address(address)?;
        Ok(self.read().lookup(address))
    }

    #[pyo3(signature = (packet, *, vnet_hdr = false))]
    fn lookup_source(&self, packet: &Bound<'_, PyAny>, vnet_hdr: bool) -> PyResult<Option<PeerId>> {
        let source = source_untrusted(&header(packet, vnet_hdr)?);
        Ok(source.and_then(|source| self.read().lookup(source)))
    }

    #[pyo3(signature = (packet, *, vnet_hdr = false))]
    fn lookup_destination(&self, packet: &Bound<'_, PyAny>, vnet_hdr: bool) -> PyResult<Option<PeerId>> {
        let destination = destination_untrusted(&header(packet, vnet_hdr)?);
        Ok(destination.and_then(|destination| self.read().lookup(destination)))
    }

    #[pyo3(signature = (packets, *, vnet_hdr = false))]
    fn group_by_destination<'py>(
        &self,
        py: Python<'py>,
        packets: &Bound<'py, PyAny>,
        vnet_hdr: bool,
    ) -> PyResult<Vec<(Option<PeerId>, Bound<'py, PyList>)>> {
        let mut groups: Vec<(Option<PeerId>, Bound<'py, PyList>)> = Vec::new();
        for packet in packets.try_iter()? {
            let packet = packet?;
            let peer = self.lookup_destination(&packet, vnet_hdr)?;
            // The last group first: packets come in trains.
            if let Some((_, group)) = groups.iter().rev().find(|(owner, _)| *owner == peer) {
                group.append(packet)?;
            } else {
                groups.push((peer, PyList::new(py, [packet])?));
            }
        }
        Ok(groups)
    }
}
