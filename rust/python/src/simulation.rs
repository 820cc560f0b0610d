//! Ends in memory and a clock that is set by hand, for the simulation of hours (`tests/simulation/native.py`).
//! Only in a build with the feature `simulation`, where `HostEngine` is this one: no thread, no descriptor of
//! the network.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wgpy_dataplane::engine::{Clock, Engine as DataEngine, Origin, Outbox, Received, Signal, Tun, Udp};
use wgpy_dataplane::host::{Limits, Offload};

use crate::engine::{Engine, OriginTuple, PyEndpoint, endpoint_tuple, parse_origin};

/// Nanoseconds, of all engines: there is one world at a time.
static NOW: AtomicU64 = AtomicU64::new(1);

#[derive(Default)]
struct Ends {
    sent: Vec<(Vec<u8>, SocketAddr, u8)>,
    written: Vec<Vec<u8>>,
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
    fn send(&self, run: &[u8], segment: usize, to: SocketAddr, _: Option<&Origin>, tos: u8) -> usize {
        self.lock().sent.extend(run.chunks(segment).map(|each| (each.to_vec(), to, tos)));
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

type PySent<'py> = (Bound<'py, PyBytes>, PyEndpoint<'py>, u8);

/// Datagrams sent since the last call.
#[pyfunction]
pub fn departed<'py>(py: Python<'py>, engine: &Engine) -> Vec<PySent<'py>> {
    let sent = std::mem::take(&mut engine.host.end.lock().sent);
    sent.into_iter().map(|(data, to, tos)| (PyBytes::new(py, &data), endpoint_tuple(py, to), tos)).collect()
}

/// Packets given to the host since the last call.
#[pyfunction]
pub fn host_got<'py>(py: Python<'py>, engine: &Engine) -> Vec<Bound<'py, PyBytes>> {
    let written = std::mem::take(&mut engine.host.end.lock().written);
    written.iter().map(|packet| PyBytes::new(py, packet)).collect()
}
