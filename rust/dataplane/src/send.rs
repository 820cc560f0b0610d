//! From packets to runs of transport messages.
//!
//! A [`Plan`] says, before an octet is copied, how many messages there will be and in what runs they go; then
//! each run is written, packet and padding at their place behind a header, into a buffer of the caller's, and
//! sealed there.

use crate::inner::outer_tos;
use crate::message::{HEADER_SIZE, TAG_SIZE, transport_size, write_header};
use crate::superpacket::Superpacket;

/// Octets of one run: what one UDP send takes over either family (65,535 less the headers), less one for a
/// sentinel datagram, which kernels that corrupt a run with a full last segment need.
pub const MAX_RUN_SIZE: usize = 65_486;

/// Messages for one send: all but the last of `segment_size` octets, and the last no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first message, counted from the beginning of the plan.
    pub first: usize,
    /// How many messages.
    pub count: usize,
    /// Octets of each message but the last.
    pub segment_size: usize,
    /// Octets in all.
    pub size: usize,
    /// The outer header's TOS.
    pub tos: u8,
}

struct Message {
    superpacket: usize,
    number: usize,
    /// Octets of the packet, not padded.
    length: usize,
}

/// What some packets for one peer come to.
pub struct Plan<'a> {
    superpackets: Vec<Superpacket<'a>>,
    messages: Vec<Message>,
    runs: Vec<Run>,
}

impl<'a> Plan<'a> {
    /// Lay packets out in order. At least one message goes into a run, whatever the limits.
    pub fn new(packets: impl IntoIterator<Item = Superpacket<'a>>, mtu: usize, max_segments: usize) -> Self {
        let mut plan = Self { superpackets: Vec::new(), messages: Vec::new(), runs: Vec::new() };
        // A run is open as long as a message may join it.
        let mut open = false;
        for superpacket in packets {
            let tos = outer_tos(superpacket.packet());
            for number in 0..superpacket.segment_count() {
                let length = superpacket.segment_length(number);
                let size = transport_size(length, mtu);
                match plan.runs.last_mut() {
                    Some(run)
                        if open
                            && size <= run.segment_size
                            && run.count < max_segments
                            && run.size + size <= MAX_RUN_SIZE
                            && run.tos == tos =>
                    {
                        run.count += 1;
                        run.size += size;
                        open = size == run.segment_size;
                    }
                    _ => {
                        let first = plan.messages.len();
                        plan.runs.push(Run { first, count: 1, segment_size: size, size, tos });
                        open = true;
                    }
                }
                plan.messages.push(Message { superpacket: plan.superpackets.len(), number, length });
            }
            plan.superpackets.push(superpacket);
        }
        plan
    }

    /// How many messages, and so how many counters.
    #[must_use]
    pub fn message_count(&self) -> usize {
        self.messages.len()
    }

    /// The runs, in order.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Write a run's messages to `out`, which has its size, ready to be sealed. `first_counter` is the
    /// plan's.
    pub fn write(&self, run: &Run, receiver_index: u32, first_counter: u64, out: &mut [u8]) {
        let messages = &self.messages[run.first..run.first + run.count];
        let counters = first_counter + run.first as u64..;
        for ((counter, message), out) in counters.zip(messages).zip(out.chunks_mut(run.segment_size)) {
            write_header(out, receiver_index, counter);
            let end = out.len() - TAG_SIZE;
            let (packet, padding) = out[HEADER_SIZE..end].split_at_mut(message.length);
            self.superpackets[message.superpacket].write_segment(message.number, packet);
            padding.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inner::{Inner, classify_untrusted};
    use crate::keypair::{Established, Keypair};
    use crate::message::{MIN_TRANSPORT_SIZE, counter_untrusted, receiver_index_untrusted};
    use crate::random::Random;

    fn packet(random: &mut Random, length: usize, ecn: u8) -> Vec<u8> {
        let mut packet = random.bytes(length.max(20));
        packet[0] = 0x45;
        packet[1] = ecn;
        let length = packet.len() as u16;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet
    }

    fn runs(lengths: &[usize], max_segments: usize) -> Vec<(usize, usize, usize)> {
        let packets: Vec<Vec<u8>> =
            lengths.iter().map(|&length| packet(&mut Random::new(0), length, 0)).collect();
        let plan = Plan::new(packets.iter().map(|packet| Superpacket::whole(packet)), 1420, max_segments);
        plan.runs().iter().map(|run| (run.count, run.segment_size, run.size)).collect()
    }

    #[test]
    fn a_run_is_of_equal_messages_but_for_a_shorter_last_one() {
        assert_eq!(runs(&[100, 100, 40], 64), [(3, 144, 368)]);
        assert_eq!(runs(&[100, 40, 100], 64), [(2, 144, 224), (1, 144, 144)]);
        assert_eq!(runs(&[40, 100, 100], 64), [(1, 80, 80), (2, 144, 288)]);
        assert_eq!(runs(&[100, 97, 101], 64), [(3, 144, 432)], "equal once padded");
        assert_eq!(runs(&[100, 40, 40], 64), [(2, 144, 224), (1, 80, 80)]);
        assert_eq!(runs(&[], 64), []);
    }

    #[test]
    fn a_run_keeps_to_the_limits_of_one_send() {
        assert_eq!(runs(&[100; 130], 64), [(64, 144, 9216), (64, 144, 9216), (2, 144, 288)]);
        assert_eq!(runs(&[100; 2], 1), [(1, 144, 144), (1, 144, 144)]);
        assert_eq!(runs(&[100; 2], 0), [(1, 144, 144), (1, 144, 144)]);
        assert_eq!(runs(&[1420; 46], 64), [(45, 1452, 65_340), (1, 1452, 1452)]);
    }

    #[test]
    fn a_run_has_one_tos() {
        let mut random = Random::new(9);
        let packets: Vec<Vec<u8>> = [0, 0, 2, 3, 1].iter().map(|&ecn| packet(&mut random, 64, ecn)).collect();
        let plan = Plan::new(packets.iter().map(|packet| Superpacket::whole(packet)), 1420, 64);
        let runs: Vec<(usize, u8)> = plan.runs().iter().map(|run| (run.count, run.tos)).collect();
        assert_eq!(runs, [(2, 0), (2, 2), (1, 1)]);
    }

    #[test]
    fn every_message_opens_to_its_packet_and_padding_of_zeros() {
        let mut random = Random::new(10);
        let established = |is_initiator| Established {
            local_index: 1,
            remote_index: 77,
            is_initiator,
            peer: 0,
            created_at: 0,
        };
        let (ours, theirs) =
            (Keypair::new(&[1; 32], established(true)), Keypair::new(&[1; 32], established(false)));
        let mut next_counter = 0;
        for _ in 0..50 {
            let packets: Vec<Vec<u8>> = (0..random.below(100))
                .map(|_| {
                    let length = random.below(1500) as usize;
                    packet(&mut random, length, 0)
                })
                .collect();
            let plan = Plan::new(packets.iter().map(|packet| Superpacket::whole(packet)), 1420, 64);
            assert_eq!(plan.message_count(), packets.len());
            let first_counter = ours.reserve_counters(plan.message_count(), 0).unwrap();
            let mut expected = packets.iter();
            for run in plan.runs() {
                let mut out = vec![0xee; run.size];
                plan.write(run, 77, first_counter, &mut out);
                assert!(ours.seal_run(first_counter + run.first as u64, &mut out, run.segment_size));
                assert_eq!(out.chunks(run.segment_size).count(), run.count);
                for message in out.chunks_mut(run.segment_size) {
                    let packet = expected.next().unwrap();
                    assert_eq!(receiver_index_untrusted(message), Some(77));
                    assert_eq!(counter_untrusted(message), next_counter);
                    assert_eq!(message.len(), transport_size(packet.len(), 1420));
                    assert!(theirs.receiver(0).unwrap().open(next_counter, &mut message[HEADER_SIZE..]));
                    let plain = &message[HEADER_SIZE..message.len() - TAG_SIZE];
                    assert_eq!(plain[..packet.len()], packet[..]);
                    assert!(plain[packet.len()..].iter().all(|&octet| octet == 0));
                    assert_eq!(classify_untrusted(plain), Inner::Ip(packet.len()));
                    next_counter += 1;
                }
            }
            assert!(expected.next().is_none());
        }
    }

    #[test]
    fn an_empty_packet_is_a_keepalive() {
        let plan = Plan::new([Superpacket::whole(&[])], 1420, 64);
        assert_eq!(plan.runs()[0].size, MIN_TRANSPORT_SIZE);
    }
}
