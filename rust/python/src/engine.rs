//! `Engine`: the engine of the data plane on this host. Python's half is `wgpy/engine/native.py`.
//!
//! Every command runs without the GIL, for it may wait for a batch of packets.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use wgpy_dataplane::allowed_ips::PeerId;
use wgpy_dataplane::engine::{DatagramFilter, Event, NewSession, Origin, RelaySession};
#[cfg(not(feature = "simulation"))]
use wgpy_dataplane::host::HostEngine;
use wgpy_dataplane::host::{Limits, Offload};
use wgpy_dataplane::keypair::Established;

use crate::allowed_ips::{address, octets_of, prefix};
use crate::defence::identity_keys;
use crate::octets::key;
#[cfg(feature = "simulation")]
use crate::simulation::MemoryHost as HostEngine;
use crate::{errors, nanoseconds};

/// Address, port, scope id.
pub type EndpointTuple<'a> = (&'a [u8], u16, u32);
/// The same, then our address and the interface.
pub type OriginTuple<'a> = (&'a [u8], u16, u32, Option<&'a [u8]>, u32);
type PrefixTuple<'py> = (Bound<'py, PyBytes>, u32);

pub fn endpoint((octets, port, scope): EndpointTuple<'_>) -> PyResult<SocketAddr> {
    Ok(match address(octets)? {
        IpAddr::V4(address) => (address, port).into(),
        IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, scope).into(),
    })
}

pub fn parse_origin((octets, port, scope, local, interface_index): OriginTuple<'_>) -> PyResult<Origin> {
    let remote = endpoint((octets, port, scope))?;
    Ok(Origin { remote, local: local.map(address).transpose()?, interface_index })
}

fn prefixes(prefixes: Vec<PrefixTuple<'_>>) -> PyResult<Vec<(IpAddr, u8)>> {
    prefixes.iter().map(|(octets, length)| prefix(octets.as_bytes(), *length)).collect()
}

pub type PyEndpoint<'py> = (Bound<'py, PyBytes>, u16, u32);

pub fn endpoint_tuple(py: Python<'_>, endpoint: SocketAddr) -> PyEndpoint<'_> {
    let scope = match endpoint {
        SocketAddr::V6(endpoint) => endpoint.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    (octets_of(py, endpoint.ip()), endpoint.port(), scope)
}

pub type PyOrigin<'py> = (Bound<'py, PyBytes>, u16, u32, Option<Bound<'py, PyBytes>>, u32);

pub fn origin_tuple<'py>(py: Python<'py>, origin: &Origin) -> PyOrigin<'py> {
    let (address, port, scope) = endpoint_tuple(py, origin.remote);
    let local = origin.local.map(|local| octets_of(py, local));
    (address, port, scope, local, origin.interface_index)
}

/// Events are tuples whose first item says what they are.
pub fn event_tuple<'py>(py: Python<'py>, event: Event) -> PyResult<Bound<'py, PyTuple>> {
    let tuple = match event {
        Event::HandshakeMessage { data, origin, seq, depth, peer } => {
            ("handshake", PyBytes::new(py, &data), origin_tuple(py, &origin), seq, depth, peer)
                .into_bound_py_any(py)?
        }
        Event::PeerWork { peer, bits, confirmed_index, endpoint } => {
            let endpoint = endpoint.map(|endpoint| endpoint_tuple(py, endpoint));
            ("work", peer, bits, confirmed_index, endpoint).into_bound_py_any(py)?
        }
        Event::Control { peer, path, data } => {
            ("control", peer, origin_tuple(py, &path), PyBytes::new(py, &data)).into_bound_py_any(py)?
        }
        Event::OtherDatagram { data, origin } => {
            ("other", PyBytes::new(py, &data), origin_tuple(py, &origin)).into_bound_py_any(py)?
        }
        Event::EngineFailed(reason) => ("failed", reason).into_bound_py_any(py)?,
    };
    Ok(tuple.cast_into()?)
}

fn seconds(nanoseconds: Option<u64>) -> Option<f64> {
    nanoseconds.map(|nanoseconds| nanoseconds as f64 / 1e9)
}

type PyFacts =
    (Option<f64>, Option<f64>, Option<f64>, Option<f64>, Option<f64>, usize, Option<(u32, f64, bool, bool)>);

#[pyclass(frozen, module = "wgpy._engine")]
pub struct Engine {
    pub host: HostEngine,
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (*, tso, uso, gso, gro, staged_octets, socket_buffer))]
    fn new(
        tso: bool,
        uso: bool,
        gso: bool,
        gro: bool,
        staged_octets: usize,
        socket_buffer: usize,
    ) -> PyResult<Self> {
        let host = HostEngine::new(Offload { tso, uso, gso, gro }, Limits { staged_octets, socket_buffer })
            .map_err(errors::os_error)?;
        Ok(Self { host })
    }

    // --- life cycle ---

    fn start(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.host.start()).map_err(errors::os_error)
    }

    fn open(&self, py: Python<'_>, tun_fd: RawFd, mtu: usize, vnet_hdr: bool) -> PyResult<()> {
        if tun_fd < 0 {
            return Err(errors::no_descriptor(tun_fd));
        }
        py.detach(|| {
            // SAFETY: the caller has it open during the call; were it not, duplicating it says so.
            self.host.open(unsafe { BorrowedFd::borrow_raw(tun_fd) }, mtu, vnet_hdr)
        })
        .map_err(errors::os_error)?;
        Ok(())
    }

    fn bind(&self, py: Python<'_>, port: u16, fwmark: u32) -> PyResult<u16> {
        py.detach(|| self.host.bind(port, fwmark)).map_err(errors::os_error)
    }

    fn unbind(&self, py: Python<'_>) {
        py.detach(|| self.host.engine().unbind());
    }

    fn set_fwmark(&self, py: Python<'_>, mark: u32) -> PyResult<()> {
        py.detach(|| self.host.set_mark(mark)).map_err(errors::os_error)
    }

    fn set_mtu(&self, py: Python<'_>, mtu: usize) {
        py.detach(|| self.host.engine().set_mtu(mtu));
    }

    fn expect(
        &self,
        py: Python<'_>,
        stun_transactions: Vec<[u8; 12]>,
        remotes: Vec<(Bound<'_, PyBytes>, u16, u32)>,
    ) -> PyResult<()> {
        let remotes =
            remotes.iter().map(|(octets, port, scope)| endpoint((octets.as_bytes(), *port, *scope)));
        let filter = DatagramFilter {
            stun_transactions: stun_transactions.into_iter().collect(),
            remotes: remotes.collect::<PyResult<_>>()?,
        };
        py.detach(|| self.host.engine().expect(filter));
        Ok(())
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.host.close());
    }

    // --- what it tells ---

    fn events_fileno(&self) -> RawFd {
        self.host.events_fd().as_raw_fd()
    }

    fn drain_events<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let events = py.detach(|| self.host.engine().events.drain());
        events.into_iter().map(|event| event_tuple(py, event)).collect()
    }

    fn drops(&self, py: Python<'_>) -> Vec<(&'static str, u64)> {
        py.detach(|| self.host.drops())
    }

    fn offloads(&self, py: Python<'_>) -> [(&'static str, bool); 4] {
        let Offload { tso, uso, gso, gro } = py.detach(|| self.host.offloads());
        [("tso", tso), ("uso", uso), ("gso", gso), ("gro", gro)]
    }

    // --- the seam's commands ---

    fn set_identity(
        &self,
        py: Python<'_>,
        mac1_key: Option<&[u8]>,
        cookie_key: Option<&[u8]>,
    ) -> PyResult<()> {
        let keys = identity_keys(mac1_key, cookie_key)?;
        py.detach(|| self.host.engine().set_identity(keys));
        Ok(())
    }

    fn set_previous_identity(
        &self,
        py: Python<'_>,
        mac1_key: Option<&[u8]>,
        cookie_key: Option<&[u8]>,
    ) -> PyResult<()> {
        let keys = identity_keys(mac1_key, cookie_key)?;
        py.detach(|| self.host.engine().set_previous_identity(keys));
        Ok(())
    }

    fn add_peer(&self, py: Python<'_>) -> PyResult<PeerId> {
        py.detach(|| self.host.engine().add_peer()).ok_or_else(errors::no_peer_ids)
    }

    fn remove_peer(&self, py: Python<'_>, peer: PeerId) {
        py.detach(|| self.host.engine().remove_peer(peer));
    }

    fn add_allowed_ips(&self, py: Python<'_>, peer: PeerId, added: Vec<PrefixTuple<'_>>) -> PyResult<()> {
        let added = prefixes(added)?;
        py.detach(|| self.host.engine().add_allowed_ips(peer, &added));
        Ok(())
    }

    fn remove_allowed_ips(
        &self,
        py: Python<'_>,
        peer: PeerId,
        removed: Vec<PrefixTuple<'_>>,
    ) -> PyResult<()> {
        let removed = prefixes(removed)?;
        py.detach(|| self.host.engine().remove_allowed_ips(peer, &removed));
        Ok(())
    }

    fn allowed_ips<'py>(&self, py: Python<'py>, peer: PeerId) -> Vec<(Bound<'py, PyBytes>, u8)> {
        let all = py.detach(|| self.host.engine().allowed_ips(peer));
        all.into_iter().map(|(address, length)| (octets_of(py, address), length)).collect()
    }

    fn set_endpoint(&self, py: Python<'_>, peer: PeerId, to: Option<EndpointTuple<'_>>) -> PyResult<()> {
        let to = to.map(endpoint).transpose()?;
        py.detach(|| self.host.engine().set_endpoint(peer, to));
        Ok(())
    }

    fn forget_source(&self, py: Python<'_>, peer: Option<PeerId>) {
        py.detach(|| self.host.engine().forget_source(peer));
    }

    fn forget_sources_at(&self, py: Python<'_>, interface_index: u32) {
        py.detach(|| self.host.engine().forget_sources_at(interface_index));
    }

    fn set_roaming(&self, py: Python<'_>, peer: PeerId, follow: bool) {
        py.detach(|| self.host.engine().set_roaming(peer, follow));
    }

    fn set_paths(
        &self,
        py: Python<'_>,
        peer: PeerId,
        primary: Option<OriginTuple<'_>>,
        also: Vec<Bound<'_, PyTuple>>,
    ) -> PyResult<()> {
        let primary = primary.map(parse_origin).transpose()?;
        let also = also.iter().map(|path| parse_origin(path.extract()?)).collect::<PyResult<Vec<_>>>()?;
        py.detach(|| self.host.engine().set_paths(peer, primary, also));
        Ok(())
    }

    fn set_path_mtu(&self, py: Python<'_>, peer: PeerId, mtu: u16) {
        py.detach(|| self.host.engine().set_path_mtu(peer, mtu));
    }

    fn set_relay(
        &self,
        py: Python<'_>,
        number: u16,
        remote: Option<EndpointTuple<'_>>,
        session: u64,
    ) -> PyResult<()> {
        let remote = remote.map(endpoint).transpose()?;
        let session = remote.map(|remote| RelaySession { remote, session });
        py.detach(|| self.host.engine().set_relay(number, session));
        Ok(())
    }

    fn reserve_index(&self, py: Python<'_>, peer: PeerId) -> Option<u32> {
        py.detach(|| self.host.engine().reserve_index(peer))
    }

    fn release_index(&self, py: Python<'_>, index: u32) {
        py.detach(|| self.host.engine().release_index(index));
    }

    fn send_handshake(&self, py: Python<'_>, peer: PeerId, message: &[u8]) -> bool {
        py.detach(|| self.host.engine().send_handshake(peer, message))
    }

    fn send_datagram(
        &self,
        py: Python<'_>,
        datagram: &[u8],
        to: EndpointTuple<'_>,
        source: Option<OriginTuple<'_>>,
    ) -> PyResult<()> {
        let (to, source) = (endpoint(to)?, source.map(parse_origin).transpose()?);
        py.detach(|| self.host.engine().send_datagram(datagram, to, source.as_ref()));
        Ok(())
    }

    fn handshake_accepted(
        &self,
        py: Python<'_>,
        peer: PeerId,
        origin: OriginTuple<'_>,
        length: usize,
        seq: u64,
    ) -> PyResult<()> {
        let origin = parse_origin(origin)?;
        py.detach(|| self.host.engine().handshake_accepted(peer, &origin, length, seq));
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the seam's")]
    fn begin_session(
        &self,
        py: Python<'_>,
        peer: PeerId,
        local_index: u32,
        remote_index: u32,
        is_initiator: bool,
        chaining_key: &[u8],
        created_at: f64,
        response: Option<&[u8]>,
    ) -> PyResult<()> {
        let created_at = nanoseconds(created_at);
        let established = Established { local_index, remote_index, is_initiator, peer, created_at };
        let new = NewSession { established, chaining_key: key(chaining_key, "chaining key")?, response };
        py.detach(|| self.host.engine().begin_session(new));
        Ok(())
    }

    fn expire_keypairs(&self, py: Python<'_>, peer: PeerId) {
        py.detach(|| self.host.engine().expire_keypairs(peer));
    }

    fn wipe_keypairs(&self, py: Python<'_>, peer: PeerId) {
        py.detach(|| self.host.engine().wipe_keypairs(peer));
    }

    fn drop_staged(&self, py: Python<'_>, peer: PeerId) {
        py.detach(|| self.host.engine().drop_staged(peer));
    }

    fn send_keepalive(&self, py: Python<'_>, peer: PeerId) {
        py.detach(|| self.host.engine().send_keepalive(peer));
    }

    fn send_control(
        &self,
        py: Python<'_>,
        peer: PeerId,
        path: Option<OriginTuple<'_>>,
        message: &[u8],
    ) -> PyResult<()> {
        let path = path.map(parse_origin).transpose()?;
        py.detach(|| self.host.engine().send_control(peer, path.as_ref(), message));
        Ok(())
    }

    fn facts(&self, py: Python<'_>, peer: PeerId) -> PyFacts {
        let facts = py.detach(|| self.host.engine().facts(peer));
        let current = facts.current.map(|(index, created_at, is_initiator, may_send)| {
            (index, created_at as f64 / 1e9, is_initiator, may_send)
        });
        (
            seconds(facts.data_sent_first),
            seconds(facts.data_received_first),
            seconds(facts.data_received_last),
            seconds(facts.authenticated_sent_last),
            seconds(facts.authenticated_received_last),
            facts.staged,
            current,
        )
    }

    fn watch(&self, py: Python<'_>, peer: PeerId, mask: u8) {
        py.detach(|| self.host.engine().watch(peer, mask));
    }

    fn snapshot<'py>(&self, py: Python<'py>) -> Vec<(PeerId, Option<PyEndpoint<'py>>, u64, u64)> {
        let peers = py.detach(|| self.host.engine().snapshot());
        let tuple = |each: wgpy_dataplane::engine::PeerSnapshot| {
            let endpoint = each.endpoint.map(|endpoint| endpoint_tuple(py, endpoint));
            (each.peer, endpoint, each.rx_bytes, each.tx_bytes)
        };
        peers.into_iter().map(tuple).collect()
    }
}
