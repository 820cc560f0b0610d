//! The engine: the seam's commands (`wgpy/protocol/actions.py`), and between them packets on their way.
//!
//! Whoever moves packets holds `tables` for reading as long as one batch takes; a command holds it for
//! writing, so when it returns no batch is under way that has not seen its effect. Packets are never locked
//! one by one, and nobody waits for anything but a batch. What batches change are atomics of a peer and of a
//! keypair. What happens rarely on the way (a keypair is confirmed, an endpoint moves) is done under the
//! writing lock, too. Locks are taken in this order: tables, then one of staging, defence, ICMP, events.

mod defence;
mod drops;
mod ends;
mod events;
mod incoming;
mod number_map;
mod outgoing;
mod peer;
mod ratelimiter;
mod relays;
mod session;
mod staging;
mod system_random;
mod tables;
#[cfg(test)]
pub(crate) mod tests;
mod turns;
mod unreachable;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLockReadGuard, RwLockWriteGuard};

pub use defence::{FirstDefence, Verdict};
pub use drops::{Drop, Drops};
pub use ends::{Clock, Origin, Tun, Udp};
pub use events::{Event, EventQueues, Signal, work};
pub use incoming::{INITIATION_SIZE, Received};
pub(crate) use incoming::{handshake_receiver_untrusted, is_handshake, is_initiation, is_wireguard};
pub use outgoing::Outbox;
pub use peer::{Facts, fact};
pub(crate) use ratelimiter::RateLimiter;
pub use relays::{RelaySession, Relays};
pub(crate) use system_random::fill_random;
pub use tables::{DatagramFilter, Tables};

use crate::aead::KEY_SIZE;
use crate::allowed_ips::PeerId;
use crate::keypair::{Established, Keypair};
use crate::relay::message::relayed_peer;
use peer::{Paths, Peer, Way};
use session::Session;
use staging::Staging;
use turns::Turns;

/// Handshake messages have this TOS (AF41).
const HANDSHAKE_TOS: u8 = 0x88;
/// Prefixes that are added under one lock; packets pass between.
const PREFIXES_AT_ONCE: usize = 512;

/// What a finished handshake gives.
pub struct NewSession<'a> {
    /// Whose, and the two indices.
    pub established: Established,
    /// The final chaining key.
    pub chaining_key: &'a [u8; KEY_SIZE],
    /// To be sent in the same step.
    pub response: Option<&'a [u8]>,
}

/// What `wg show` says of a peer's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PeerSnapshot {
    pub peer: PeerId,
    pub endpoint: Option<SocketAddr>,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
}

/// See the module.
pub struct Engine<C, U, T> {
    clock: C,
    tables: Turns<Tables<U, T>>,
    staging: Mutex<Staging>,
    defence: Mutex<FirstDefence>,
    icmp_limiter: Mutex<RateLimiter>,
    seq: AtomicU64,
    /// The host refused a superpacket that it should take: write packets one by one.
    splits_writes: AtomicBool,
    /// What it has to tell.
    pub events: EventQueues,
    /// What it dropped.
    pub drops: Drops,
}

fn lock<M>(mutex: &Mutex<M>) -> MutexGuard<'_, M> {
    // A panic is told as `EngineFailed`; nothing here is left half done by one that still matters.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<C: Clock, U: Udp, T: Tun> Engine<C, U, T> {
    /// An engine without ends. `max_staged_octets` bounds what waits for keys.
    pub fn new(clock: C, signal: Box<dyn Signal>, max_staged_octets: usize) -> Self {
        Self {
            clock,
            tables: Turns::default(),
            staging: Mutex::new(Staging::new(max_staged_octets)),
            defence: Mutex::default(),
            icmp_limiter: Mutex::default(),
            seq: AtomicU64::new(0),
            splits_writes: AtomicBool::new(false),
            events: EventQueues::new(signal),
            drops: Drops::default(),
        }
    }

    /// For a batch of packets.
    pub fn read(&self) -> RwLockReadGuard<'_, Tables<U, T>> {
        self.tables.read()
    }

    /// For a command: waits for the batches under way.
    pub fn write(&self) -> RwLockWriteGuard<'_, Tables<U, T>> {
        self.tables.write()
    }

    fn change_peer(&self, id: PeerId, change: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.write().peers.get_mut(&id) {
            change(peer);
        }
    }

    // --- device ---

    /// Keys made of our static public key; None: there is no private key, nothing passes.
    pub fn set_identity(&self, keys: Option<(&[u8; KEY_SIZE], &[u8; KEY_SIZE])>) {
        let _tables = self.write();
        lock(&self.defence).set_identity(keys);
        self.events.discard_handshakes();
    }

    /// The same of a key that we had before, whose messages pass as well; None: there is none.
    pub fn set_previous_identity(&self, keys: Option<(&[u8; KEY_SIZE], &[u8; KEY_SIZE])>) {
        let _tables = self.write();
        lock(&self.defence).set_previous_identity(keys);
    }

    /// Replaces what was expected before.
    pub fn expect(&self, datagrams: DatagramFilter) {
        self.write().expected = datagrams;
    }

    /// The interface's MTU.
    pub fn set_mtu(&self, mtu: usize) {
        self.write().mtu = mtu;
    }

    /// Take sockets. `max_segments`: datagrams that one send takes.
    pub fn set_udp(&self, udp: U, listen_port: u16, max_segments: usize) {
        let mut tables = self.write();
        tables.udp = Some(udp);
        tables.binding += 1;
        tables.listen_port = listen_port;
        tables.max_segments = max_segments;
    }

    /// Let go of the sockets, which are closed when this returns, and of the messages that wait.
    pub fn unbind(&self) {
        let mut tables = self.write();
        tables.udp = None;
        tables.binding += 1;
        tables.listen_port = 0;
        tables.peers.values_mut().for_each(|peer| peer.source = None);
        self.events.discard_handshakes();
    }

    /// Overwrite the keys of all peers.
    pub fn wipe(&self) {
        let mut tables = self.write();
        let ids: Vec<PeerId> = tables.peers.keys().copied().collect();
        ids.into_iter().for_each(|id| tables.wipe(id));
    }

    // --- peers ---

    /// A new id. None when 2^32 were used.
    pub fn add_peer(&self) -> Option<PeerId> {
        let mut tables = self.write();
        let id = tables.next_id;
        tables.next_id = id.checked_add(1)?;
        tables.peers.insert(id, Box::default());
        Some(id)
    }

    /// When it returns no thread holds the peer's keys, and its indices and allowed IPs are gone.
    pub fn remove_peer(&self, id: PeerId) {
        let mut tables = self.write();
        if tables.remove_peer(id) {
            lock(&self.staging).take(id);
            self.events.forget_peer(id);
        }
    }

    /// A prefix belongs to one peer: added here, it leaves the peer that had it.
    pub fn add_allowed_ips(&self, id: PeerId, prefixes: &[(IpAddr, u8)]) {
        for some in prefixes.chunks(PREFIXES_AT_ONCE) {
            let mut tables = self.write();
            if tables.peers.contains_key(&id) {
                some.iter().for_each(|&(address, length)| tables.allowed_ips.insert(id, address, length));
            }
        }
    }

    /// Prefixes that are not this peer's are passed over.
    pub fn remove_allowed_ips(&self, id: PeerId, prefixes: &[(IpAddr, u8)]) {
        for some in prefixes.chunks(PREFIXES_AT_ONCE) {
            let mut tables = self.write();
            for &(address, length) in some {
                tables.allowed_ips.remove(id, address, length);
            }
        }
    }

    /// In the order they came, IPv4 first.
    pub fn allowed_ips(&self, id: PeerId) -> Vec<(IpAddr, u8)> {
        self.read().allowed_ips.prefixes(id).collect()
    }

    /// Set where the peer is, and forget the cached source.
    pub fn set_endpoint(&self, id: PeerId, endpoint: Option<SocketAddr>) {
        self.change_peer(id, |peer| {
            peer.endpoint = endpoint;
            peer.reported = endpoint;
            peer.source = None;
        });
    }

    /// Forget the sticky source of one peer, or of all, with all that was learned of routes.
    pub fn forget_source(&self, id: Option<PeerId>) {
        let Some(id) = id else {
            let mut tables = self.write();
            tables.peers.values_mut().for_each(|peer| peer.source = None);
            tables.udp.iter().for_each(Udp::forget_routes);
            return;
        };
        self.change_peer(id, |peer| peer.source = None);
    }

    /// Forget the sticky sources of all peers that were last heard at this interface of the host.
    pub fn forget_sources_at(&self, interface_index: u32) {
        for peer in self.write().peers.values_mut() {
            peer.source = peer.source.filter(|source| source.interface_index != interface_index);
        }
    }

    /// Whether the endpoint follows authenticated packets, or they are only reported.
    pub fn set_roaming(&self, id: PeerId, follow: bool) {
        self.change_peer(id, |peer| peer.stays = !follow);
    }

    /// Send by `primary`, and everything by each of `also` too; None: back to the endpoint.
    pub fn set_paths(&self, id: PeerId, primary: Option<Origin>, also: Vec<Origin>) {
        self.change_peer(id, |peer| peer.paths = primary.map(|primary| Box::new(Paths { primary, also })));
    }

    /// Packets of more octets do not fit the path to the peer, and are answered by ICMP; 0: all fit.
    pub fn set_path_mtu(&self, id: PeerId, mtu: u16) {
        self.change_peer(id, |peer| peer.path_mtu = mtu);
    }

    // --- handshake ---

    /// A random index, unique among handshakes and keypairs of all peers. None for a dead id.
    pub fn reserve_index(&self, id: PeerId) -> Option<u32> {
        self.write().reserve_index(id)
    }

    /// Free an index reserved for a handshake.
    pub fn release_index(&self, index: u32) {
        self.write().release_index(index);
    }

    /// Send an initiation or response; true when it left the host.
    pub fn send_handshake(&self, id: PeerId, message: &[u8]) -> bool {
        let tables = self.read();
        let Some(peer) = tables.peers.get(&id) else { return false };
        self.send_handshake_by(&tables, peer, message, peer.ways())
    }

    fn send_handshake_by(
        &self,
        tables: &Tables<U, T>,
        peer: &Peer,
        message: &[u8],
        ways: impl Iterator<Item = Way>,
    ) -> bool {
        let mut sent = 0;
        for (to, source) in ways {
            sent += self.send_udp(tables, message, message.len(), to, source.as_ref(), HANDSHAKE_TOS);
        }
        peer.tx_bytes.fetch_add(sent as u64, Ordering::Relaxed);
        peer.note_authenticated_sent(self.clock.now());
        sent > 0
    }

    /// Send octets that belong to no peer.
    pub fn send_datagram(&self, datagram: &[u8], to: SocketAddr, source: Option<&Origin>) {
        self.send_udp(&self.read(), datagram, datagram.len(), to, source, 0);
    }

    fn send_udp(
        &self,
        tables: &Tables<U, T>,
        run: &[u8],
        segment_size: usize,
        to: SocketAddr,
        source: Option<&Origin>,
        tos: u8,
    ) -> usize {
        let sent = match relayed_peer(to) {
            Some(peer) => self.send_relayed(tables, run, segment_size, peer, tos),
            None => tables.udp.as_ref().map_or(0, |udp| udp.send(run, segment_size, to, source, tos)),
        };
        if sent < run.len() {
            self.drops.add(Drop::Unsent, (run.len() - sent).div_ceil(segment_size.max(1)));
        }
        sent
    }

    /// A handshake message proved to be the peer's.
    pub fn handshake_accepted(&self, id: PeerId, origin: &Origin, length: usize, seq: u64) {
        let mut tables = self.write();
        let Some(peer) = tables.peers.get_mut(&id) else { return };
        peer.rx_bytes.fetch_add(length as u64, Ordering::Relaxed);
        peer.handshake_origin = Some(*origin);
        if seq >= *peer.authenticated_seq.get_mut() {
            *peer.authenticated_seq.get_mut() = seq;
            if peer.note_origin(origin) {
                self.events.put_endpoint(id, origin.remote);
            }
        }
        if peer.note_authenticated_received(self.clock.now()) {
            self.events.put_work(id, work::FACT);
        }
    }

    /// Derive the transport keys and put the keypair in its slot; the responder sends its response, the
    /// initiator what is staged, else a keepalive.
    pub fn begin_session(&self, new: NewSession<'_>) {
        let NewSession { established, chaining_key, response } = new;
        let (id, is_initiator) = (established.peer, established.is_initiator);
        let session = Session::new(Keypair::new(chaining_key, established));
        let mut tables = self.write();
        if !tables.begin_session(session) {
            return;
        }
        let Some(peer) = tables.peers.get(&id) else { return };
        if let Some(response) = response {
            // Where packets go; and, when the endpoint does not follow, first where the initiation came from.
            let first =
                peer.handshake_origin.filter(|_| peer.stays).map(|origin| (origin.remote, Some(origin)));
            let others = peer.ways().filter(|way| first.is_none_or(|first| first.0 != way.0));
            self.send_handshake_by(&tables, peer, response, first.into_iter().chain(others));
        }
        if is_initiator {
            self.send_keepalive_in(&tables, id);
        }
    }

    // --- keys ---

    /// Stop sending with `current` and `next`.
    pub fn expire_keypairs(&self, id: PeerId) {
        self.change_peer(id, |peer| peer.slots.expire());
    }

    /// Overwrite a peer's keys.
    pub fn wipe_keypairs(&self, id: PeerId) {
        self.write().wipe(id);
    }

    /// Drop what waits for a key.
    pub fn drop_staged(&self, id: PeerId) {
        let _tables = self.write();
        lock(&self.staging).take(id);
    }

    /// Stage an empty packet if nothing is staged, then send what is staged.
    pub fn send_keepalive(&self, id: PeerId) {
        self.send_keepalive_in(&self.write(), id);
    }

    /// Seal a control message of the mesh and send it by that path.
    pub fn send_control(&self, id: PeerId, path: Option<&Origin>, message: &[u8]) {
        self.send_control_in(&self.read(), id, path, message);
    }

    // --- read ---

    /// Nothing for a dead id.
    pub fn facts(&self, id: PeerId) -> Facts {
        let tables = self.read();
        let Some(peer) = tables.peers.get(&id) else { return Facts::default() };
        let staged = lock(&self.staging).segments(id);
        Facts { staged, ..peer.facts(self.clock.now()) }
    }

    /// Report a fact once, at once when it is already there.
    pub fn watch(&self, id: PeerId, mask: u8) {
        let tables = self.read();
        let Some(peer) = tables.peers.get(&id) else { return };
        if let Some(current) = &peer.slots.current {
            current.ask_again_on_send();
        }
        if peer.watch(mask) {
            self.events.put_work(id, work::FACT);
        }
    }

    /// Where peers are, and what was received and sent, in the order they were added.
    pub fn snapshot(&self) -> Vec<PeerSnapshot> {
        let tables = self.read();
        let mut all: Vec<PeerSnapshot> = tables
            .peers
            .iter()
            .map(|(&id, peer)| PeerSnapshot {
                peer: id,
                endpoint: peer.way().map(|(endpoint, _)| endpoint),
                rx_bytes: peer.rx_bytes.load(Ordering::Relaxed),
                tx_bytes: peer.tx_bytes.load(Ordering::Relaxed),
            })
            .collect();
        all.sort_unstable_by_key(|snapshot| snapshot.peer);
        all
    }

    /// Whether the host refused a superpacket, so that packets are written one by one.
    pub fn splits_writes(&self) -> bool {
        self.splits_writes.load(Ordering::Relaxed)
    }

    /// Go on from that counter with a session's packets: for tests of the limits.
    pub fn skip_counters(&self, local_index: u32, counter: u64) {
        if let Some(session) = self.read().indices.get(&local_index).and_then(|entry| entry.session.as_ref())
        {
            session.keypair.skip_counters(counter);
        }
    }
}
