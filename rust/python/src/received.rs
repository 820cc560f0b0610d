//! `open_datagrams` and what it gives.

use std::ops::Range;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use wgpy_dataplane::coalesce::{Coalesced, Protocols};
use wgpy_dataplane::keypair::Keypair;
use wgpy_dataplane::message::{TYPE_TRANSPORT_DATA, message_type_untrusted, receiver_index_untrusted};
use wgpy_dataplane::receive;

use crate::allowed_ips::AllowedIps;
use crate::octets::{first_octets, new_bytes};
use crate::session::Session;
use crate::{DETACH_SIZE, errors, nanoseconds};

#[pyclass(
    frozen,
    eq,
    hash,
    module = "wgpy._engine",
    rename_all = "SCREAMING_SNAKE_CASE",
    skip_from_py_object
)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    TooShort,
    Expired,
    Forged,
    Replayed,
    Keepalive,
    Data,
    Control,
    Malformed,
    Refused,
}

impl From<receive::Outcome> for Outcome {
    fn from(outcome: receive::Outcome) -> Self {
        match outcome {
            receive::Outcome::TooShort => Self::TooShort,
            receive::Outcome::Expired => Self::Expired,
            receive::Outcome::Forged => Self::Forged,
            receive::Outcome::Replayed => Self::Replayed,
            receive::Outcome::Keepalive => Self::Keepalive,
            receive::Outcome::Data => Self::Data,
            receive::Outcome::Control => Self::Control,
            receive::Outcome::Malformed => Self::Malformed,
            receive::Outcome::Refused => Self::Refused,
        }
    }
}

#[pyclass(frozen, module = "wgpy._engine")]
pub struct Opened {
    #[pyo3(get)]
    session: Py<Session>,
    #[pyo3(get)]
    packets: Py<PyList>,
    #[pyo3(get)]
    controls: Py<PyList>,
    datagrams: Vec<receive::Opened>,
}

#[pymethods]
impl Opened {
    #[getter]
    fn outcomes(&self) -> Vec<Outcome> {
        self.datagrams.iter().map(|opened| opened.outcome.into()).collect()
    }

    #[getter]
    fn authenticated(&self) -> usize {
        self.datagrams.iter().filter(|opened| opened.outcome >= receive::Outcome::Keepalive).count()
    }

    #[getter]
    fn data(&self) -> usize {
        self.datagrams.iter().filter(|opened| opened.outcome > receive::Outcome::Keepalive).count()
    }

    #[getter]
    fn rx_bytes(&self) -> usize {
        self.datagrams.iter().filter(|opened| is_accepted(opened)).map(|opened| opened.size).sum()
    }

    #[getter]
    fn dropped(&self) -> usize {
        self.datagrams.iter().filter(|opened| !is_accepted(opened)).count()
    }

    fn count(&self, outcome: &Outcome) -> usize {
        self.datagrams.iter().filter(|opened| Outcome::from(opened.outcome) == *outcome).count()
    }
}

fn is_accepted(opened: &receive::Opened) -> bool {
    use receive::Outcome::{Control, Data, Keepalive};
    matches!(opened.outcome, Keepalive | Data | Control)
}

/// Datagrams in a row for one session.
struct Batch<'py> {
    session: Bound<'py, Session>,
    spans: Vec<Range<usize>>,
}

type Received<'py> = (Vec<Opened>, Vec<(usize, usize)>, usize);

#[pyfunction]
#[pyo3(signature = (
    buffer, length, segment_size, sessions, allowed_ips, now, *,
    tos = 0, vnet_hdr = false, coalesce_tcp = true, coalesce_udp = true,
))]
#[expect(clippy::too_many_arguments, reason = "what a receive brings, and what judges it")]
pub fn open_datagrams<'py>(
    py: Python<'py>,
    buffer: &Bound<'py, PyAny>,
    length: usize,
    segment_size: usize,
    sessions: &Bound<'py, PyDict>,
    allowed_ips: &Bound<'py, AllowedIps>,
    now: f64,
    tos: u8,
    vnet_hdr: bool,
    coalesce_tcp: bool,
    coalesce_udp: bool,
) -> PyResult<Received<'py>> {
    let mut octets = first_octets(buffer, length)?;
    if octets.len() < length {
        return Err(errors::beyond_buffer(length, octets.len()));
    }
    if segment_size == 0 {
        return Err(errors::no_segment_size());
    }
    let (batches, others, unknown) = sort(&octets, segment_size, sessions)?;
    let keypairs: Vec<Arc<Keypair>> =
        batches.iter().map(|batch| batch.session.get().keypair.clone()).collect();
    let mut spans: Vec<Vec<Range<usize>>> = Vec::new();
    let mut owners = Vec::new();
    for batch in batches {
        spans.push(batch.spans);
        owners.push(batch.session);
    }
    let allowed_ips = allowed_ips.get();
    let mut open = || {
        let allowed_ips = allowed_ips.read();
        let each = keypairs.iter().zip(&spans).map(|(keypair, spans)| {
            let datagrams = slices(&mut octets, spans);
            receive::open_datagrams(keypair, datagrams, Some(&allowed_ips), tos, nanoseconds(now))
        });
        each.collect::<Vec<_>>()
    };
    let results = if length < DETACH_SIZE { open() } else { py.detach(open) };
    let protocols = vnet_hdr.then_some(Protocols { tcp: coalesce_tcp, udp: coalesce_udp });
    let mut opened = Vec::with_capacity(results.len());
    for ((session, datagrams), spans) in owners.into_iter().zip(results).zip(spans) {
        let of = |outcome| {
            let chosen = datagrams.iter().zip(&spans).filter(move |(opened, _)| opened.outcome == outcome);
            chosen.map(|(opened, span)| &octets[span.clone()][opened.packet.clone()]).collect::<Vec<_>>()
        };
        let packets = written(py, &of(receive::Outcome::Data), protocols)?;
        let controls =
            PyList::new(py, of(receive::Outcome::Control).into_iter().map(|c| PyBytes::new(py, c)))?;
        let (session, packets, controls) = (session.unbind(), packets.unbind(), controls.unbind());
        opened.push(Opened { session, packets, controls, datagrams });
    }
    Ok((opened, others, unknown))
}

/// The parts of a buffer, which follow each other.
fn slices<'a>(buffer: &'a mut [u8], spans: &[Range<usize>]) -> impl Iterator<Item = &'a mut [u8]> {
    let (mut rest, mut start) = (buffer, 0);
    spans.iter().map(move |span| {
        let (slice, behind) = std::mem::take(&mut rest)[span.start - start..].split_at_mut(span.len());
        (rest, start) = (behind, span.end);
        slice
    })
}

/// What to write to the TUN for these packets; with virtio headers when there are protocols to join.
pub fn written<'py>(
    py: Python<'py>,
    packets: &[&[u8]],
    protocols: Option<Protocols>,
) -> PyResult<Bound<'py, PyList>> {
    let Some(protocols) = protocols else {
        return PyList::new(py, packets.iter().map(|packet| PyBytes::new(py, packet)));
    };
    let coalesced = Coalesced::new(packets, protocols);
    let list = PyList::empty(py);
    for group in coalesced.groups() {
        list.append(new_bytes(py, group.written_size(), |out| coalesced.write(group, out))?)?;
    }
    Ok(list)
}

type Sorted<'py> = (Vec<Batch<'py>>, Vec<(usize, usize)>, usize);

/// Sort what was received: datagrams for sessions, what is not transport data, and how many were for nobody.
fn sort<'py>(octets: &[u8], segment_size: usize, sessions: &Bound<'py, PyDict>) -> PyResult<Sorted<'py>> {
    let (mut batches, mut others, mut unknown) = (Vec::<Batch<'py>>::new(), Vec::new(), 0);
    let mut start = 0;
    for datagram in octets.chunks(segment_size) {
        let span = start..start + datagram.len();
        start = span.end;
        if message_type_untrusted(datagram) != Some(TYPE_TRANSPORT_DATA) {
            others.push((span.start, span.end));
            continue;
        }
        let Some(index) = receiver_index_untrusted(datagram) else {
            unknown += 1;
            continue;
        };
        let previous = batches.last_mut();
        if let Some(batch) = previous.filter(|batch| batch.session.get().keypair.local_index == index) {
            batch.spans.push(span);
        } else if let Some(session) = sessions.get_item(index)? {
            let session = session.cast_into::<Session>()?;
            batches.push(Batch { session, spans: vec![span] });
        } else {
            unknown += 1;
        }
    }
    Ok((batches, others, unknown))
}
