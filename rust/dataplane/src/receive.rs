//! From transport messages to packets: open in place, replay, ECN, trim, source check.

use std::ops::Range;

use crate::aead::{MAX_BATCH, Message, empty_batch};
use crate::allowed_ips::AllowedIps;
use crate::inner::{Inner, classify_untrusted, decapsulate_ecn, source_untrusted};
use crate::keypair::Keypair;
use crate::message::{HEADER_SIZE, MIN_TRANSPORT_SIZE, REJECT_AFTER_MESSAGES, counter_untrusted};

/// What became of one datagram. Those from `Keepalive` on are authenticated and not replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Less than 32 octets.
    TooShort,
    /// The keypair is too old or wiped, or the counter at the reject limit.
    Expired,
    /// The tag is wrong.
    Forged,
    /// The counter was received before, or is behind the window.
    Replayed,
    /// Empty.
    Keepalive,
    /// An IP packet.
    Data,
    /// A control message of the mesh, its padding still behind it.
    Control,
    /// An IP packet shorter than it says or than its header.
    Malformed,
    /// An IP packet whose source is not the peer's.
    Refused,
}

/// One datagram, opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What became of it.
    pub outcome: Outcome,
    /// Octets of the datagram.
    pub size: usize,
    /// Where in the datagram its packet is; empty but for `Data` and `Control`.
    pub packet: Range<usize>,
}

/// Open, in place, datagrams for one keypair. `allowed_ips`: None leaves the source check out. `tos`: the
/// outer header's. Where a packet is, is said from the beginning of its datagram.
pub fn open_datagrams<'a>(
    keypair: &Keypair,
    datagrams: impl IntoIterator<Item = &'a mut [u8]>,
    allowed_ips: Option<&AllowedIps>,
    tos: u8,
    now: u64,
) -> Vec<Opened> {
    let mut datagrams = datagrams.into_iter();
    let mut results = Vec::with_capacity(datagrams.size_hint().0);
    let mut receiver = keypair.receiver(now);
    loop {
        // As many as the cipher takes at once, and which result is whose.
        let mut messages = empty_batch();
        let mut places = [0; MAX_BATCH];
        let mut count = 0;
        for datagram in datagrams.by_ref() {
            let size = datagram.len();
            let outcome = if size < MIN_TRANSPORT_SIZE {
                Outcome::TooShort
            } else if receiver.is_none() || counter_untrusted(datagram) >= REJECT_AFTER_MESSAGES {
                Outcome::Expired
            } else {
                let counter = counter_untrusted(datagram);
                let message = Message::to_open(counter, &mut datagram[HEADER_SIZE..]);
                messages[count] = message.expect("it is long enough for a tag");
                places[count] = results.len();
                count += 1;
                Outcome::Forged
            };
            results.push(Opened { outcome, size, packet: 0..0 });
            if count == MAX_BATCH {
                break;
            }
        }
        let Some(receiver) = receiver.as_mut().filter(|_| count > 0) else { return results };
        receiver.open_batch(&mut messages[..count]);
        for (message, place) in messages.iter_mut().zip(places).take(count) {
            if !message.is_authentic {
                continue;
            }
            let (outcome, length) = if receiver.check_and_set(message.counter) {
                classify(keypair, message.text, allowed_ips, tos)
            } else {
                (Outcome::Replayed, 0)
            };
            let result = &mut results[place];
            result.outcome = outcome;
            if length > 0 {
                result.packet = HEADER_SIZE..HEADER_SIZE + length;
            }
        }
    }
}

/// What is inside a new authentic message, and how many octets of it are a packet.
fn classify(
    keypair: &Keypair,
    packet: &mut [u8],
    allowed_ips: Option<&AllowedIps>,
    tos: u8,
) -> (Outcome, usize) {
    match classify_untrusted(packet) {
        Inner::Keepalive => (Outcome::Keepalive, 0),
        Inner::Control => (Outcome::Control, packet.len()),
        Inner::Malformed => (Outcome::Malformed, 0),
        Inner::Ip(length) => {
            let owner = || source_untrusted(packet).and_then(|source| allowed_ips?.lookup(source));
            if allowed_ips.is_some() && owner() != Some(keypair.peer) {
                return (Outcome::Refused, 0);
            }
            decapsulate_ecn(packet, tos);
            (Outcome::Data, length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keypair::Established;
    use crate::message::{REJECT_AFTER_TIME, write_header};
    use crate::random::Random;

    fn keypair(is_initiator: bool) -> Keypair {
        let established =
            Established { local_index: 1, remote_index: 2, is_initiator, peer: 7, created_at: 0 };
        Keypair::new(&[1; 32], established)
    }

    fn sealed(from: &Keypair, packet: &[u8]) -> Vec<u8> {
        let counter = from.reserve_counters(1, 0).unwrap();
        let mut message = [&[0; 16][..], packet, &[0; 16]].concat();
        let size = message.len();
        write_header(&mut message, from.remote_index, counter);
        assert!(from.seal_run(counter, &mut message, size));
        message
    }

    fn ipv4(source: [u8; 4], ecn: u8, length: u16, size: usize) -> Vec<u8> {
        let mut packet = vec![0; size];
        packet[..4].copy_from_slice(&[0x45, ecn, (length >> 8) as u8, length as u8]);
        packet[12..16].copy_from_slice(&source);
        packet
    }

    #[test]
    fn each_datagram_gets_the_outcome_it_deserves() {
        let (ours, theirs) = (keypair(true), keypair(false));
        let mut allowed_ips = AllowedIps::default();
        allowed_ips.insert(7, "10.0.0.0".parse().unwrap(), 8);
        allowed_ips.insert(8, "10.0.0.9".parse().unwrap(), 32);
        let good = sealed(&ours, &ipv4([10, 0, 0, 1], 2, 20, 32));
        let mut forged = sealed(&ours, &ipv4([10, 0, 0, 1], 0, 20, 32));
        forged[20] ^= 1;
        let mut last = good.clone();
        last[8..16].copy_from_slice(&REJECT_AFTER_MESSAGES.to_le_bytes());
        let cases = [
            (good.clone(), Outcome::Data),
            (good, Outcome::Replayed),
            (forged, Outcome::Forged),
            (last, Outcome::Expired),
            (vec![4; 31], Outcome::TooShort),
            (vec![], Outcome::TooShort),
            (sealed(&ours, &[]), Outcome::Keepalive),
            (sealed(&ours, &[0x10; 16]), Outcome::Control),
            (sealed(&ours, &ipv4([10, 0, 0, 1], 0, 33, 32)), Outcome::Malformed),
            (sealed(&ours, &ipv4([10, 0, 0, 9], 0, 20, 32)), Outcome::Refused),
            (sealed(&ours, &ipv4([11, 0, 0, 1], 0, 20, 32)), Outcome::Refused),
        ];
        let mut datagrams: Vec<Vec<u8>> = cases.iter().map(|(datagram, _)| datagram.clone()).collect();
        let slices = datagrams.iter_mut().map(|datagram| &mut datagram[..]);
        let opened = open_datagrams(&theirs, slices, Some(&allowed_ips), 3, 0);
        for (opened, (datagram, outcome)) in opened.iter().zip(&cases) {
            assert_eq!((opened.outcome, opened.size), (*outcome, datagram.len()));
        }
        let packet = &datagrams[0][opened[0].packet.clone()];
        assert_eq!((packet.len(), packet[1]), (20, 3), "trimmed, and marked as the outer header was");
        assert_eq!(datagrams[7][opened[7].packet.clone()], [0x10; 16]);
    }

    #[test]
    fn an_old_or_wiped_keypair_opens_nothing() {
        let (ours, theirs) = (keypair(true), keypair(false));
        let message = sealed(&ours, &[]);
        let open = |now| open_datagrams(&theirs, [&mut message.clone()[..]], None, 0, now)[0].outcome;
        assert_eq!(open(REJECT_AFTER_TIME), Outcome::Expired);
        assert_eq!(open(REJECT_AFTER_TIME - 1), Outcome::Keepalive);
        theirs.wipe();
        assert_eq!(open(0), Outcome::Expired);
    }

    #[test]
    fn random_packets_inside_and_random_octets_outside_do_no_harm() {
        let (ours, theirs) = (keypair(true), keypair(false));
        let mut random = Random::new(11);
        for round in 0..20_000 {
            let length = random.below(120) as usize;
            let mut octets = random.bytes(length);
            if let Some(first) = octets.first_mut() {
                *first = [0x45, 0x4f, 0x60, *first][round % 4];
            }
            let mut datagram = if round % 3 == 0 { octets } else { sealed(&ours, &octets) };
            let size = datagram.len();
            let opened = open_datagrams(&theirs, [&mut datagram[..]], None, round as u8, 0);
            assert!(opened[0].packet.end <= size);
            assert_eq!(opened[0].outcome < Outcome::Keepalive, round % 3 == 0);
        }
    }

    #[test]
    fn many_datagrams_at_once_are_what_they_are_one_by_one() {
        let (ours, theirs, other) = (keypair(true), keypair(false), keypair(false));
        let mut random = Random::new(12);
        for _ in 0..50 {
            let mut datagrams: Vec<Vec<u8>> = (0..random.below(50))
                .map(|_| {
                    let length = random.below(1500) as usize;
                    let mut datagram = sealed(&ours, &ipv4([10, 0, 0, 1], 0, 20, 20 + length));
                    match random.below(6) {
                        0 => datagram.truncate(random.below(40) as usize),
                        1 => datagram[random.below(20 + length as u64) as usize] ^= 4,
                        _ => {}
                    }
                    datagram
                })
                .collect();
            // One comes twice.
            datagrams.extend(datagrams.first().cloned());
            let mut copies = datagrams.clone();
            let one_by_one: Vec<Opened> = copies
                .iter_mut()
                .flat_map(|datagram| open_datagrams(&other, [&mut datagram[..]], None, 0, 0))
                .collect();
            let slices = datagrams.iter_mut().map(|datagram| &mut datagram[..]);
            assert_eq!(open_datagrams(&theirs, slices, None, 0, 0), one_by_one);
            for ((datagram, copy), opened) in datagrams.iter().zip(&copies).zip(&one_by_one) {
                assert_eq!(datagram[opened.packet.clone()], copy[opened.packet.clone()]);
            }
        }
    }
}
