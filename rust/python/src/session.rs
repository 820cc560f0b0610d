//! `Session`: a keypair of the data plane.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wgpy_dataplane::keypair::{Established, Keypair};
use wgpy_dataplane::receive;
use wgpy_dataplane::send::Plan;
use wgpy_dataplane::superpacket::Superpacket;

use crate::octets::{Octets, key, new_bytes};
use crate::received::Outcome;
use crate::{DETACH_SIZE, nanoseconds};

type Run<'py> = (Bound<'py, PyBytes>, usize, u8);

#[pyclass(frozen, module = "wgpy._engine")]
pub struct Session {
    pub keypair: Arc<Keypair>,
    #[pyo3(get)]
    created_at: f64,
}

#[pymethods]
impl Session {
    #[new]
    fn new(
        chaining_key: &[u8],
        is_initiator: bool,
        local_index: u32,
        remote_index: u32,
        peer: u32,
        created_at: f64,
    ) -> PyResult<Self> {
        let established = Established {
            local_index,
            remote_index,
            is_initiator,
            peer,
            created_at: nanoseconds(created_at),
        };
        let keypair = Keypair::new(key(chaining_key, "chaining key")?, established);
        Ok(Self { keypair: Arc::new(keypair), created_at })
    }

    #[getter]
    fn local_index(&self) -> u32 {
        self.keypair.local_index
    }

    #[getter]
    fn remote_index(&self) -> u32 {
        self.keypair.remote_index
    }

    #[getter]
    fn peer(&self) -> u32 {
        self.keypair.peer
    }

    #[getter]
    fn is_initiator(&self) -> bool {
        self.keypair.is_initiator
    }

    #[getter]
    fn counter(&self) -> u64 {
        self.keypair.next_counter()
    }

    fn skip_counters(&self, counter: u64) {
        self.keypair.skip_counters(counter);
    }

    fn wipe(&self, py: Python<'_>) {
        py.detach(|| self.keypair.wipe());
    }

    fn seal<'py>(
        &self,
        py: Python<'py>,
        packet: Octets<'py>,
        mtu: usize,
        now: f64,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let plan = Plan::new([Superpacket::whole(&packet)], mtu, 1);
        Ok(self.seal_plan(py, &plan, now)?.and_then(|mut runs| runs.pop()).map(|(message, _, _)| message))
    }

    #[pyo3(signature = (packets, mtu, now, *, vnet_hdr = false, max_segments = 64))]
    fn seal_packets<'py>(
        &self,
        py: Python<'py>,
        packets: Vec<Octets<'py>>,
        mtu: usize,
        now: f64,
        vnet_hdr: bool,
        max_segments: usize,
    ) -> PyResult<Option<Vec<Run<'py>>>> {
        let superpackets = packets.iter().filter_map(|packet| Superpacket::of(packet, vnet_hdr));
        self.seal_plan(py, &Plan::new(superpackets, mtu, max_segments), now)
    }

    fn open<'py>(
        &self,
        py: Python<'py>,
        datagram: Octets<'py>,
        now: f64,
    ) -> PyResult<(Outcome, Bound<'py, PyBytes>)> {
        let mut buffer = datagram.to_vec();
        let opened = receive::open_datagrams(&self.keypair, [&mut buffer[..]], None, 0, nanoseconds(now));
        let [opened] = &opened[..] else { unreachable!("one datagram has one outcome") };
        Ok((opened.outcome.into(), PyBytes::new(py, &buffer[opened.packet.clone()])))
    }

    fn __repr__(&self) -> String {
        let Keypair { local_index, remote_index, .. } = *self.keypair;
        format!("<Session {local_index:#010x} to {remote_index:#010x}>")
    }
}

impl Session {
    fn seal_plan<'py>(&self, py: Python<'py>, plan: &Plan<'_>, now: f64) -> PyResult<Option<Vec<Run<'py>>>> {
        let keypair = &self.keypair;
        let Some(first_counter) = keypair.reserve_counters(plan.message_count(), nanoseconds(now)) else {
            return Ok(None);
        };
        let mut runs = Vec::with_capacity(plan.runs().len());
        let mut is_sealed = true;
        for run in plan.runs() {
            let seal = |out: &mut [u8]| {
                plan.write(run, keypair.remote_index, first_counter, out);
                keypair.seal_run(first_counter + run.first as u64, out, run.segment_size)
            };
            let datagrams = new_bytes(py, run.size, |out| {
                is_sealed &= if out.len() < DETACH_SIZE { seal(out) } else { py.detach(|| seal(out)) };
            })?;
            runs.push((datagrams, run.segment_size, run.tos));
        }
        Ok(is_sealed.then_some(runs))
    }
}
