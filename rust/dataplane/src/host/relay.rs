//! A relay on a Linux host: one thread between the sockets, and the sockets alone.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::offload::Offload;
use super::poller::{Poller, WakeFd};
use super::udp::HostUdp;
use super::{BootClock, MOST_DATAGRAM, RECEIVES_A_TURN, THREAD_STACK};
use crate::engine::{Clock, Origin, Signal, Udp};
use crate::relay::{Forwarder, NodeAddress, Registration, Settings};

/// Registrations that wait to be judged; more are dropped, and their nodes ask again.
const MOST_WAITING: usize = 1024;
/// Octets asked for in each socket's queue, either way: the only queues there are.
const SOCKET_BUFFER: usize = 4 << 20;

/// Port and port of the other STUN address, with their sockets.
struct Sockets {
    main: HostUdp,
    main_port: u16,
    other: Option<(HostUdp, u16)>,
}

struct Shared {
    forwarder: Mutex<Forwarder>,
    sockets: Sockets,
    poller: Poller,
    waiting: Mutex<VecDeque<Registration>>,
    raised: WakeFd,
    is_closing: AtomicBool,
    has_failed: AtomicBool,
}

/// The relay and its thread.
pub struct HostRelay {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn lock<M>(mutex: &Mutex<M>) -> MutexGuard<'_, M> {
    // A panic ends the thread, and `has_failed` says so.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HostRelay {
    /// Listen on `port` of both families, 0 picks one, and for STUN on `other_port`, too, 0: nowhere else.
    ///
    /// # Errors
    ///
    /// The first port is taken, or the host has neither family, or no more threads.
    pub fn start(port: u16, other_port: u16, settings: Settings) -> io::Result<Self> {
        let wanted = Offload { tso: false, uso: false, gso: true, gro: true };
        let (main, main_port) = HostUdp::bind(port, 0, wanted, SOCKET_BUFFER)?;
        // The second port only tells NATs apart: without it a relay is one all the same.
        let other = (other_port != 0).then(|| HostUdp::bind(other_port, 0, wanted, 0).ok()).flatten();
        let sockets = Sockets { main, main_port, other };
        let poller = Poller::new()?;
        for (number, socket) in sockets.main.sockets().enumerate() {
            poller.add(socket.as_fd(), if sockets.main.socket(0).is_some() { number as u64 } else { 1 })?;
        }
        for socket in sockets.other.iter().flat_map(|(udp, _)| udp.sockets()) {
            poller.add(socket.as_fd(), 2)?;
        }
        let shared = Arc::new(Shared {
            forwarder: Mutex::new(Forwarder::new(settings)),
            sockets,
            poller,
            waiting: Mutex::default(),
            raised: WakeFd::new()?,
            is_closing: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
        });
        let of_thread = shared.clone();
        let thread = thread::Builder::new().name("wgpy-relay".into()).stack_size(THREAD_STACK);
        let thread = thread.spawn(move || of_thread.guard())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// The ports listened on.
    #[must_use]
    pub fn ports(&self) -> (u16, Option<u16>) {
        let sockets = &self.shared.sockets;
        (sockets.main_port, sockets.other.as_ref().map(|&(_, port)| port))
    }

    /// Readable while registrations wait, or when the thread has ended by a fault.
    #[must_use]
    pub fn raised_fd(&self) -> BorrowedFd<'_> {
        self.shared.raised.as_fd()
    }

    /// Registrations to be judged, oldest first. None: the thread met with a fault of its own.
    #[must_use]
    pub fn take_registrations(&self) -> Option<Vec<Registration>> {
        let mut waiting = lock(&self.shared.waiting);
        if self.shared.has_failed.load(Ordering::SeqCst) {
            return None;
        }
        self.shared.raised.clear();
        Some(waiting.drain(..).collect())
    }

    /// A node proved itself: its session. None: there is no room.
    #[must_use]
    pub fn admit(&self, node: NodeAddress, key: [u8; 32], origin: Origin) -> Option<u64> {
        lock(&self.shared.forwarder).admit(node, key, origin, BootClock.now())
    }

    /// End a node's session. False: it has none.
    pub fn remove(&self, node: &NodeAddress) -> bool {
        lock(&self.shared.forwarder).remove(node)
    }

    /// Send octets of our own.
    pub fn send(&self, datagram: &[u8], to: &Origin) {
        self.shared.sockets.main.send(datagram, datagram.len(), to.remote, Some(to), 0);
    }

    /// End sessions that were silent for too long; gives how many.
    pub fn expire(&self) -> usize {
        lock(&self.shared.forwarder).expire(BootClock.now())
    }

    /// Tell all nodes to use another relay.
    pub fn drain(&self) {
        lock(&self.shared.forwarder).drain(&self.shared.sockets.main);
    }

    /// What was done so far, by name, with how many sessions there are and what the kernel threw away.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let (counts, sessions) = lock(&self.shared.forwarder).counts();
        let overflows = self.shared.sockets.main.overflows();
        counts
            .named()
            .into_iter()
            .chain([("sessions", sessions as u64), ("not read in time", overflows)])
            .collect()
    }

    /// End the thread and close the sockets.
    pub fn close(&self) {
        self.shared.is_closing.store(true, Ordering::SeqCst);
        self.shared.poller.wake();
        if let Some(thread) = lock(&self.thread).take() {
            // A panic was told.
            let _ = thread.join();
        }
    }
}

impl Drop for HostRelay {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn guard(&self) {
        let ended = catch_unwind(AssertUnwindSafe(|| self.run()));
        if !matches!(ended, Ok(Ok(()))) {
            self.has_failed.store(true, Ordering::SeqCst);
            self.raised.raise();
        }
    }

    fn run(&self) -> io::Result<()> {
        let mut buffer: Box<[u8]> = vec![0; MOST_DATAGRAM + 1].into();
        while !self.is_closing.load(Ordering::SeqCst) {
            for number in self.poller.wait()? {
                if number < 2 {
                    let other = self.sockets.other.as_ref().map(|&(_, port)| port);
                    self.receive(&self.sockets.main, number..number + 1, other, &mut buffer);
                } else if let Some((udp, _)) = &self.sockets.other {
                    self.receive(udp, 0..2, Some(self.sockets.main_port), &mut buffer);
                }
            }
        }
        Ok(())
    }

    fn receive(&self, udp: &HostUdp, numbers: std::ops::Range<u64>, other: Option<u16>, buffer: &mut [u8]) {
        let mut forwarder = lock(&self.forwarder);
        let mut judge = |registration| {
            let mut waiting = lock(&self.waiting);
            if waiting.len() < MOST_WAITING {
                waiting.push_back(registration);
                self.raised.raise();
            }
        };
        for socket in numbers.filter_map(|number| udp.socket(number)) {
            for _ in 0..RECEIVES_A_TURN {
                let Some(received) = socket.receive(buffer) else { break };
                forwarder.received(udp, buffer, &received, other, BootClock.now(), &mut judge);
            }
        }
    }
}
