//! Receiving for an engine whose batches are Python's, during a flood: initiations of strangers are judged and
//! answered here, and what an engine has to see is all that it gets.

use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::AtomicU32;

use super::socket::UdpSocket;
use super::udp::Transmit;
use crate::engine::{Drop, FirstDefence, INITIATION_SIZE, Received, Verdict, is_initiation, is_wireguard};

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

/// Receive from a socket until there is something for the engine, and at most `most` datagrams that are not.
/// `depth`: as many handshake messages wait. `drops_garbage`: nothing but WireGuard is for the engine.
#[must_use]
#[expect(clippy::too_many_arguments, reason = "a call a batch, from one place")]
pub fn sift(
    fd: BorrowedFd<'_>,
    is_ipv6: bool,
    buffer: &mut [u8],
    defence: &mut FirstDefence,
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
        let is_one = received.length == received.segment_size;
        match buffer.get(..received.length).filter(|_| is_one) {
            Some(datagram) if is_initiation(datagram) => {}
            Some(datagram) if drops_garbage && !is_wireguard(datagram) => {
                sifted.keep(Drop::NotWireGuard);
                continue;
            }
            _ => {
                sifted.received = Some(received);
                break;
            }
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
                let sifted =
                    sift(socket.as_fd(), is_ipv6, &mut buffer, &mut defence, depth, now, drops_garbage, most);
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
