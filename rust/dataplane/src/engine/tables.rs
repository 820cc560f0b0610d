//! What commands change and packets are looked up in: peers, indices, allowed IPs, and the ends.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use super::number_map::NumberMap;
use super::peer::Peer;
use super::relays::Relays;
use super::session::{Fallen, Session};
use super::system_random::random_u32;
use crate::allowed_ips::{AllowedIps, PeerId};
use crate::coalesce::Protocols;

/// Where a STUN message has its transaction id.
const STUN_TRANSACTION: std::ops::Range<usize> = 8..20;

/// Datagrams that are not WireGuard and that someone waits for; all others are dropped.
#[derive(Default)]
pub struct DatagramFilter {
    /// Ids of STUN transactions.
    pub stun_transactions: HashSet<[u8; 12]>,
    /// Whole endpoints, such as a relay's.
    pub remotes: HashSet<SocketAddr>,
}

impl DatagramFilter {
    /// Whether somebody waits for it.
    #[must_use]
    pub fn matches(&self, datagram: &[u8], remote: SocketAddr) -> bool {
        let transaction = datagram.get(STUN_TRANSACTION);
        self.remotes.contains(&remote)
            || transaction.is_some_and(|transaction| self.stun_transactions.contains(transaction))
    }
}

/// Whose an index is; without a session it is a handshake's.
pub struct IndexEntry {
    /// The owner.
    pub peer: PeerId,
    /// The session that took it over.
    pub session: Option<Arc<Session>>,
}

/// Everything under the engine's lock.
pub struct Tables<U, T> {
    /// The sockets.
    pub udp: Option<U>,
    /// How often they were opened or closed: what was read of others is known by it.
    pub binding: u64,
    /// The TUN.
    pub tun: Option<T>,
    /// Packets from and to the TUN begin with a virtio header.
    pub vnet_hdr: bool,
    /// What may be joined for the TUN.
    pub joins: Protocols,
    /// Datagrams that one send takes.
    pub max_segments: usize,
    /// Of the interface.
    pub mtu: usize,
    /// Ours, to know a routing loop by; 0: no socket.
    pub listen_port: u16,
    /// By id.
    pub peers: NumberMap<Box<Peer>>,
    /// Handshakes and keypairs of all peers.
    pub indices: NumberMap<IndexEntry>,
    /// How many sessions send to an index.
    pub remote_indices: NumberMap<u32>,
    /// Whose addresses are whose.
    pub allowed_ips: AllowedIps,
    /// By which peers are reached that are not otherwise.
    pub relays: Relays,
    /// What goes up though it is not WireGuard.
    pub expected: DatagramFilter,
    /// The next peer's.
    pub next_id: PeerId,
}

impl<U, T> Tables<U, T> {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            udp: None,
            binding: 0,
            tun: None,
            vnet_hdr: false,
            joins: Protocols { tcp: true, udp: true },
            max_segments: 64,
            mtu: 1420,
            listen_port: 0,
            peers: NumberMap::default(),
            indices: NumberMap::default(),
            remote_indices: NumberMap::default(),
            allowed_ips: AllowedIps::default(),
            relays: Relays::default(),
            expected: DatagramFilter::default(),
            next_id: 1,
        }
    }

    /// A random index that nothing holds, for a handshake of this peer.
    pub fn reserve_index(&mut self, id: PeerId) -> Option<u32> {
        let peer = self.peers.get_mut(&id)?;
        loop {
            let index = random_u32();
            if let std::collections::hash_map::Entry::Vacant(entry) = self.indices.entry(index) {
                entry.insert(IndexEntry { peer: id, session: None });
                peer.handshake_indices.push(index);
                return Some(index);
            }
        }
    }

    /// Free a handshake's index; one that a session took over stays.
    pub fn release_index(&mut self, index: u32) {
        let Some(IndexEntry { peer, session: None }) = self.indices.get(&index) else { return };
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.handshake_indices.retain(|&own| own != index);
        }
        self.indices.remove(&index);
    }

    /// Put a session in its slot and its index into the table. False when the index is not a handshake's of
    /// that peer.
    pub fn begin_session(&mut self, session: Session) -> bool {
        let keypair = &session.keypair;
        let (id, local_index, remote_index) = (keypair.peer, keypair.local_index, keypair.remote_index);
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        let Some(at) = peer.handshake_indices.iter().position(|&own| own == local_index) else {
            return false;
        };
        peer.handshake_indices.swap_remove(at);
        let session = Arc::new(session);
        let fallen = peer.slots.add(session.clone());
        self.indices.insert(local_index, IndexEntry { peer: id, session: Some(session) });
        *self.remote_indices.entry(remote_index).or_default() += 1;
        self.free(fallen);
        true
    }

    /// Sessions fell out of their slots: wipe them and give their indices back.
    pub fn free(&mut self, fallen: Fallen) {
        for session in fallen.into_iter().flatten() {
            let keypair = &session.keypair;
            keypair.wipe();
            self.indices.remove(&keypair.local_index);
            if let Some(count) = self.remote_indices.get_mut(&keypair.remote_index) {
                *count -= 1;
                if *count == 0 {
                    self.remote_indices.remove(&keypair.remote_index);
                }
            }
        }
    }

    /// Wipe a peer's sessions.
    pub fn wipe(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            let fallen = peer.slots.wipe();
            self.free(fallen);
        }
    }

    /// Take a peer and all that is its own out of the tables. False when there was none.
    pub fn remove_peer(&mut self, id: PeerId) -> bool {
        self.wipe(id);
        let Some(peer) = self.peers.remove(&id) else { return false };
        self.allowed_ips.remove_by_peer(id);
        for index in &peer.handshake_indices {
            self.indices.remove(index);
        }
        true
    }
}

impl<U, T> Default for Tables<U, T> {
    fn default() -> Self {
        Self::new()
    }
}
