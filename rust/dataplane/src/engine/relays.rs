//! Peers behind relays: what is sent to one is wrapped, what comes of one unwrapped, a run at a time.
//!
//! Everything else knows such a peer by its endpoint (`relay::message::relayed_endpoint`).

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::RwLockReadGuard;

use super::ends::{Clock, Origin, Tun, Udp};
use super::incoming::Received;
use super::tables::Tables;
use super::{Drop, Engine};
use crate::relay::message::{
    DATA, DATA_HEADER_SIZE, MIN_DATA_SIZE, data_header, kind_untrusted, numbers_untrusted, relayed_endpoint,
};
use crate::send::MAX_RUN_SIZE;

/// Where a relay is, and which session we have there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelaySession {
    /// Its endpoint.
    pub remote: SocketAddr,
    /// The session's id.
    pub session: u64,
}

/// Our relays, by our own numbers for them: a handful.
#[derive(Default)]
pub struct Relays(Vec<(u16, RelaySession)>);

impl Relays {
    /// None: it is no longer used.
    pub fn set(&mut self, number: u16, session: Option<RelaySession>) {
        self.0.retain(|&(other, _)| other != number);
        self.0.extend(session.map(|session| (number, session)));
    }

    fn by_number(&self, number: u16) -> Option<RelaySession> {
        self.0.iter().find(|&&(other, _)| other == number).map(|&(_, session)| session)
    }

    /// The relay that is there.
    #[must_use]
    pub fn by_remote(&self, remote: SocketAddr) -> Option<(u16, RelaySession)> {
        self.0.iter().find(|(_, session)| session.remote == remote).copied()
    }
}

thread_local! {
    /// A run with its headers. Grows once to what a run can take.
    static WRAPPED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl<C: Clock, U: Udp, T: Tun> Engine<C, U, T> {
    /// Use a relay by that number from now on; None: no longer.
    pub fn set_relay(&self, number: u16, session: Option<RelaySession>) {
        self.write().relays.set(number, session);
    }

    /// Send a run to a peer behind a relay. Gives the octets of the run that left.
    pub(super) fn send_relayed(
        &self,
        tables: &Tables<U, T>,
        run: &[u8],
        segment_size: usize,
        (number, peer): (u16, u64),
        tos: u8,
    ) -> usize {
        let Some((relay, udp)) = tables.relays.by_number(number).zip(tables.udp.as_ref()) else { return 0 };
        let (header, size) = (data_header(relay.session, peer), segment_size.max(1));
        let wrapped_size = size + DATA_HEADER_SIZE;
        let most = (MAX_RUN_SIZE / wrapped_size).clamp(1, tables.max_segments.max(1));
        WRAPPED.with_borrow_mut(|wrapped| {
            let mut left = 0;
            for part in run.chunks(size * most) {
                wrapped.clear();
                for datagram in part.chunks(size) {
                    wrapped.extend_from_slice(&header);
                    wrapped.extend_from_slice(datagram);
                }
                let sent = udp.send(wrapped, wrapped_size, relay.remote, None, tos);
                left += sent - DATA_HEADER_SIZE * sent.div_ceil(wrapped_size);
            }
            left
        })
    }

    /// A relay sent these: unwrapped, they are datagrams of peers; what else it says goes up.
    pub(super) fn received_relayed<'a>(
        &'a self,
        tables: RwLockReadGuard<'a, Tables<U, T>>,
        buffer: &mut [u8],
        received: &Received,
        (number, relay): (u16, RelaySession),
    ) {
        drop(tables);
        let length = received.length.min(buffer.len());
        let size = received.segment_size.clamp(1, length.max(1));
        let sender_untrusted = |datagram: &[u8]| {
            let (session, sender) = numbers_untrusted(datagram)?;
            let is_data = kind_untrusted(datagram) == Some(DATA) && datagram.len() >= MIN_DATA_SIZE;
            (is_data && session == relay.session).then_some(sender)
        };
        let mut start = 0;
        while start < length {
            let mut end = length.min(start + size);
            let Some(sender) = sender_untrusted(&buffer[start..end]) else {
                if kind_untrusted(&buffer[start..end]) == Some(DATA) {
                    self.drops.add(Drop::UnknownIndex, 1);
                } else {
                    self.received_from_stranger(&buffer[start..end], received);
                }
                start = end;
                continue;
            };
            // All that follows of the same sender, moved together.
            let first = start + DATA_HEADER_SIZE;
            let mut filled = end;
            while end < length {
                let next = length.min(end + size);
                if sender_untrusted(&buffer[end..next]) != Some(sender) {
                    break;
                }
                buffer.copy_within(end + DATA_HEADER_SIZE..next, filled);
                filled += next - end - DATA_HEADER_SIZE;
                end = next;
            }
            let origin = Origin { remote: relayed_endpoint(number, sender), local: None, interface_index: 0 };
            let segment_size = (size - DATA_HEADER_SIZE).min(filled - first);
            let unwrapped = Received { length: filled - first, segment_size, origin, tos: received.tos };
            self.received_here(self.read(), &mut buffer[first..filled], &unwrapped);
            start = end;
        }
    }
}
