//! The trie, beside a list that is searched from end to end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wgpy_dataplane::allowed_ips::{AllowedIps, PeerId};

use crate::input::Input;

#[derive(Default)]
struct Plain(Vec<(IpAddr, u8, PeerId)>);

fn mask(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            Ipv4Addr::from(u32::from(address) & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0))
                .into()
        }
        IpAddr::V6(address) => {
            Ipv6Addr::from(u128::from(address) & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0))
                .into()
        }
    }
}

impl Plain {
    fn lookup(&self, address: IpAddr) -> Option<PeerId> {
        let covers = |&&(prefix, length, _): &&(IpAddr, u8, PeerId)| {
            prefix.is_ipv4() == address.is_ipv4() && mask(address, length) == prefix
        };
        self.0.iter().filter(covers).max_by_key(|&&(_, length, _)| length).map(|&(.., peer)| peer)
    }
}

fn address(input: &mut Input<'_>) -> IpAddr {
    let kind = input.octet();
    // Few different octets, so that prefixes meet.
    let mut octets = [0; 16];
    let size = if kind & 1 == 0 { 4 } else { 16 };
    octets[..size].iter_mut().for_each(|octet| *octet = [0, 1, 128, 255][usize::from(input.octet() & 3)]);
    if kind & 1 == 0 {
        Ipv4Addr::from([octets[0], octets[1], octets[2], octets[3]]).into()
    } else {
        octets.into()
    }
}

/// Additions, removals and look-ups; both agree at each step and in the end.
pub fn allowed_ips(data: &[u8]) {
    let mut input = Input(data);
    let (mut trie, mut plain) = (AllowedIps::default(), Plain::default());
    while !input.is_empty() {
        let (what, peer) = (input.octet(), PeerId::from(input.octet() & 3) + 1);
        let address = address(&mut input);
        let length = input.octet() % if address.is_ipv4() { 33 } else { 129 };
        let prefix = mask(address, length);
        let at = plain.0.iter().position(|&(known, size, _)| (known, size) == (prefix, length));
        match what % 8 {
            0..4 => {
                trie.insert(peer, address, length);
                at.map(|at| plain.0.remove(at));
                plain.0.push((prefix, length, peer));
            }
            4 => {
                let owned = at.filter(|&at| plain.0[at].2 == peer);
                assert_eq!(trie.remove(peer, address, length), owned.is_some());
                owned.map(|at| plain.0.remove(at));
            }
            5 => {
                trie.remove_by_peer(peer);
                plain.0.retain(|&(.., owner)| owner != peer);
            }
            _ => {}
        }
        assert_eq!(trie.lookup(address), plain.lookup(address), "{address}");
        assert_eq!(trie.len(), plain.0.len());
    }
    for peer in 1..5 {
        let sorted = |mut prefixes: Vec<(IpAddr, u8)>| {
            prefixes.sort();
            prefixes
        };
        let own =
            plain.0.iter().filter(|&&(.., owner)| owner == peer).map(|&(prefix, length, _)| (prefix, length));
        assert_eq!(sorted(trie.prefixes(peer).collect()), sorted(own.collect()));
    }
}
