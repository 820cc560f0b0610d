//! The way in: transport messages become packets of the host, and handshake messages go up.
//!
//! What one receive brought is opened where it lies. What must change a peer (a confirmed keypair, another
//! endpoint) is noted, done under the writing lock, and only then are the packets written, joined into
//! superpackets by reference, so that an answer of the host finds everything in its place.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::RwLockReadGuard;
use std::sync::atomic::Ordering;

use super::defence::{COOKIE_REPLY_SIZE, Verdict};
use super::ends::{Clock, Origin, Tun, Udp};
use super::events::Event;
use super::tables::Tables;
use super::{Drop, Engine, lock, work};
use crate::allowed_ips::PeerId;
use crate::coalesce::{Coalesced, Group, JoinedHeader};
use crate::message::{TYPE_TRANSPORT_DATA, message_type_untrusted, receiver_index_untrusted};
use crate::receive::{Outcome, open_datagrams};
use crate::relay::message::relayed_peer;
use crate::virtio;

/// Octets of an initiation.
pub const INITIATION_SIZE: usize = 148;
const INITIATION: (u32, usize) = (1, INITIATION_SIZE);
const RESPONSE: (u32, usize) = (2, 92);
const COOKIE_REPLY: (u32, usize) = (3, COOKIE_REPLY_SIZE);
const RECEIVER_OF_RESPONSE: usize = 8;
const RECEIVER_OF_COOKIE_REPLY: usize = 4;
/// Parts that one write takes (IOV_MAX).
const MAX_PARTS: usize = 1024;

const PLAIN: [u8; virtio::HEADER_SIZE] = [0; virtio::HEADER_SIZE];

/// Type and size, by which messages are told apart.
fn kind_untrusted(datagram: &[u8]) -> Option<(u32, usize)> {
    message_type_untrusted(datagram).map(|kind| (kind, datagram.len()))
}

/// An initiation, by type and size.
pub(crate) fn is_initiation(datagram: &[u8]) -> bool {
    kind_untrusted(datagram) == Some(INITIATION)
}

/// An initiation, a response or a cookie reply, by type and size.
pub(crate) fn is_handshake(datagram: &[u8]) -> bool {
    matches!(kind_untrusted(datagram), Some(INITIATION | RESPONSE | COOKIE_REPLY))
}

/// A message of WireGuard, by type and size.
pub(crate) fn is_wireguard(datagram: &[u8]) -> bool {
    is_handshake(datagram) || message_type_untrusted(datagram) == Some(TYPE_TRANSPORT_DATA)
}

/// Whom a response or cookie reply is for: the receiver index. None for what is neither.
pub(crate) fn handshake_receiver_untrusted(datagram: &[u8]) -> Option<u32> {
    let offset = match kind_untrusted(datagram)? {
        RESPONSE => RECEIVER_OF_RESPONSE,
        COOKIE_REPLY => RECEIVER_OF_COOKIE_REPLY,
        _ => return None,
    };
    Some(u32::from_le_bytes(datagram[offset..offset + 4].try_into().ok()?))
}

/// What one receive brought: `length` octets, a datagram each `segment_size`, of one origin and TOS.
#[derive(Clone, Copy)]
pub struct Received {
    /// Octets in all.
    pub length: usize,
    /// Octets of each datagram but perhaps the last.
    pub segment_size: usize,
    /// Where from.
    pub origin: Origin,
    /// The outer header's.
    pub tos: u8,
}

/// What is to be done under the writing lock, and for which session.
struct Change {
    peer: PeerId,
    local_index: u32,
}

impl<C: Clock, U: Udp, T: Tun> Engine<C, U, T> {
    /// Datagrams came, in `buffer`. `tables` are given back before it returns.
    pub fn received<'a>(
        &'a self,
        tables: RwLockReadGuard<'a, Tables<U, T>>,
        buffer: &mut [u8],
        received: &Received,
    ) {
        match tables.relays.by_remote(received.origin.remote) {
            Some(relay) => self.received_relayed(tables, buffer, received, relay),
            // No host has such an address: somebody would pass for a peer behind a relay.
            None if relayed_peer(received.origin.remote).is_some() => self.drops.add(Drop::NotWireGuard, 1),
            None => self.received_here(tables, buffer, received),
        }
    }

    /// One datagram that is no transport data.
    pub(super) fn received_from_stranger(&self, datagram: &[u8], received: &Received) {
        let seq = self.seq.fetch_add(1, Ordering::Relaxed) + 1;
        self.received_other(datagram, &received.origin, seq, self.clock.now());
    }

    /// Datagrams of WireGuard, unwrapped if a relay brought them.
    pub(super) fn received_here<'a>(
        &'a self,
        tables: RwLockReadGuard<'a, Tables<U, T>>,
        buffer: &mut [u8],
        received: &Received,
    ) {
        let seq = self.seq.fetch_add(1, Ordering::Relaxed) + 1;
        let now = self.clock.now();
        let length = received.length.min(buffer.len());
        let size = received.segment_size.clamp(1, length.max(1));
        if length == 0 {
            self.drops.add(Drop::NotWireGuard, 1);
            return;
        }
        let mut packets: Vec<(PeerId, Range<usize>)> = Vec::with_capacity(length / size + 1);
        let mut changes = Vec::new();
        let mut others = Vec::new();
        let mut start = 0;
        while start < length {
            let end = length.min(start + size);
            let Some(index) = receiver_index_untrusted(&buffer[start..end]) else {
                others.push(start..end);
                start = end;
                continue;
            };
            // All that follows for the same session, in one go.
            let mut run_end = end;
            while run_end < length
                && receiver_index_untrusted(&buffer[run_end..length.min(run_end + size)]) == Some(index)
            {
                run_end = length.min(run_end + size);
            }
            let run = start..run_end;
            let count = run.len().div_ceil(size);
            if !self.open(&tables, buffer, run, index, received, (seq, now), &mut packets, &mut changes) {
                self.drops.add(Drop::UnknownIndex, count);
            }
            start = run_end;
        }
        if changes.is_empty() {
            self.deliver(&tables, buffer, &packets);
            drop(tables);
        } else {
            drop(tables);
            let mut tables = self.write();
            for change in changes {
                self.apply(&mut tables, &change, received);
            }
            // Whoever was removed between the two locks gets nothing through any more.
            packets.retain(|(peer, _)| tables.peers.contains_key(peer));
            self.deliver(&tables, buffer, &packets);
        }
        for span in others {
            self.received_other(&buffer[span], &received.origin, seq, now);
        }
    }

    /// Open datagrams of one session. False when there is none of that index.
    #[expect(clippy::too_many_arguments, reason = "all of it is a packet's way, looked up once a batch")]
    fn open(
        &self,
        tables: &Tables<U, T>,
        buffer: &mut [u8],
        run: Range<usize>,
        index: u32,
        received: &Received,
        (seq, now): (u64, u64),
        packets: &mut Vec<(PeerId, Range<usize>)>,
        changes: &mut Vec<Change>,
    ) -> bool {
        let Some(session) = tables.indices.get(&index).and_then(|entry| entry.session.as_ref()) else {
            return false;
        };
        let id = session.keypair.peer;
        let Some(peer) = tables.peers.get(&id) else { return false };
        let size = received.segment_size.max(1);
        let datagrams = buffer[run.clone()].chunks_mut(size);
        let opened =
            open_datagrams(&session.keypair, datagrams, Some(&tables.allowed_ips), received.tos, now);
        let (mut authenticated, mut has_data, mut rx_bytes) = (false, false, 0);
        for (datagram, start) in opened.into_iter().zip(run.step_by(size)) {
            let packet = start + datagram.packet.start..start + datagram.packet.end;
            let reason = match datagram.outcome {
                Outcome::TooShort => Drop::UnknownIndex,
                Outcome::Expired => Drop::Expired,
                Outcome::Forged => Drop::Forged,
                Outcome::Replayed => Drop::Replayed,
                taken => {
                    authenticated = true;
                    has_data |= !matches!(taken, Outcome::Keepalive | Outcome::Control);
                    match taken {
                        Outcome::Malformed => Drop::MalformedIn,
                        Outcome::Refused => Drop::Refused,
                        _ => {
                            rx_bytes += datagram.size as u64;
                            if taken == Outcome::Data {
                                packets.push((id, packet));
                            } else if taken == Outcome::Control {
                                let data = buffer[packet].to_vec();
                                self.events.put_lossy(Event::Control {
                                    peer: id,
                                    path: received.origin,
                                    data,
                                });
                            }
                            continue;
                        }
                    }
                }
            };
            self.drops.add(reason, 1);
        }
        if !authenticated {
            return true;
        }
        peer.authenticated_seq.fetch_max(seq, Ordering::Relaxed);
        let confirms = peer.slots.is_next(session);
        if confirms || peer.is_elsewhere(&received.origin) {
            changes.push(Change { peer: id, local_index: index });
        }
        if !confirms
            && peer.slots.current.as_ref().is_some_and(|current| current.is_rekey_due_on_receive(now))
        {
            self.events.put_work(id, work::REKEY_RECEIVE);
        }
        let mut is_due = peer.note_authenticated_received(now);
        if has_data {
            is_due |= peer.note_data_received(now);
        }
        if is_due {
            self.events.put_work(id, work::FACT);
        }
        peer.rx_bytes.fetch_add(rx_bytes, Ordering::Relaxed);
        true
    }

    /// The endpoint follows an authenticated packet, and `next` becomes `current`.
    fn apply(&self, tables: &mut Tables<U, T>, change: &Change, received: &Received) {
        let Some(session) = tables.indices.get(&change.local_index).and_then(|entry| entry.session.clone())
        else {
            return;
        };
        let id = change.peer;
        let Some(peer) = tables.peers.get_mut(&id) else { return };
        if peer.note_origin(&received.origin) {
            self.events.put_endpoint(id, received.origin.remote);
        }
        if peer.slots.is_next(&session) {
            let fallen = peer.slots.confirm();
            tables.free(fallen);
            self.events.put_confirmed(id, change.local_index);
            self.send_staged_in(tables, id);
        }
    }

    /// Give packets to the host.
    fn deliver(&self, tables: &Tables<U, T>, buffer: &[u8], packets: &[(PeerId, Range<usize>)]) {
        let packets: Vec<&[u8]> = packets.iter().map(|(_, span)| &buffer[span.clone()]).collect();
        let splits = self.splits_writes.load(Ordering::Relaxed);
        if !tables.vnet_hdr || splits || packets.len() < 2 {
            packets.iter().for_each(|packet| self.write_packet(tables, packet));
            return;
        }
        let joined = Coalesced::new(&packets, tables.joins);
        for group in joined.groups() {
            if group.count() == 1 {
                joined.packets_of(group).for_each(|packet| self.write_packet(tables, packet));
            } else {
                self.write_group(tables, &joined, group);
            }
        }
    }

    fn write_packet(&self, tables: &Tables<U, T>, packet: &[u8]) {
        let parts = [IoSlice::new(&PLAIN), IoSlice::new(packet)];
        self.write_tun(tables, &parts[usize::from(!tables.vnet_hdr)..]);
    }

    fn write_group(&self, tables: &Tables<U, T>, joined: &Coalesced<'_>, group: &Group) {
        let mut header = JoinedHeader::default();
        let header = joined.write_header(group, &mut header);
        let mut parts = Vec::with_capacity(group.count() + 1);
        parts.push(IoSlice::new(header));
        parts.extend(joined.payloads_of(group).map(IoSlice::new));
        let Some(tun) = &tables.tun else { return };
        let written = if parts.len() > MAX_PARTS {
            Err(libc::EINVAL)
        } else {
            tun.write(&parts).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
        };
        match written {
            Ok(()) => {}
            Err(libc::EINVAL) => {
                // Some kernels refuse what they once took (6.6.44).
                if parts.len() <= MAX_PARTS {
                    self.splits_writes.store(true, Ordering::Relaxed);
                }
                joined.packets_of(group).for_each(|packet| self.write_packet(tables, packet));
            }
            Err(_) => self.drops.add(Drop::Host, group.count()),
        }
    }

    /// Anything but transport data.
    fn received_other(&self, datagram: &[u8], origin: &Origin, seq: u64, now: u64) {
        let tables = self.read();
        let addressed =
            || handshake_receiver_untrusted(datagram).and_then(|index| tables.indices.get(&index));
        let kind = kind_untrusted(datagram);
        let entry = match kind {
            Some(INITIATION) => None,
            Some(RESPONSE) => addressed().filter(|entry| entry.session.is_none()),
            Some(COOKIE_REPLY) => addressed(),
            // Transport data that is too short for its header.
            Some((TYPE_TRANSPORT_DATA, _)) => return self.drops.add(Drop::UnknownIndex, 1),
            _ => {
                if tables.expected.matches(datagram, origin.remote) {
                    self.events.put_lossy(Event::OtherDatagram { data: datagram.to_vec(), origin: *origin });
                } else {
                    self.drops.add(Drop::NotWireGuard, 1);
                }
                return;
            }
        };
        if entry.is_none() && kind != Some(INITIATION) {
            self.drops.add(Drop::UnknownIndex, 1);
            return;
        }
        let depth = self.events.handshake_depth();
        if kind != Some(COOKIE_REPLY) {
            let verdict = lock(&self.defence).judge(datagram, origin.remote, depth, now);
            match verdict {
                Verdict::Pass => {}
                Verdict::Drop(reason) => return self.drops.add(reason, 1),
                Verdict::CookieReply(reply) => {
                    self.send_udp(&tables, &reply, reply.len(), origin.remote, Some(origin), 0);
                    return self.drops.add(Drop::UnderLoad, 1);
                }
            }
        }
        let peer = entry.map(|entry| entry.peer);
        let message = Event::HandshakeMessage { data: datagram.to_vec(), origin: *origin, seq, depth, peer };
        if !self.events.put_handshake(message) {
            self.drops.add(Drop::QueueFull, 1);
        }
    }
}
