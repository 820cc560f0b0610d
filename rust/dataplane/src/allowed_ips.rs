//! Allowed IPs (paper §2, cryptokey routing): longest prefix first, one peer a prefix.
//!
//! A path-compressed binary trie for each family, its nodes in one vector and named by position. Each peer's
//! prefixes are a doubly linked list through the nodes, so that they are listed in the order they came, in
//! linear time, and unlinked at once when the prefix moves to another peer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::BitXor;

/// A peer as the trie knows it.
pub type PeerId = u32;

/// The bits of an address, highest first.
trait Bits: Copy + Eq + BitXor<Output = Self> {
    const SIZE: u8;
    fn leading_zeros(self) -> u8;
    /// Bit `at`, counted from the highest, as a child's number.
    fn bit(self, at: u8) -> usize;
    /// With the bits past `length` cleared.
    fn masked(self, length: u8) -> Self;
}

macro_rules! bits {
    ($number:ty) => {
        impl Bits for $number {
            const SIZE: u8 = <$number>::BITS as u8;

            fn leading_zeros(self) -> u8 {
                <$number>::leading_zeros(self) as u8
            }

            fn bit(self, at: u8) -> usize {
                (self >> (Self::SIZE - 1 - at) & 1) as usize
            }

            fn masked(self, length: u8) -> Self {
                self & <$number>::MAX.checked_shl((Self::SIZE - length).into()).unwrap_or(0)
            }
        }
    };
}

bits!(u32);
bits!(u128);

/// No node.
const NIL: u32 = u32::MAX;

struct Node<A> {
    key: A,
    length: u8,
    /// None: the node is only where two branches part.
    peer: Option<PeerId>,
    children: [u32; 2],
    /// Neighbours in the list of the peer's prefixes.
    before: u32,
    after: u32,
}

/// The ends of a peer's list.
struct List {
    first: u32,
    last: u32,
}

/// Where the position of a node is written: in the root, or as a child of another node.
#[derive(Clone, Copy)]
enum Link {
    Root,
    Child(u32, usize),
}

struct Trie<A> {
    nodes: Vec<Node<A>>,
    free: Vec<u32>,
    root: u32,
    lists: HashMap<PeerId, List>,
    prefixes: usize,
}

impl<A> Default for Trie<A> {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), root: NIL, lists: HashMap::new(), prefixes: 0 }
    }
}

impl<A: Bits> Trie<A> {
    fn node(&self, at: u32) -> Option<&Node<A>> {
        self.nodes.get(at as usize)
    }

    fn follow(&self, link: Link) -> u32 {
        match link {
            Link::Root => self.root,
            Link::Child(parent, side) => self.nodes[parent as usize].children[side],
        }
    }

    fn point(&mut self, link: Link, to: u32) {
        match link {
            Link::Root => self.root = to,
            Link::Child(parent, side) => self.nodes[parent as usize].children[side] = to,
        }
    }

    fn allocate(&mut self, key: A, length: u8) -> u32 {
        let node = Node { key, length, peer: None, children: [NIL; 2], before: NIL, after: NIL };
        if let Some(at) = self.free.pop() {
            self.nodes[at as usize] = node;
            return at;
        }
        self.nodes.push(node);
        (self.nodes.len() - 1) as u32
    }

    fn lookup(&self, address: A) -> Option<PeerId> {
        let mut best = None;
        let mut at = self.root;
        while let Some(node) = self.node(at) {
            if (node.key ^ address).leading_zeros() < node.length {
                break;
            }
            best = node.peer.or(best);
            if node.length == A::SIZE {
                break;
            }
            at = node.children[address.bit(node.length)];
        }
        best
    }

    fn insert(&mut self, peer: PeerId, key: A, length: u8) {
        let length = length.min(A::SIZE);
        let key = key.masked(length);
        let at = self.find_or_create(key, length);
        if self.nodes[at as usize].peer != Some(peer) {
            self.disown(at);
            self.own(at, peer);
        }
    }

    /// The node of a prefix, put into the trie if it is not there.
    fn find_or_create(&mut self, key: A, length: u8) -> u32 {
        let mut link = Link::Root;
        loop {
            let at = self.follow(link);
            let Some(node) = self.node(at) else {
                let created = self.allocate(key, length);
                self.point(link, created);
                return created;
            };
            let common = (node.key ^ key).leading_zeros().min(node.length).min(length);
            if common == node.length {
                if node.length == length {
                    return at;
                }
                link = Link::Child(at, key.bit(node.length));
                continue;
            }
            // The new prefix leaves the path inside this node's: one above it, and unless that is the prefix,
            // one beside.
            let side = node.key.bit(common);
            let above = self.allocate(key.masked(common), common);
            self.nodes[above as usize].children[side] = at;
            self.point(link, above);
            link = Link::Child(above, 1 - side);
            if common == length {
                return above;
            }
        }
    }

    /// Remove a prefix if it is this peer's.
    fn remove(&mut self, peer: PeerId, key: A, length: u8) -> bool {
        let length = length.min(A::SIZE);
        let key = key.masked(length);
        let (mut parent_link, mut link) = (Link::Root, Link::Root);
        loop {
            let at = self.follow(link);
            let Some(node) = self.node(at) else { return false };
            if node.length > length || (node.key ^ key).leading_zeros() < node.length {
                return false;
            }
            if node.length == length {
                if node.peer != Some(peer) {
                    return false;
                }
                self.disown(at);
                self.prune(link);
                // A branching node whose branch has just gone may have only one left.
                if let Link::Child(..) = link {
                    self.prune(parent_link);
                }
                return true;
            }
            (parent_link, link) = (link, Link::Child(at, key.bit(node.length)));
        }
    }

    /// Take out the node a link leads to if it neither has a peer nor parts two branches.
    fn prune(&mut self, link: Link) {
        let at = self.follow(link);
        let Some(node) = self.node(at) else { return };
        let only_child = match node.children {
            _ if node.peer.is_some() => return,
            [child, NIL] | [NIL, child] => child,
            _ => return,
        };
        self.point(link, only_child);
        self.free.push(at);
    }

    fn own(&mut self, at: u32, peer: PeerId) {
        let list = self.lists.entry(peer).or_insert(List { first: NIL, last: NIL });
        let last = std::mem::replace(&mut list.last, at);
        if last == NIL {
            list.first = at;
        } else {
            self.nodes[last as usize].after = at;
        }
        let node = &mut self.nodes[at as usize];
        (node.peer, node.before, node.after) = (Some(peer), last, NIL);
        self.prefixes += 1;
    }

    fn disown(&mut self, at: u32) {
        let node = &mut self.nodes[at as usize];
        let (before, after) = (node.before, node.after);
        let Some(peer) = node.peer.take() else { return };
        self.prefixes -= 1;
        if before != NIL {
            self.nodes[before as usize].after = after;
        }
        if after != NIL {
            self.nodes[after as usize].before = before;
        }
        if before == NIL && after == NIL {
            self.lists.remove(&peer);
        } else if let Some(list) = self.lists.get_mut(&peer) {
            if before == NIL {
                list.first = after;
            }
            if after == NIL {
                list.last = before;
            }
        }
    }

    fn list(&self, peer: PeerId) -> impl Iterator<Item = (A, u8)> {
        let mut at = self.lists.get(&peer).map_or(NIL, |list| list.first);
        std::iter::from_fn(move || {
            let node = self.node(at)?;
            at = node.after;
            Some((node.key, node.length))
        })
    }

    fn remove_by_peer(&mut self, peer: PeerId) {
        let prefixes: Vec<_> = self.list(peer).collect();
        for (key, length) in prefixes {
            self.remove(peer, key, length);
        }
        if self.prefixes == 0 {
            *self = Self::default();
        }
    }
}

/// Which peer an address belongs to.
#[derive(Default)]
pub struct AllowedIps {
    v4: Trie<u32>,
    v6: Trie<u128>,
}

impl AllowedIps {
    /// Give a prefix to a peer, taking it from the one that had it. Bits past the length are masked off.
    pub fn insert(&mut self, peer: PeerId, address: IpAddr, length: u8) {
        match address {
            IpAddr::V4(address) => self.v4.insert(peer, address.into(), length),
            IpAddr::V6(address) => self.v6.insert(peer, address.into(), length),
        }
    }

    /// Take a prefix from a peer; false when it was not the peer's.
    pub fn remove(&mut self, peer: PeerId, address: IpAddr, length: u8) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.remove(peer, address.into(), length),
            IpAddr::V6(address) => self.v6.remove(peer, address.into(), length),
        }
    }

    /// Take all its prefixes from a peer.
    pub fn remove_by_peer(&mut self, peer: PeerId) {
        self.v4.remove_by_peer(peer);
        self.v6.remove_by_peer(peer);
    }

    /// The peer of the longest prefix that covers an address.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<PeerId> {
        match address {
            IpAddr::V4(address) => self.v4.lookup(address.into()),
            IpAddr::V6(address) => self.v6.lookup(address.into()),
        }
    }

    /// A peer's prefixes: IPv4 first, and each family in the order they came.
    pub fn prefixes(&self, peer: PeerId) -> impl Iterator<Item = (IpAddr, u8)> {
        let v4 = self.v4.list(peer).map(|(key, length)| (IpAddr::V4(Ipv4Addr::from(key)), length));
        let v6 = self.v6.list(peer).map(|(key, length)| (IpAddr::V6(Ipv6Addr::from(key)), length));
        v4.chain(v6)
    }

    /// How many prefixes there are, of all peers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.prefixes + self.v6.prefixes
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use std::time::Instant;

    /// The oracle: a list that is searched from end to end.
    #[derive(Default)]
    struct SlowList(Vec<(PeerId, IpAddr, u8)>);

    fn bits(address: IpAddr) -> (u8, u128) {
        match address {
            IpAddr::V4(address) => (32, u128::from(u32::from(address)) << 96),
            IpAddr::V6(address) => (128, address.into()),
        }
    }

    fn masked(address: IpAddr, length: u8) -> IpAddr {
        let (size, number) = bits(address);
        let number = number & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        if size == 32 { Ipv4Addr::from((number >> 96) as u32).into() } else { Ipv6Addr::from(number).into() }
    }

    impl SlowList {
        fn insert(&mut self, peer: PeerId, address: IpAddr, length: u8) {
            let address = masked(address, length);
            if !self.0.contains(&(peer, address, length)) {
                self.0.retain(|&(_, a, l)| (a, l) != (address, length));
                self.0.push((peer, address, length));
            }
        }

        fn remove(&mut self, peer: PeerId, address: IpAddr, length: u8) -> bool {
            let before = self.0.len();
            self.0.retain(|entry| *entry != (peer, masked(address, length), length));
            self.0.len() < before
        }

        fn lookup(&self, address: IpAddr) -> Option<PeerId> {
            let covering = self.0.iter().filter(|&&(_, key, length)| {
                key.is_ipv4() == address.is_ipv4() && masked(address, length) == key
            });
            covering.max_by_key(|&&(_, _, length)| length).map(|&(peer, _, _)| peer)
        }

        fn prefixes(&self, peer: PeerId) -> Vec<(IpAddr, u8)> {
            let own =
                self.0.iter().filter(|entry| entry.0 == peer).map(|&(_, address, length)| (address, length));
            let (v4, v6): (Vec<_>, Vec<_>) = own.partition(|(address, _)| address.is_ipv4());
            [v4, v6].concat()
        }
    }

    /// Addresses crowd together, so that prefixes nest and collide.
    fn address(random: &mut Random) -> IpAddr {
        let (high, low) = (random.below(3) as u32, random.below(16) as u32);
        let middle = if random.below(4) == 0 { random.next() as u32 & 0xff00 } else { 0 };
        if random.below(2) == 0 {
            Ipv4Addr::from(high << 30 | middle | low).into()
        } else {
            Ipv6Addr::from(u128::from(high) << 126 | u128::from(middle) << 56 | u128::from(low)).into()
        }
    }

    fn length(random: &mut Random, address: IpAddr) -> u8 {
        let size = bits(address).0;
        match random.below(4) {
            0 => random.below(u64::from(size) + 1) as u8,
            1 => random.below(4) as u8,
            _ => size - random.below(5) as u8,
        }
    }

    #[test]
    fn random_changes_agree_with_a_searched_list() {
        for seed in 0..40 {
            let mut random = Random::new(seed);
            let (mut trie, mut slow) = (AllowedIps::default(), SlowList::default());
            for step in 0..600 {
                let (peer, address) = (random.below(5) as PeerId, address(&mut random));
                let length = length(&mut random, address);
                match random.below(20) {
                    0 => {
                        trie.remove_by_peer(peer);
                        slow.0.retain(|entry| entry.0 != peer);
                    }
                    1..7 => {
                        assert_eq!(trie.remove(peer, address, length), slow.remove(peer, address, length))
                    }
                    _ => {
                        trie.insert(peer, address, length);
                        slow.insert(peer, address, length);
                    }
                }
                assert_eq!(trie.len(), slow.0.len());
                for _ in 0..4 {
                    let probe = self::address(&mut random);
                    assert_eq!(
                        trie.lookup(probe),
                        slow.lookup(probe),
                        "{probe} after step {step} of seed {seed}"
                    );
                }
                if step % 10 == 0 {
                    for peer in 0..5 {
                        assert_eq!(trie.prefixes(peer).collect::<Vec<_>>(), slow.prefixes(peer));
                    }
                }
            }
            for peer in 0..5 {
                trie.remove_by_peer(peer);
            }
            assert!(trie.is_empty());
            assert_eq!((trie.v4.root, trie.v6.root), (NIL, NIL));
            assert!(trie.v4.lists.is_empty() && trie.v6.lists.is_empty());
        }
    }

    #[test]
    fn removal_leaves_no_node_behind_that_parts_nothing() {
        let mut random = Random::new(99);
        let mut trie: Trie<u32> = Trie::default();
        let mut inserted = Vec::new();
        for _ in 0..2000 {
            let (key, length) = (random.next() as u32, random.below(33) as u8);
            trie.insert(1, key, length);
            inserted.push((key, length));
        }
        for (key, length) in inserted {
            trie.remove(1, key, length);
            let live = trie.nodes.len() - trie.free.len();
            assert!(live <= (2 * trie.prefixes).saturating_sub(usize::from(trie.prefixes > 0)));
        }
        assert_eq!(trie.root, NIL);
    }

    #[test]
    fn the_default_routes_and_single_hosts_are_prefixes_like_others() {
        let mut trie = AllowedIps::default();
        trie.insert(1, "0.0.0.0".parse().unwrap(), 0);
        trie.insert(2, "::".parse().unwrap(), 0);
        trie.insert(3, "192.0.2.7".parse().unwrap(), 32);
        trie.insert(4, "2001:db8::7".parse().unwrap(), 128);
        for (address, peer) in [("192.0.2.7", 3), ("192.0.2.6", 1), ("2001:db8::7", 4), ("2001:db8::6", 2)] {
            assert_eq!(trie.lookup(address.parse().unwrap()), Some(peer));
        }
    }

    #[test]
    fn a_prefix_moves_to_the_peer_it_was_given_to_last() {
        let mut trie = AllowedIps::default();
        let address: IpAddr = "10.0.0.0".parse().unwrap();
        trie.insert(1, address, 8);
        trie.insert(2, "10.1.2.3".parse().unwrap(), 8);
        assert_eq!(trie.prefixes(1).count(), 0);
        assert_eq!(trie.prefixes(2).collect::<Vec<_>>(), [(address, 8)]);
        assert!(!trie.remove(1, address, 8));
        assert_eq!(trie.lookup(address), Some(2));
    }

    #[test]
    fn a_peer_with_130560_prefixes_is_no_burden() {
        let started = Instant::now();
        let mut trie = AllowedIps::default();
        for number in 0..130_560u32 {
            trie.insert(1, Ipv4Addr::from(0x0a00_0000 + (number << 2)).into(), 30);
        }
        assert_eq!(trie.prefixes(1).count(), 130_560);
        trie.remove_by_peer(1);
        assert!(trie.is_empty());
        assert!(started.elapsed().as_secs_f64() < 2.0, "took {:?}, unoptimised", started.elapsed());
    }
}
