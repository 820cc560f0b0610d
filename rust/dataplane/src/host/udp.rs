//! The UDP sockets of an interface: both families on one port, sticky source, and many datagrams a call.
//!
//! A source address that the host does not have any more is left out, once it proved so. A send of many that
//! the device refuses (EIO) is not tried again on that socket; one that does not fit the way to a peer
//! (EMSGSIZE, EINVAL) is not tried again for that endpoint until routes change.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::offload::{Offload, equal_tail_is_corrupted, kernel_release};
use super::socket::UdpSocket;
use crate::engine::{Origin, Udp};

/// How often a free port is looked for that both families have.
const BIND_ATTEMPTS: usize = 100;
/// Endpoints and sources that something is known of, at most.
const MOST_LEARNED: usize = 4096;

/// One call of the kernel.
pub trait Transmit: Send + Sync {
    /// Send `run` and `sentinel` as one, in datagrams of `segment_size`; 0: as one datagram.
    ///
    /// # Errors
    ///
    /// The errno.
    fn transmit(
        &self,
        run: &[u8],
        sentinel: &[u8],
        segment_size: usize,
        to: SocketAddr,
        source: Option<&Origin>,
        tos: u8,
    ) -> Result<(), libc::c_int>;
}

/// What routes and devices have taught.
#[derive(Default)]
struct Learned {
    without_gso: HashSet<SocketAddr>,
    stale_sources: HashSet<Origin>,
}

/// A socket, and whether it still sends many datagrams by one call.
struct Family<S> {
    socket: S,
    gso: AtomicBool,
}

/// Both sockets, or the one of the family that the host has.
pub struct Sockets<S> {
    v4: Option<Family<S>>,
    v6: Option<Family<S>>,
    learned: Mutex<Learned>,
    has_learned: AtomicBool,
    pads_tail: bool,
}

/// The host's.
pub type HostUdp = Sockets<UdpSocket>;

/// What a source address that we no longer have comes to, by family and kernel.
fn is_source_error(error: libc::c_int) -> bool {
    matches!(error, libc::EINVAL | libc::EADDRNOTAVAIL | libc::ENETUNREACH | libc::EHOSTUNREACH)
}

impl HostUdp {
    /// A socket for each family the host has, all on one port; 0 picks one. Gives the port, too.
    ///
    /// # Errors
    ///
    /// The port is taken, or the host has neither family.
    pub fn bind(port: u16, mark: u32, wanted: Offload, buffer: usize) -> io::Result<(Self, u16)> {
        let bind = |is_ipv6, port| match UdpSocket::bind(is_ipv6, port, mark, wanted, buffer) {
            Ok(socket) => Ok(Some(socket)),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
                Ok(None)
            }
            Err(error) => Err(error),
        };
        let mut attempt = 1;
        loop {
            let v4 = bind(false, port)?;
            let chosen = v4.as_ref().map_or(Ok(port), UdpSocket::port)?;
            let v6 = match bind(true, chosen) {
                // Another program has this port in IPv6 only.
                Err(error)
                    if port == 0 && error.kind() == io::ErrorKind::AddrInUse && attempt < BIND_ATTEMPTS =>
                {
                    attempt += 1;
                    continue;
                }
                other => other?,
            };
            let chosen = match (&v4, &v6) {
                (None, None) => return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
                (None, Some(v6)) => v6.port()?,
                _ => chosen,
            };
            let family = |socket: UdpSocket| Family { gso: AtomicBool::new(socket.gso), socket };
            let pads_tail = equal_tail_is_corrupted(&kernel_release());
            return Ok((Self::new(v4.map(family), v6.map(family), pads_tail), chosen));
        }
    }

    /// Both, IPv4 first.
    pub fn sockets(&self) -> impl Iterator<Item = &UdpSocket> {
        self.families().map(|family| &family.socket)
    }

    /// One of them by its place among both.
    #[must_use]
    pub fn socket(&self, number: u64) -> Option<&UdpSocket> {
        let family = if number == 0 { &self.v4 } else { &self.v6 };
        family.as_ref().map(|family| &family.socket)
    }

    /// Mark what the sockets send; 0: do not.
    ///
    /// # Errors
    ///
    /// It takes CAP_NET_ADMIN.
    pub fn set_mark(&self, mark: u32) -> io::Result<()> {
        self.sockets().try_for_each(|socket| socket.set_mark(mark))
    }

    /// Whether runs are sent, and received, by one call on all sockets.
    #[must_use]
    pub fn offloads(&self) -> (bool, bool) {
        let gso = self.families().all(|family| family.gso.load(Ordering::Relaxed));
        (gso, self.sockets().all(|socket| socket.gro))
    }

    /// Datagrams that the kernel threw away because nobody read them in time.
    #[must_use]
    pub fn overflows(&self) -> u64 {
        self.sockets().map(|socket| u64::from(socket.overflows())).sum()
    }
}

impl<S: Transmit> Sockets<S> {
    fn new(v4: Option<Family<S>>, v6: Option<Family<S>>, pads_tail: bool) -> Self {
        Self { v4, v6, learned: Mutex::default(), has_learned: AtomicBool::new(false), pads_tail }
    }

    fn families(&self) -> impl Iterator<Item = &Family<S>> {
        self.v4.iter().chain(&self.v6)
    }

    fn learned(&self) -> Option<MutexGuard<'_, Learned>> {
        self.has_learned.load(Ordering::Relaxed).then(|| self.learn())
    }

    fn learn(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An origin was heard from: its local address is ours.
    pub fn note_origin(&self, origin: &Origin) {
        if let Some(mut learned) = self.learned() {
            learned.stale_sources.remove(origin);
        }
    }

    fn send_one(
        &self,
        socket: &S,
        datagram: &[u8],
        to: SocketAddr,
        source: Option<&Origin>,
        tos: u8,
    ) -> bool {
        match socket.transmit(datagram, &[], 0, to, source, tos) {
            Ok(()) => true,
            Err(error) if is_source_error(error) => {
                let Some(source) = source else { return false };
                let left = socket.transmit(datagram, &[], 0, to, None, tos).is_ok();
                if left {
                    let mut learned = self.learn();
                    if learned.stale_sources.len() >= MOST_LEARNED {
                        learned.stale_sources.clear();
                    }
                    learned.stale_sources.insert(*source);
                    self.has_learned.store(true, Ordering::Relaxed);
                }
                left
            }
            Err(_) => false,
        }
    }
}

impl<S: Transmit> Udp for Sockets<S> {
    fn send(
        &self,
        run: &[u8],
        segment_size: usize,
        to: SocketAddr,
        source: Option<&Origin>,
        tos: u8,
    ) -> usize {
        let family = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        let Some(Family { socket, gso: socket_gso }) = family else { return 0 };
        let (mut source, mut gso) = (source, socket_gso.load(Ordering::Relaxed));
        if let Some(learned) = self.learned() {
            source = source.filter(|source| !learned.stale_sources.contains(source));
            gso &= !learned.without_gso.contains(&to);
        }
        let mut failure = 0;
        if run.len() > segment_size && gso {
            let sentinel: &[u8] = if self.pads_tail && run.len() % segment_size == 0 { &[0] } else { &[] };
            match socket.transmit(run, sentinel, segment_size, to, source, tos) {
                Ok(()) => return run.len(),
                Err(libc::EAGAIN | libc::ENOBUFS) => return 0,
                Err(error) => failure = error,
            }
        }
        let mut sent = 0;
        for datagram in run.chunks(segment_size.max(1)) {
            if self.send_one(socket, datagram, to, source, tos) {
                sent += datagram.len();
            }
        }
        if failure == libc::EIO {
            socket_gso.store(false, Ordering::Relaxed);
        }
        if matches!(failure, libc::EMSGSIZE | libc::EINVAL) && sent > 0 {
            let mut learned = self.learn();
            // It was the source that was refused, not the run.
            if source.is_none_or(|source| !learned.stale_sources.contains(source)) {
                if learned.without_gso.len() >= MOST_LEARNED {
                    learned.without_gso.clear();
                }
                learned.without_gso.insert(to);
                self.has_learned.store(true, Ordering::Relaxed);
            }
        }
        sent
    }

    fn forget_routes(&self) {
        *self.learn() = Learned::default();
        self.has_learned.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that refuses what it is told to, and remembers what it was asked: octets, segment size,
    /// whether from a source, the sentinel's octets.
    #[derive(Default)]
    struct Kernel {
        asked: Mutex<Vec<(usize, usize, bool, usize)>>,
        refuses_runs: Mutex<Option<libc::c_int>>,
        refuses_sources: Mutex<Option<libc::c_int>>,
    }

    impl Transmit for &Kernel {
        fn transmit(
            &self,
            run: &[u8],
            sentinel: &[u8],
            segment_size: usize,
            _to: SocketAddr,
            source: Option<&Origin>,
            _tos: u8,
        ) -> Result<(), libc::c_int> {
            self.asked.lock().unwrap().push((run.len(), segment_size, source.is_some(), sentinel.len()));
            let by_source = self.refuses_sources.lock().unwrap().filter(|_| source.is_some());
            let by_size = self.refuses_runs.lock().unwrap().filter(|_| segment_size > 0);
            by_source.or(by_size).map_or(Ok(()), Err)
        }
    }

    impl Kernel {
        fn sockets(&self, pads_tail: bool) -> Sockets<&Self> {
            let family = || Some(Family { socket: self, gso: AtomicBool::new(true) });
            Sockets::new(family(), family(), pads_tail)
        }

        fn asked(&self) -> Vec<(usize, usize, bool, usize)> {
            std::mem::take(&mut *self.asked.lock().unwrap())
        }
    }

    fn endpoint(number: u8) -> SocketAddr {
        ([192, 0, 2, number], 51820).into()
    }

    fn origin(number: u8) -> Origin {
        Origin { remote: endpoint(number), local: Some([10, 0, 0, 1].into()), interface_index: 1 }
    }

    const ALONE: (usize, usize, bool, usize) = (100, 0, false, 0);

    #[test]
    fn a_run_that_the_device_refuses_ends_runs_on_that_socket_for_good() {
        let kernel = Kernel::default();
        let sockets = kernel.sockets(false);
        *kernel.refuses_runs.lock().unwrap() = Some(libc::EIO);
        assert_eq!(sockets.send(&[0; 250], 100, endpoint(1), None, 0), 250, "sent all the same");
        assert_eq!(kernel.asked(), [(250, 100, false, 0), ALONE, ALONE, (50, 0, false, 0)]);
        *kernel.refuses_runs.lock().unwrap() = None;
        sockets.forget_routes();
        sockets.send(&[0; 200], 100, endpoint(2), None, 0);
        assert_eq!(kernel.asked(), [ALONE, ALONE]);
        let other = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 51820));
        sockets.send(&[0; 200], 100, other, None, 0);
        assert_eq!(kernel.asked(), [(200, 100, false, 0)], "the other family's socket goes on");
    }

    #[test]
    fn a_run_that_does_not_fit_the_way_ends_runs_to_that_endpoint_until_routes_change() {
        for failure in [libc::EMSGSIZE, libc::EINVAL] {
            let kernel = Kernel::default();
            let sockets = kernel.sockets(false);
            *kernel.refuses_runs.lock().unwrap() = Some(failure);
            assert_eq!(sockets.send(&[0; 200], 100, endpoint(1), None, 0), 200);
            *kernel.refuses_runs.lock().unwrap() = None;
            kernel.asked();
            sockets.send(&[0; 200], 100, endpoint(1), None, 0);
            sockets.send(&[0; 200], 100, endpoint(2), None, 0);
            assert_eq!(kernel.asked(), [ALONE, ALONE, (200, 100, false, 0)]);
            sockets.forget_routes();
            sockets.send(&[0; 200], 100, endpoint(1), None, 0);
            assert_eq!(kernel.asked(), [(200, 100, false, 0)]);
        }
    }

    #[test]
    fn a_full_queue_drops_the_run_and_teaches_nothing() {
        let kernel = Kernel::default();
        let sockets = kernel.sockets(false);
        *kernel.refuses_runs.lock().unwrap() = Some(libc::EAGAIN);
        assert_eq!(sockets.send(&[0; 200], 100, endpoint(1), None, 0), 0);
        *kernel.refuses_runs.lock().unwrap() = None;
        sockets.send(&[0; 200], 100, endpoint(1), None, 0);
        assert_eq!(kernel.asked(), [(200, 100, false, 0), (200, 100, false, 0)]);
    }

    #[test]
    fn a_source_that_the_host_lost_is_left_out_until_it_is_heard_at_again() {
        for failure in [libc::EINVAL, libc::EADDRNOTAVAIL, libc::ENETUNREACH, libc::EHOSTUNREACH] {
            let kernel = Kernel::default();
            let sockets = kernel.sockets(false);
            *kernel.refuses_sources.lock().unwrap() = Some(failure);
            assert_eq!(sockets.send(&[0; 200], 100, endpoint(1), Some(&origin(1)), 0), 200);
            kernel.asked();
            assert_eq!(sockets.send(&[0; 200], 100, endpoint(1), Some(&origin(1)), 0), 200);
            assert_eq!(kernel.asked(), [(200, 100, false, 0)], "of runs nothing was learned");
            *kernel.refuses_sources.lock().unwrap() = None;
            sockets.note_origin(&origin(1));
            sockets.send(&[0; 200], 100, endpoint(1), Some(&origin(1)), 0);
            assert_eq!(kernel.asked(), [(200, 100, true, 0)]);
        }
    }

    #[test]
    fn where_an_equal_tail_is_corrupted_a_datagram_of_one_octet_is_appended() {
        let kernel = Kernel::default();
        let sockets = kernel.sockets(true);
        for (length, sentinel) in [(200, 1), (250, 0), (6400, 1)] {
            assert_eq!(sockets.send(&vec![0; length], 100, endpoint(1), None, 0), length);
            assert_eq!(kernel.asked(), [(length, 100, false, sentinel)]);
        }
        sockets.send(&[0; 100], 100, endpoint(1), None, 0);
        assert_eq!(kernel.asked(), [ALONE]);
    }

    #[test]
    fn what_was_learned_is_bounded() {
        let kernel = Kernel::default();
        let sockets = kernel.sockets(false);
        *kernel.refuses_runs.lock().unwrap() = Some(libc::EMSGSIZE);
        for port in 1..=2 * MOST_LEARNED as u16 {
            sockets.send(&[0; 200], 100, ([192, 0, 2, 1], port).into(), None, 0);
        }
        assert!(sockets.learn().without_gso.len() <= MOST_LEARNED);
    }
}
