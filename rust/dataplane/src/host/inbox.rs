//! What a socket has, received in one go.
//!
//! One receive brings what one send or GRO made of a flow. Under load several wait, and the next often goes on
//! where the last ended: a superpacket of the far host does not fit one send, so it comes in two. Put together
//! they are opened in one go and become one superpacket again. Handshake messages in between are laid aside: a
//! flood of them would take that from the tunnels.

use super::{MOST_DATAGRAM, RECEIVES_A_TURN};
use crate::engine::{INITIATION_SIZE, Received, is_handshake};

/// Receives go on until so many octets are there to be opened.
const ENOUGH: usize = 192 * 1024;
/// Where what is laid aside begins.
const ASIDE: usize = ENOUGH + MOST_DATAGRAM;
/// No handshake message is longer.
const MOST_ASIDE: usize = INITIATION_SIZE;

/// Received and not yet dealt with.
pub struct Inbox {
    /// First the runs, and what they have no part of; then room for what is laid aside.
    buffer: Box<[u8]>,
    runs: Vec<(usize, Received)>,
    aside: Vec<(usize, Received)>,
}

impl Inbox {
    /// All memory that receiving takes.
    pub fn new() -> Self {
        Self {
            buffer: vec![0; ASIDE + RECEIVES_A_TURN * MOST_ASIDE].into(),
            runs: Vec::with_capacity(RECEIVES_A_TURN),
            aside: Vec::with_capacity(RECEIVES_A_TURN),
        }
    }

    /// Receive until there is nothing more, or enough. False: there was nothing.
    pub fn fill(&mut self, mut receive: impl FnMut(&mut [u8]) -> Option<Received>) -> bool {
        self.runs.clear();
        self.aside.clear();
        let mut at = 0;
        for _ in 0..RECEIVES_A_TURN {
            if at >= ENOUGH {
                break;
            }
            let Some(received) = receive(&mut self.buffer[at..at + MOST_DATAGRAM]) else { break };
            let is_one = received.length == received.segment_size;
            if is_one && is_handshake(&self.buffer[at..at + received.length]) {
                let place = ASIDE + self.aside.len() * MOST_ASIDE;
                self.buffer.copy_within(at..at + received.length, place);
                self.aside.push((place, received));
                continue;
            }
            match self.runs.last_mut() {
                Some((_, run)) if goes_on(run, &received) => run.length += received.length,
                _ => self.runs.push((at, received)),
            }
            at += received.length;
        }
        !self.runs.is_empty() || !self.aside.is_empty()
    }

    /// What was received: datagrams of one sender each, in order, and where they are; then handshake messages.
    pub fn runs(&mut self) -> impl Iterator<Item = (&mut [u8], &Received)> {
        let Self { buffer, runs, aside } = self;
        let mut rest = &mut buffer[..];
        let mut taken = 0;
        runs.iter().chain(&*aside).map(move |(start, run)| {
            let (octets, after) = std::mem::take(&mut rest)[start - taken..].split_at_mut(run.length);
            (rest, taken) = (after, start + run.length);
            (octets, run)
        })
    }
}

/// Whether two are one: all datagrams but the very last are of the same length.
fn goes_on(run: &Received, next: &Received) -> bool {
    let size = run.segment_size;
    let is_one = next.length == next.segment_size;
    size > 0
        && next.length > 0
        && run.length % size == 0
        && (next.segment_size == size || is_one && next.length < size)
        && (run.origin, run.tos) == (next.origin, next.tos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Origin;

    fn received(length: usize, segment_size: usize, number: u8, tos: u8) -> Received {
        let remote = ([192, 0, 2, number], 51820).into();
        Received { length, segment_size, origin: Origin { remote, local: None, interface_index: 1 }, tos }
    }

    /// What `all` come to: octets and size of each run.
    fn fill(all: &[Received]) -> Vec<(usize, usize)> {
        let (mut inbox, mut waiting, mut next) = (Inbox::new(), all.iter(), 0_u8);
        let mut runs = Vec::new();
        let mut seen = 0_u8;
        loop {
            let filled = inbox.fill(|buffer| {
                let received = waiting.next()?;
                assert!(buffer.len() >= MOST_DATAGRAM);
                buffer[..received.length].fill(next);
                next = next.wrapping_add(u8::from(received.length > 0));
                Some(*received)
            });
            if !filled {
                return runs;
            }
            for (octets, run) in inbox.runs() {
                assert_eq!(octets.len(), run.length);
                // Each of `all` lies where it belongs, in order.
                for octet in octets.chunk_by(|one, other| one == other).map(|each| each[0]) {
                    assert_eq!(octet, seen);
                    seen = seen.wrapping_add(1);
                }
                runs.push((run.length, run.segment_size));
            }
        }
    }

    #[test]
    fn what_goes_on_where_the_last_ended_is_one_run() {
        assert_eq!(fill(&[received(65_340, 1452, 1, 0), received(2904, 1452, 1, 0)]), [(68_244, 1452)]);
        assert_eq!(fill(&[received(100, 100, 1, 0); 3]), [(300, 100)]);
        assert_eq!(fill(&[received(200, 100, 1, 0), received(60, 60, 1, 0)]), [(260, 100)]);
        assert_eq!(fill(&[received(100, 100, 1, 0), received(230, 100, 1, 0)]), [(330, 100)]);
    }

    #[test]
    fn what_does_not_is_a_run_of_its_own() {
        let one = received(100, 100, 1, 0);
        let apart = [(100, 100), (100, 100)];
        assert_eq!(fill(&[one, received(100, 100, 2, 0)]), apart, "another sender");
        assert_eq!(fill(&[one, received(100, 100, 1, 3)]), apart, "another TOS");
        assert_eq!(fill(&[one, received(120, 120, 1, 0)]), [(100, 100), (120, 120)], "longer");
        assert_eq!(fill(&[one, received(120, 60, 1, 0)]), [(100, 100), (120, 60)], "several shorter ones");
        assert_eq!(fill(&[received(150, 100, 1, 0), one]), [(150, 100), (100, 100)], "ended by a short one");
        assert_eq!(fill(&[one, received(60, 60, 1, 0), one]), [(160, 100), (100, 100)]);
        assert_eq!(fill(&[received(0, 0, 1, 0), one, received(0, 0, 1, 0)]), [(0, 0), (100, 100), (0, 0)]);
    }

    #[test]
    fn handshake_messages_in_between_are_dealt_with_last_and_part_nothing() {
        let mut initiation = [9; INITIATION_SIZE];
        initiation[..4].copy_from_slice(&1_u32.to_le_bytes());
        let (of_flow, of_stranger) =
            (received(100, 100, 1, 0), received(INITIATION_SIZE, INITIATION_SIZE, 2, 0));
        let mut inbox = Inbox::new();
        for _ in 0..2 {
            let mut waiting = (0..RECEIVES_A_TURN + 10).map(|number| number % 2 == 1);
            assert!(inbox.fill(|buffer| {
                let is_stranger = waiting.next()?;
                let (octets, it) =
                    if is_stranger { (&initiation[..], of_stranger) } else { (&[4; 100][..], of_flow) };
                buffer[..octets.len()].copy_from_slice(octets);
                Some(it)
            }));
            let mut runs = inbox.runs();
            let (octets, run) = runs.next().unwrap();
            assert_eq!((octets.len(), run.length, run.origin), (3200, 3200, of_flow.origin));
            assert!(octets.iter().all(|&octet| octet == 4));
            for _ in 0..RECEIVES_A_TURN / 2 {
                let (octets, run) = runs.next().unwrap();
                assert_eq!(
                    (&*octets, run.length, run.origin),
                    (&initiation[..], octets.len(), of_stranger.origin)
                );
            }
            assert!(runs.next().is_none());
        }
        assert!(inbox.fill({
            let mut waiting = [()].into_iter();
            let initiation = &initiation;
            move |buffer| {
                waiting.next()?;
                buffer[..INITIATION_SIZE].copy_from_slice(initiation);
                Some(of_stranger)
            }
        }));
        assert_eq!(inbox.runs().count(), 1, "one alone is something");
    }

    #[test]
    fn one_go_is_bounded_and_the_rest_is_for_the_next() {
        let large = received(65_340, 1452, 1, 0);
        assert_eq!(fill(&[large; 7]), [(4 * 65_340, 1452), (3 * 65_340, 1452)]);
        assert_eq!(fill(&[received(100, 100, 1, 0); 100]), [(6400, 100), (3600, 100)]);
    }
}
