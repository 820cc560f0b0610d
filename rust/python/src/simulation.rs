//! Ends in memory and a clock that is set by hand, for the simulation of hours (`tests/simulation/native.py`).
//! Only in a build with the feature `simulation`, where `HostEngine` is this one: no thread, no descriptor of
//! the network.

use std::collections::HashSet;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wgpy_dataplane::engine::{Clock, Engine as DataEngine, Origin, Outbox, Received, Signal, Tun, Udp};
use wgpy_dataplane::host::{Limits, Offload};

use crate::engine::{
    EndpointTuple, Engine, OriginTuple, PyEndpoint, PyOrigin, endpoint, endpoint_tuple, origin_tuple,
    parse_origin,
};

/// Nanoseconds, of all engines: there is one world at a time.
static NOW: AtomicU64 = AtomicU64::new(1);

#[derive(Default)]
struct Ends {
    sent: Vec<Sent>,
    written: Vec<Vec<u8>>,
    unreachable: HashSet<SocketAddr>,
}

struct Sent {
    datagram: Vec<u8>,
    to: SocketAddr,
    source: Option<Origin>,
    tos: u8,
}

#[derive(Clone, Default)]
pub struct End(Arc<Mutex<Ends>>);

impl End {
    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for End {
    fn now(&self) -> u64 {
        NOW.load(Ordering::SeqCst)
    }
}

impl Udp for End {
    fn send(&self, run: &[u8], segment: usize, to: SocketAddr, source: Option<&Origin>, tos: u8) -> usize {
        let mut ends = self.lock();
        if ends.unreachable.contains(&to) {
            return 0;
        }
        let datagrams = run.chunks(segment);
        ends.sent.extend(datagrams.map(|each| Sent {
            datagram: each.to_vec(),
            to,
            source: source.copied(),
            tos,
        }));
        run.len()
    }
}

impl Tun for End {
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.lock().written.push(parts.iter().flat_map(|part| part.to_vec()).collect());
        Ok(())
    }
}

impl Signal for End {
    fn raise(&self) {}
    fn clear(&self) {}
}

/// What `HostEngine` is otherwise.
pub struct MemoryHost {
    end: End,
    engine: DataEngine<End, End, End>,
    nothing: OwnedFd,
}

impl MemoryHost {
    pub fn new(_: Offload, limits: Limits) -> io::Result<Self> {
        let end = End::default();
        let engine = DataEngine::new(end.clone(), Box::new(end.clone()), limits.staged_octets);
        engine.set_udp(end.clone(), 51820, 1);
        engine.write().tun = Some(end.clone());
        Ok(Self { end, engine, nothing: std::fs::File::open("/dev/null")?.into() })
    }

    pub fn engine(&self) -> &DataEngine<End, End, End> {
        &self.engine
    }

    pub fn start(&self) -> io::Result<()> {
        Ok(())
    }

    pub fn open(&self, _: BorrowedFd<'_>, mtu: usize, _: bool) -> io::Result<()> {
        self.engine.set_mtu(mtu);
        Ok(())
    }

    pub fn bind(&self, port: u16, _: u32) -> io::Result<u16> {
        Ok(port)
    }

    pub fn set_mark(&self, _: u32) -> io::Result<()> {
        Ok(())
    }

    pub fn events_fd(&self) -> BorrowedFd<'_> {
        self.nothing.as_fd()
    }

    pub fn offloads(&self) -> Offload {
        Offload { tso: false, uso: false, gso: false, gro: false }
    }

    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        self.engine.drops.counts().filter(|&(_, count)| count > 0).collect()
    }

    pub fn close(&self) {
        self.engine.wipe();
    }
}

#[pyfunction]
pub fn set_now(nanoseconds: u64) {
    NOW.store(nanoseconds, Ordering::SeqCst);
}

#[pyfunction]
pub fn datagram_arrives(engine: &Engine, datagram: &[u8], origin: OriginTuple<'_>, tos: u8) -> PyResult<()> {
    let origin = parse_origin(origin)?;
    let received = Received { length: datagram.len(), segment_size: datagram.len(), origin, tos };
    let engine = engine.host.engine();
    engine.received(engine.read(), &mut datagram.to_vec(), &received);
    Ok(())
}

#[pyfunction]
pub fn host_sends(engine: &Engine, packet: &[u8]) {
    let engine = engine.host.engine();
    engine.host_sent(&engine.read(), packet, std::slice::from_ref(&(0..packet.len())), &mut Outbox::new());
}

type PySent<'py> = (Bound<'py, PyBytes>, PyEndpoint<'py>, Option<PyOrigin<'py>>, u8);

/// Datagrams sent since the last call: each with where to, the source it was to be sent from, and its TOS.
#[pyfunction]
pub fn departed<'py>(py: Python<'py>, engine: &Engine) -> Vec<PySent<'py>> {
    let sent = std::mem::take(&mut engine.host.end.lock().sent);
    let tuple = |Sent { datagram, to, source, tos }: Sent| {
        let source = source.map(|source| origin_tuple(py, &source));
        (PyBytes::new(py, &datagram), endpoint_tuple(py, to), source, tos)
    };
    sent.into_iter().map(tuple).collect()
}

/// From now on nothing can be sent there.
#[pyfunction]
pub fn refuse(engine: &Engine, to: EndpointTuple<'_>) -> PyResult<()> {
    engine.host.end.lock().unreachable.insert(endpoint(to)?);
    Ok(())
}

/// Go on from that counter with a session's packets.
#[pyfunction]
pub fn skip_counters(engine: &Engine, local_index: u32, counter: u64) {
    engine.host.engine().skip_counters(local_index, counter);
}

/// How many handshake messages wait.
#[pyfunction]
pub fn handshake_depth(engine: &Engine) -> usize {
    engine.host.engine().events.handshake_depth()
}

/// Packets given to the host since the last call.
#[pyfunction]
pub fn host_got<'py>(py: Python<'py>, engine: &Engine) -> Vec<Bound<'py, PyBytes>> {
    let written = std::mem::take(&mut engine.host.end.lock().written);
    written.iter().map(|packet| PyBytes::new(py, packet)).collect()
}

/// Indices of handshakes and keypairs that are held.
#[pyfunction]
pub fn index_count(engine: &Engine) -> usize {
    engine.host.engine().read().indices.len()
}
