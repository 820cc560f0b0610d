//! Packets that wait for a key: 128 segments a peer, 8192 of all, the oldest dropped first.

use std::collections::{BTreeMap, VecDeque};

use super::number_map::NumberMap;
use crate::allowed_ips::PeerId;

/// Segments of one peer.
const MAX_STAGED: usize = 128;
/// Segments of all peers; past it whoever has waited longest loses its oldest.
const POOL: usize = 8192;

/// A packet as it came from the TUN; an empty one is a keepalive.
struct Staged {
    octets: Box<[u8]>,
    segments: usize,
}

struct Queue {
    packets: VecDeque<Staged>,
    segments: usize,
    /// When it began to wait.
    ticket: u64,
}

/// What is staged for all peers.
pub struct Staging {
    queues: NumberMap<Queue>,
    waiting: BTreeMap<u64, PeerId>,
    next_ticket: u64,
    segments: usize,
    octets: usize,
    /// Octets of all peers.
    max_octets: usize,
}

impl Staging {
    /// Nothing is staged; `max_octets` bounds what may be.
    #[must_use]
    pub fn new(max_octets: usize) -> Self {
        Self {
            queues: NumberMap::default(),
            waiting: BTreeMap::new(),
            next_ticket: 0,
            segments: 0,
            octets: 0,
            max_octets,
        }
    }

    /// Segments staged for a peer.
    #[must_use]
    pub fn segments(&self, peer: PeerId) -> usize {
        self.queues.get(&peer).map_or(0, |queue| queue.segments)
    }

    /// Stage a packet of so many segments. Returns how many segments had to go for it.
    pub fn stage(&mut self, peer: PeerId, packet: &[u8], segments: usize) -> usize {
        let (waiting, next_ticket) = (&mut self.waiting, &mut self.next_ticket);
        let queue = self.queues.entry(peer).or_insert_with(|| {
            *next_ticket += 1;
            waiting.insert(*next_ticket, peer);
            Queue { packets: VecDeque::new(), segments: 0, ticket: *next_ticket }
        });
        queue.packets.push_back(Staged { octets: packet.into(), segments });
        queue.segments += segments;
        self.segments += segments;
        self.octets += packet.len();
        let mut dropped = 0;
        while self.segments(peer) > MAX_STAGED {
            dropped += self.drop_oldest(peer);
        }
        while self.segments > POOL || self.octets > self.max_octets {
            let Some((_, &longest)) = self.waiting.first_key_value() else { break };
            dropped += self.drop_oldest(longest);
        }
        dropped
    }

    fn drop_oldest(&mut self, peer: PeerId) -> usize {
        let Some(queue) = self.queues.get_mut(&peer) else { return 0 };
        let Some(oldest) = queue.packets.pop_front() else { return 0 };
        queue.segments -= oldest.segments;
        self.segments -= oldest.segments;
        self.octets -= oldest.octets.len();
        if queue.packets.is_empty() {
            self.waiting.remove(&queue.ticket);
            self.queues.remove(&peer);
        }
        oldest.segments
    }

    /// Take out everything staged for a peer, in order.
    pub fn take(&mut self, peer: PeerId) -> Vec<Box<[u8]>> {
        let Some(queue) = self.queues.remove(&peer) else { return Vec::new() };
        self.waiting.remove(&queue.ticket);
        self.segments -= queue.segments;
        let packets = queue.packets.into_iter().map(|staged| staged.octets);
        packets.inspect(|octets| self.octets -= octets.len()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_keeps_its_newest_128_segments_in_order() {
        let mut staging = Staging::new(1 << 20);
        let dropped: usize = (0..140u8).map(|number| staging.stage(1, &[number], 1)).sum();
        assert_eq!((dropped, staging.segments(1)), (12, MAX_STAGED));
        assert_eq!(staging.stage(1, &[200], 45), 45);
        let packets = staging.take(1);
        assert_eq!((packets.len(), packets[0][0], packets[83][0]), (84, 57, 200));
        assert!(staging.queues.is_empty());
        assert_eq!((staging.segments, staging.octets, staging.waiting.len()), (0, 0, 0));
        assert_eq!(staging.stage(1, &[1], 129), 129, "more than a peer may ever stage");
        assert!(staging.queues.is_empty());
    }

    #[test]
    fn past_the_pool_or_its_octets_whoever_waited_longest_loses_first() {
        let mut staging = Staging::new(1 << 20);
        for peer in 0..65 {
            staging.stage(peer, &[0; 10], MAX_STAGED);
        }
        assert_eq!((staging.segments(0), staging.segments(1), staging.segments(64)), (0, 128, 128));
        staging.stage(9, &vec![0; 1 << 20], 1);
        assert_eq!(staging.segments(1), 0);
        assert!(staging.octets <= 1 << 20);
    }
}
