//! Functions of single packets and superpackets.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use wgpy_dataplane::coalesce::Protocols;
use wgpy_dataplane::fragment::fragment as split;
use wgpy_dataplane::inner::looped_receiver_index_untrusted;
use wgpy_dataplane::superpacket::Superpacket;
use wgpy_dataplane::virtio;

use crate::octets::{Octets, first_octets, new_bytes};
use crate::received::written;

/// As much of a packet as a UDP header and the header of transport data may take, and room for IPv4 options.
const LOOPED_SIZE: usize = virtio::HEADER_SIZE + 60 + 8 + 32;

#[pyfunction]
#[pyo3(signature = (packet, *, vnet_hdr = false))]
pub fn segment_count(packet: Octets<'_>, vnet_hdr: bool) -> usize {
    Superpacket::of(&packet, vnet_hdr).map_or(0, |superpacket| superpacket.segment_count())
}

/// Octets of the longest packet that it is split into; 0 for one that contradicts its own header.
#[pyfunction]
#[pyo3(signature = (packet, *, vnet_hdr = false))]
pub fn longest_segment(packet: Octets<'_>, vnet_hdr: bool) -> usize {
    Superpacket::of(&packet, vnet_hdr).map_or(0, |superpacket| superpacket.segment_length(0))
}

#[pyfunction]
#[pyo3(signature = (packet, mtu, identification, *, vnet_hdr = false))]
pub fn fragment<'py>(
    py: Python<'py>,
    packet: Octets<'py>,
    mtu: usize,
    identification: u32,
    vnet_hdr: bool,
) -> Vec<Bound<'py, PyBytes>> {
    let packets = Superpacket::of(&packet, vnet_hdr)
        .map(|superpacket| split(&superpacket, mtu, identification))
        .unwrap_or_default();
    packets.iter().map(|packet| PyBytes::new(py, packet)).collect()
}

#[pyfunction]
pub fn split_superpacket<'py>(py: Python<'py>, packet: Octets<'py>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let Some(superpacket) = Superpacket::parse(&packet) else { return Ok(Vec::new()) };
    let segments = (0..superpacket.segment_count()).map(|number| {
        let size = superpacket.segment_length(number);
        new_bytes(py, size, |out| superpacket.write_segment(number, out))
    });
    segments.collect()
}

#[pyfunction]
#[pyo3(signature = (packets, *, coalesce_tcp = true, coalesce_udp = true))]
pub fn coalesce<'py>(
    py: Python<'py>,
    packets: Vec<Octets<'py>>,
    coalesce_tcp: bool,
    coalesce_udp: bool,
) -> PyResult<Bound<'py, PyList>> {
    let packets: Vec<&[u8]> = packets.iter().map(|packet| &packet[..]).collect();
    written(py, &packets, Some(Protocols { tcp: coalesce_tcp, udp: coalesce_udp }))
}

#[pyfunction]
#[pyo3(signature = (packet, own_port, *, vnet_hdr = false))]
pub fn looped_receiver_index(
    packet: &Bound<'_, PyAny>,
    own_port: u16,
    vnet_hdr: bool,
) -> PyResult<Option<u32>> {
    let octets = first_octets(packet, LOOPED_SIZE)?;
    let skip = if vnet_hdr { virtio::HEADER_SIZE } else { 0 };
    Ok(octets.get(skip..).and_then(|packet| looped_receiver_index_untrusted(packet, own_port)))
}
