//! The way out: what the host sent becomes transport messages.
//!
//! A batch is what was read of the TUN without waiting. Its packets are grouped by peer, and each group is
//! laid out in runs, one after the other in the same buffer: headers fixed, checksums made, padded, sealed,
//! sent by one call.

use std::borrow::Cow;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::atomic::Ordering;

use super::ends::{Clock, Origin, Tun, Udp};
use super::peer::Peer;
use super::session::Session;
use super::system_random::random_u32;
use super::tables::Tables;
use super::unreachable::{Trouble, icmp_answer, too_big};
use super::{Drop, Engine, lock, work};
use crate::allowed_ips::PeerId;
use crate::fragment::fragment;
use crate::inner::{destination_untrusted, looped_receiver_index_untrusted};
use crate::send::Plan;
use crate::superpacket::Superpacket;
use crate::virtio;

/// Octets that a run is laid out in: the longest packet with what goes around it.
pub const RUN_BUFFER: usize = 65_535 + 64;

const PLAIN: [u8; virtio::HEADER_SIZE] = [0; virtio::HEADER_SIZE];

/// What is sent, for the timers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Data,
    Keepalive,
    Control,
}

/// Buffers of whoever sends.
pub struct Outbox {
    run: Box<[u8]>,
    order: Vec<(PeerId, usize)>,
}

impl Outbox {
    /// All memory that sending takes but for some small vectors a batch.
    #[must_use]
    pub fn new() -> Self {
        Self { run: vec![0; RUN_BUFFER].into(), order: Vec::new() }
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Clock, U: Udp, T: Tun> Engine<C, U, T> {
    /// Packets came from the host, in order, each a span of `buffer`.
    pub fn host_sent(
        &self,
        tables: &Tables<U, T>,
        buffer: &[u8],
        packets: &[Range<usize>],
        outbox: &mut Outbox,
    ) {
        let now = self.clock.now();
        let Outbox { run, order } = outbox;
        order.clear();
        for (number, span) in packets.iter().enumerate() {
            let packet = &buffer[span.clone()];
            let inner = if tables.vnet_hdr { packet.get(virtio::HEADER_SIZE..) } else { Some(packet) };
            let inner = inner.unwrap_or_default();
            if tables.listen_port != 0
                && looped_receiver_index_untrusted(inner, tables.listen_port)
                    .is_some_and(|index| tables.remote_indices.contains_key(&index))
            {
                self.drops.add(Drop::Loop, 1);
                continue;
            }
            match destination_untrusted(inner).and_then(|to| tables.allowed_ips.lookup(to)) {
                Some(peer) => order.push((peer, number)),
                None => self.refuse(tables, Drop::NoPeer, Trouble::Unreachable, inner, now),
            }
        }
        // By peer, and in order within each: the numbers make all entries differ.
        order.sort_unstable();
        for group in order.chunk_by(|one, other| one.0 == other.0) {
            let id = group[0].0;
            let Some(peer) = tables.peers.get(&id) else { continue };
            let packets = group.iter().map(|&(_, number)| &buffer[packets[number].clone()]);
            self.send_packets(tables, id, peer, packets, run, now);
        }
    }

    fn refuse(&self, tables: &Tables<U, T>, reason: Drop, trouble: Trouble, packet: &[u8], now: u64) {
        self.drops.add(reason, 1);
        let Some(answer) = icmp_answer(packet, trouble) else { return };
        let Some(to) = destination_untrusted(&answer) else { return };
        if lock(&self.icmp_limiter).allow(to, now) {
            let parts = [IoSlice::new(&PLAIN), IoSlice::new(&answer)];
            self.write_tun(tables, &parts[usize::from(!tables.vnet_hdr)..]);
        }
    }

    /// Seal packets of the host and send them, or stage them when no keypair may send.
    fn send_packets<'a>(
        &self,
        tables: &Tables<U, T>,
        id: PeerId,
        peer: &Peer,
        packets: impl Iterator<Item = &'a [u8]> + Clone,
        run: &mut [u8],
        now: u64,
    ) {
        let vnet_hdr = tables.vnet_hdr;
        if peer.way().is_none() {
            for packet in packets {
                let packet = if vnet_hdr { &packet[virtio::HEADER_SIZE..] } else { packet };
                self.refuse(tables, Drop::NoEndpoint, Trouble::Unreachable, packet, now);
            }
            return;
        }
        if peer.path_mtu == 0 {
            self.send_fitting(tables, id, peer, packets, run, now);
            return;
        }
        let fitting = self.fit(tables, packets, peer.path_mtu, now);
        if !fitting.is_empty() {
            self.send_fitting(tables, id, peer, fitting.iter().map(|packet| &**packet), run, now);
        }
    }

    /// Packets that fit a path of that MTU: longer ones in fragments, or answered where they must not be. This
    /// copies, unlike the way of all that fits.
    fn fit<'a>(
        &self,
        tables: &Tables<U, T>,
        packets: impl Iterator<Item = &'a [u8]>,
        path_mtu: u16,
        now: u64,
    ) -> Vec<Cow<'a, [u8]>> {
        let vnet_hdr = tables.vnet_hdr;
        let mut fitting = Vec::new();
        for packet in packets {
            let long = Superpacket::of(packet, vnet_hdr)
                .filter(|superpacket| superpacket.segment_length(0) > usize::from(path_mtu));
            let Some(superpacket) = long else {
                fitting.push(Cow::Borrowed(packet));
                continue;
            };
            let inner = superpacket.packet();
            if let Some(trouble) = too_big(inner, superpacket.segment_length(0), path_mtu) {
                self.refuse(tables, Drop::TooBig, trouble, inner, now);
                continue;
            }
            for fragment in fragment(&superpacket, path_mtu.into(), random_u32()) {
                let header = &PLAIN[..if vnet_hdr { PLAIN.len() } else { 0 }];
                fitting.push(Cow::Owned([header, &fragment].concat()));
            }
        }
        fitting
    }

    fn send_fitting<'a>(
        &self,
        tables: &Tables<U, T>,
        id: PeerId,
        peer: &Peer,
        packets: impl Iterator<Item = &'a [u8]> + Clone,
        run: &mut [u8],
        now: u64,
    ) {
        let vnet_hdr = tables.vnet_hdr;
        if let Some(session) = peer.slots.current.as_ref().filter(|session| session.may_send(now)) {
            let mut malformed = 0;
            let superpackets = packets.clone().filter_map(|packet| {
                let parsed = Superpacket::of(packet, vnet_hdr);
                malformed += usize::from(parsed.is_none());
                parsed
            });
            let plan = Plan::new(superpackets, tables.mtu, tables.max_segments);
            self.drops.add(Drop::MalformedOut, malformed);
            if self.send_plan(tables, id, peer, session, &plan, Content::Data, None, run, now) {
                return;
            }
        }
        let mut dropped = 0;
        for packet in packets {
            match Superpacket::of(packet, vnet_hdr) {
                Some(superpacket) => {
                    dropped += lock(&self.staging).stage(id, packet, superpacket.segment_count());
                }
                None => self.drops.add(Drop::MalformedOut, 1),
            }
        }
        self.drops.add(Drop::Staged, dropped);
        self.events.put_work(id, work::NEED_KEY);
    }

    /// Seal and send; note what that means for the timers. False when the keypair may not send that many.
    #[expect(clippy::too_many_arguments, reason = "all of it is a packet's way, looked up once a batch")]
    fn send_plan(
        &self,
        tables: &Tables<U, T>,
        id: PeerId,
        peer: &Peer,
        session: &Session,
        plan: &Plan<'_>,
        content: Content,
        path: Option<&Origin>,
        buffer: &mut [u8],
        now: u64,
    ) -> bool {
        let keypair = &session.keypair;
        let Some(first_counter) = keypair.reserve_counters(plan.message_count(), now) else { return false };
        let mut sent = 0;
        for run in plan.runs() {
            let Some(out) = buffer.get_mut(..run.size) else { continue };
            plan.write(run, keypair.remote_index, first_counter, out);
            if !keypair.seal_run(first_counter + run.first as u64, out, run.segment_size) {
                return true;
            }
            let tos = if content == Content::Data { run.tos } else { 0 };
            let mut send = |to, source: Option<&Origin>| {
                sent += self.send_udp(tables, out, run.segment_size, to, source, tos);
            };
            if let Some(path) = path {
                send(path.remote, Some(path));
                continue;
            }
            if let Some((to, source)) = peer.way() {
                send(to, source.as_ref());
            }
            peer.also().iter().for_each(|path| send(path.remote, Some(path)));
        }
        peer.tx_bytes.fetch_add(sent as u64, Ordering::Relaxed);
        peer.note_authenticated_sent(now);
        if content == Content::Data && sent > 0 && peer.note_data_sent(now) {
            self.events.put_work(id, work::FACT);
        }
        if session.is_rekey_due_on_send(now) {
            self.events.put_work(id, work::REKEY_SEND);
        }
        true
    }

    /// Stage an empty packet if nothing is staged, then send what is staged. Nobody else sends meanwhile.
    pub(super) fn send_keepalive_in(&self, tables: &Tables<U, T>, id: PeerId) {
        if !tables.peers.contains_key(&id) {
            return;
        }
        {
            let mut staging = lock(&self.staging);
            if staging.segments(id) == 0 {
                staging.stage(id, &[], 1);
            }
        }
        self.send_staged_in(tables, id);
    }

    /// Send what is staged. Nobody else sends meanwhile.
    pub(super) fn send_staged_in(&self, tables: &Tables<U, T>, id: PeerId) {
        let Some(peer) = tables.peers.get(&id) else { return };
        let now = self.clock.now();
        if lock(&self.staging).segments(id) == 0 {
            return;
        }
        let Some(session) = peer.slots.current.as_ref().filter(|session| session.may_send(now)) else {
            self.events.put_work(id, work::NEED_KEY);
            return;
        };
        let staged = lock(&self.staging).take(id);
        let mut buffer = vec![0; RUN_BUFFER];
        // A keepalive is only staged where nothing is, so it is the first.
        let is_keepalive = staged.first().is_some_and(|packet| packet.is_empty());
        if is_keepalive {
            let plan = Plan::new([Superpacket::whole(&[])], tables.mtu, 1);
            self.send_plan(tables, id, peer, session, &plan, Content::Keepalive, None, &mut buffer, now);
        }
        let packets = staged.iter().skip(usize::from(is_keepalive)).map(|packet| &packet[..]);
        if packets.len() > 0 {
            self.send_packets(tables, id, peer, packets, &mut buffer, now);
        }
    }

    pub(super) fn send_control_in(
        &self,
        tables: &Tables<U, T>,
        id: PeerId,
        path: Option<&Origin>,
        message: &[u8],
    ) {
        let Some(peer) = tables.peers.get(&id) else { return };
        if message.first().is_none_or(|first| matches!(first >> 4, 4 | 6)) {
            return;
        }
        let now = self.clock.now();
        let Some(session) = peer.slots.current.as_ref().filter(|session| session.may_send(now)) else {
            self.drops.add(Drop::ControlWithoutKey, 1);
            return;
        };
        let plan = Plan::new([Superpacket::whole(message)], tables.mtu, 1);
        let mut buffer = vec![0; plan.runs().first().map_or(0, |run| run.size)];
        self.send_plan(tables, id, peer, session, &plan, Content::Control, path, &mut buffer, now);
    }

    /// Write parts of one packet; true when the host took it.
    pub(super) fn write_tun(&self, tables: &Tables<U, T>, parts: &[IoSlice<'_>]) -> bool {
        let Some(tun) = &tables.tun else { return false };
        let written = tun.write(parts);
        if written.is_err() {
            self.drops.add(Drop::Host, 1);
        }
        written.is_ok()
    }
}
