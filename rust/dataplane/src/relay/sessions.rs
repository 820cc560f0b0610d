//! The sessions of a relay: one a node, the newest; found by id and by node.

use std::collections::HashMap;

use zeroize::Zeroizing;

use super::shares::Account;
use crate::engine::{Origin, fill_random};

/// A node as relays know it: its network, and its relay id there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NodeAddress {
    /// The network's id.
    pub network: [u8; 16],
    /// Unique there.
    pub id: u64,
}

/// One node's.
pub struct Session {
    /// Random but for its last bits, which are its place.
    pub id: u64,
    /// Whose.
    pub node: NodeAddress,
    /// For MACs.
    pub key: Zeroizing<[u8; 32]>,
    /// Where the node is, and at which of our addresses it found us.
    pub origin: Origin,
    /// The highest of its KEEPALIVEs.
    pub counter: u64,
    /// When it proved itself last.
    pub proven_at: u64,
    /// What it sent.
    pub account: Account,
}

const PLACE_BITS: u32 = 20;
/// Sessions that a relay can have at all.
pub const MOST_SESSIONS: usize = 1 << PLACE_BITS;

/// All of them.
pub struct Sessions {
    places: Vec<Option<Session>>,
    free: Vec<usize>,
    by_node: HashMap<NodeAddress, usize>,
    most: usize,
}

fn place_of(id: u64) -> usize {
    (id as usize) & (MOST_SESSIONS - 1)
}

impl Sessions {
    /// None yet, and never more than `most`.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let most = most.min(MOST_SESSIONS);
        Self { places: Vec::new(), free: Vec::new(), by_node: HashMap::new(), most }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_node.len()
    }

    /// A session by its id.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut Session> {
        self.places.get_mut(place_of(id))?.as_mut().filter(|session| session.id == id)
    }

    /// A node's session.
    #[must_use]
    pub fn of_node(&self, node: &NodeAddress) -> Option<&Session> {
        self.places[*self.by_node.get(node)?].as_ref()
    }

    /// A node's new session, which ends its older one. None: there is no room.
    pub fn add(&mut self, node: NodeAddress, key: [u8; 32], origin: Origin, now: u64) -> Option<u64> {
        self.remove(&node);
        if self.by_node.len() >= self.most {
            return None;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        let mut random = [0; 8];
        fill_random(&mut random);
        let id = (u64::from_be_bytes(random) << PLACE_BITS) | place as u64;
        let (key, account) = (Zeroizing::new(key), Account::default());
        self.places[place] = Some(Session { id, node, key, origin, counter: 0, proven_at: now, account });
        self.by_node.insert(node, place);
        Some(id)
    }

    /// End a node's session. False: it has none.
    pub fn remove(&mut self, node: &NodeAddress) -> bool {
        let Some(place) = self.by_node.remove(node) else { return false };
        self.places[place] = None;
        self.free.push(place);
        true
    }

    /// End those that have been silent since before.
    pub fn expire(&mut self, before: u64) -> usize {
        let silent: Vec<NodeAddress> =
            self.iter().filter(|session| session.proven_at < before).map(|session| session.node).collect();
        silent.iter().for_each(|node| {
            self.remove(node);
        });
        silent.len()
    }

    /// All, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.places.iter().flatten()
    }
}
