//! Receiving for an engine whose batches are Python's, during a flood: initiations of strangers are judged and
//! answered here, what can only be dropped is dropped, and what an engine has to see is all that it gets.

use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::AtomicU32;

use super::socket::UdpSocket;
use super::udp::Transmit;
use crate::engine::{
    Drop, FirstDefence, INITIATION_SIZE, Received, Verdict, handshake_receiver_untrusted, is_initiation,
    is_wireguard,
};
use crate::message::{counter_untrusted, receiver_index_untrusted};

/// What an engine knows of the indices that messages carry.
pub trait Known {
    /// Whether a handshake or a keypair has it.
    fn has_index(&self, index: u32) -> bool;
    /// Whether transport data to it would be dropped: no keypair has the index, or has received the counter.
    fn why_dropped(&self, index: u32, counter: u64) -> Option<Drop>;
}

/// What one call came to.
#[derive(Default)]
pub struct Sifted {
    /// Datagrams for the engine, the buffer's first octets. None: nothing more is there, or `kept` is what was
    /// asked for.
    pub received: Option<Received>,
    /// Whether they are one initiation that has passed.
    pub is_judged: bool,
    /// Why datagrams were kept from the engine, and how many.
    pub kept: Vec<(Drop, usize)>,
    /// Datagrams that the kernel threw away because nobody read them in time, since the socket was opened. 0: it
    /// said nothing of it.
    pub overflows: u32,
}

impl Sifted {
    fn keep(&mut self, reason: Drop) {
        match self.kept.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, count)) => *count += 1,
            None => self.kept.push((reason, 1)),
        }
    }
}

/// Why one datagram that is no initiation is nothing for the engine.
fn why_dropped(datagram: &[u8], known: &impl Known, drops_garbage: bool) -> Option<Drop> {
    if let Some(index) = receiver_index_untrusted(datagram) {
        return known.why_dropped(index, counter_untrusted(datagram));
    }
    if let Some(index) = handshake_receiver_untrusted(datagram) {
        return (!known.has_index(index)).then_some(Drop::UnknownIndex);
    }
    (drops_garbage && !is_wireguard(datagram)).then_some(Drop::NotWireGuard)
}

/// Receive from a socket until there is something for the engine, and at most `most` datagrams that are not.
/// `depth`: as many handshake messages wait. `drops_garbage`: nothing but WireGuard is for the engine.
#[must_use]
#[expect(clippy::too_many_arguments, reason = "a call a batch, from one place")]
pub fn sift(
    fd: BorrowedFd<'_>,
    is_ipv6: bool,
    buffer: &mut [u8],
    defence: &mut FirstDefence,
    known: &impl Known,
    depth: usize,
    now: u64,
    drops_garbage: bool,
    most: usize,
) -> Sifted {
    // SAFETY: the descriptor is open for as long as it is borrowed, and is not closed by us: what owns it here is
    // never dropped.
    let fd = unsafe { OwnedFd::from_raw_fd(fd.as_raw_fd()) };
    let socket =
        ManuallyDrop::new(UdpSocket { fd, is_ipv6, gso: false, gro: false, overflows: AtomicU32::new(0) });
    let mut sifted = Sifted::default();
    for _ in 0..most {
        let Some(received) = socket.receive(buffer) else { break };
        let one = buffer.get(..received.length).filter(|_| received.length == received.segment_size);
        if !one.is_some_and(is_initiation) {
            if let Some(reason) = one.and_then(|datagram| why_dropped(datagram, known, drops_garbage)) {
                sifted.keep(reason);
                continue;
            }
            sifted.received = Some(received);
            break;
        }
        let origin = &received.origin;
        match defence.judge(&buffer[..INITIATION_SIZE], origin.remote, depth, now) {
            Verdict::Pass => {
                sifted.received = Some(received);
                sifted.is_judged = true;
                break;
            }
            Verdict::Drop(reason) => sifted.keep(reason),
            Verdict::CookieReply(reply) => {
                // One that does not leave is lost, as on the way: its sender tries again.
                let _ = socket.transmit(&reply, &[], 0, origin.remote, Some(origin), 0);
                sifted.keep(Drop::UnderLoad);
            }
        }
    }
    sifted.overflows = socket.overflows();
    sifted
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket as StdSocket};
    use std::os::fd::AsFd;

    use super::*;
    use crate::engine::tests::{MAC1_KEY, initiation};
    use crate::host::Offload;

    const SECOND: u64 = 1_000_000_000;

    /// A handshake has index 1, a keypair index 2, which has received what is below 10.
    struct Two;

    impl Known for Two {
        fn has_index(&self, index: u32) -> bool {
            [1, 2].contains(&index)
        }

        fn why_dropped(&self, index: u32, counter: u64) -> Option<Drop> {
            match index {
                2 => (counter < 10).then_some(Drop::Replayed),
                _ => Some(Drop::UnknownIndex),
            }
        }
    }

    #[test]
    fn what_is_for_nobody_or_was_here_before_is_dropped() {
        let message = |kind: u32, words: [u32; 3], size| {
            let mut message = vec![0; size];
            for (place, word) in [kind].iter().chain(&words).enumerate() {
                message[place * 4..][..4].copy_from_slice(&word.to_le_bytes());
            }
            message
        };
        for (datagram, expected) in [
            (message(4, [2, 10, 0], 32), None),
            (message(4, [2, 9, 0], 32), Some(Drop::Replayed)),
            (message(4, [2, 9, 1], 1400), None),
            (message(4, [1, 10, 0], 32), Some(Drop::UnknownIndex)),
            (message(4, [3, 10, 0], 1400), Some(Drop::UnknownIndex)),
            // Too short for its header: the engine counts it.
            (message(4, [3, 10, 0], 31), None),
            (message(2, [9, 1, 0], 92), None),
            (message(2, [1, 9, 0], 92), Some(Drop::UnknownIndex)),
            (message(3, [2, 9, 9], 64), None),
            (message(3, [9, 2, 2], 64), Some(Drop::UnknownIndex)),
            (message(3, [2, 2, 2], 63), Some(Drop::NotWireGuard)),
            (message(5, [2, 2, 2], 64), Some(Drop::NotWireGuard)),
            (vec![], Some(Drop::NotWireGuard)),
        ] {
            assert_eq!(why_dropped(&datagram, &Two, true), expected, "{datagram:?}");
            let expected = expected.filter(|&reason| reason != Drop::NotWireGuard);
            assert_eq!(why_dropped(&datagram, &Two, false), expected, "{datagram:?}");
        }
    }

    #[test]
    fn initiations_are_answered_here_and_all_else_comes_out() {
        let wanted = Offload { tso: false, uso: false, gso: true, gro: true };
        for (is_ipv6, loopback) in
            [(false, Ipv4Addr::LOCALHOST.into()), (true, std::net::IpAddr::from(Ipv6Addr::LOCALHOST))]
        {
            let socket = UdpSocket::bind(is_ipv6, 0, 0, wanted, 1 << 20).unwrap();
            let port = socket.port().unwrap();
            let stranger = StdSocket::bind((loopback, 0)).unwrap();
            stranger.connect((loopback, port)).unwrap();
            let mut defence = FirstDefence::default();
            defence.set_identity(Some((&MAC1_KEY, &[2; 32])));
            let message = initiation(None);
            let mut forged = message.clone();
            forged[116] ^= 1;
            let now = 1000 * SECOND;
            let mut buffer = vec![0; 65_536];
            let mut sift = |depth, drops_garbage, most| {
                let fd = socket.as_fd();
                let sifted =
                    sift(fd, is_ipv6, &mut buffer, &mut defence, &Two, depth, now, drops_garbage, most);
                (sifted.received.map(|it| buffer[..it.length].to_vec()), sifted.is_judged, sifted.kept)
            };
            // It passes while there is no load.
            stranger.send(&message).unwrap();
            assert_eq!(sift(0, false, 64), (Some(message.to_vec()), true, vec![]));
            // Under load strangers are answered, and what comes after them comes out.
            for datagram in
                [&message[..], &forged, &message, b"something else, four octets and more", &message]
            {
                stranger.send(datagram).unwrap();
            }
            let kept = vec![(Drop::UnderLoad, 2), (Drop::InvalidMac1, 1)];
            let other = b"something else, four octets and more".to_vec();
            assert_eq!(sift(4096, false, 64), (Some(other), false, kept));
            assert_eq!(sift(4096, false, 64), (None, false, vec![(Drop::UnderLoad, 1)]));
            for _ in 0..3 {
                let mut reply = [0; 100];
                assert_eq!((stranger.recv(&mut reply).unwrap(), reply[0]), (64, 3));
            }
            stranger.send(b"something else, four octets and more").unwrap();
            assert_eq!(sift(0, true, 64), (None, false, vec![(Drop::NotWireGuard, 1)]));
            // Others get their turn.
            (0..5).for_each(|_| assert_eq!(stranger.send(&message).unwrap(), INITIATION_SIZE));
            assert_eq!(sift(4096, true, 4), (None, false, vec![(Drop::UnderLoad, 4)]));
            // The socket is still open, and still the caller's.
            assert_eq!(socket.port().unwrap(), port);
        }
    }
}
