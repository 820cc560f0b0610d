//! The engine on a Linux host: two threads between the TUN and the sockets.
//!
//! One thread reads the TUN and sends, the other receives and writes the TUN: the two ways share nothing that
//! is written for each packet. Each holds the engine's lock for reading while it deals with a batch, and
//! waits in epoll, without a timeout, when there is nothing. Nobody holds a descriptor but the engine's
//! tables, so a command that closes one has closed it when it returns.

mod calls;
mod clock;
mod control;
#[cfg(test)]
mod faults;
mod inbox;
mod offload;
mod poller;
mod relay;
mod socket;
mod strangers;
mod tun;
mod udp;

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use clock::BootClock;
pub use offload::{Offload, equal_tail_is_corrupted};
pub use poller::WakeFd;
pub use relay::HostRelay;
pub use strangers::{Known, Sifted, sift};
pub use tun::HostTun;
pub use udp::HostUdp;

use crate::coalesce::Protocols;
use crate::engine::{Engine, Outbox};
use crate::virtio;
use inbox::Inbox;
use poller::Poller;

/// The longest read of a TUN.
const MOST_PACKET: usize = 65_535 + virtio::HEADER_SIZE;
/// Reads go on until so many octets are there to be sent: more would only wait.
const BATCH_OCTETS: usize = 48 * 1024;
/// Packets of a batch; small ones of one flow leave by one send.
const BATCH_PACKETS: usize = 128;
const MOST_DATAGRAM: usize = 65_535;
/// Receives in one go; many small datagrams do not keep the other socket waiting.
const RECEIVES_A_TURN: usize = 64;
/// How often a socket is asked for more before the poller is asked for the other.
const FILLS_A_TURN: usize = 16;
/// Datagrams that one send takes (UDP_MAX_SEGMENTS of kernels before 6.9).
const MAX_SEGMENTS: usize = 64;
/// Reads of the TUN that may fail one after the other, with ever longer pauses, before it counts as gone.
const READ_FAILURES_IN_A_ROW: u32 = 100;
const THREAD_STACK: usize = 256 * 1024;

/// What memory the engine may use.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Octets of packets that wait for keys, all peers together.
    pub staged_octets: usize,
    /// Octets asked for in each socket's queue, either way.
    pub socket_buffer: usize,
}

type Joined = Engine<BootClock, HostUdp, HostTun>;

struct Shared {
    engine: Joined,
    sending: Poller,
    receiving: Poller,
    is_closing: AtomicBool,
}

/// The engine and its threads.
pub struct HostEngine {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    events: WakeFd,
    wanted: Offload,
    limits: Limits,
}

impl HostEngine {
    /// No thread runs yet.
    ///
    /// # Errors
    ///
    /// No descriptors are left.
    pub fn new(wanted: Offload, limits: Limits) -> io::Result<Self> {
        let events = WakeFd::new()?;
        let engine = Engine::new(BootClock, Box::new(events.try_clone()?), limits.staged_octets);
        let shared = Shared {
            engine,
            sending: Poller::new()?,
            receiving: Poller::new()?,
            is_closing: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared), threads: Mutex::default(), events, wanted, limits })
    }

    /// For the seam's commands.
    #[must_use]
    pub fn engine(&self) -> &Joined {
        &self.shared.engine
    }

    /// Readable while there are events.
    #[must_use]
    pub fn events_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Move packets from now on.
    ///
    /// # Errors
    ///
    /// The host gives no thread.
    pub fn start(&self) -> io::Result<()> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if !threads.is_empty() || self.shared.is_closing.load(Ordering::SeqCst) {
            return Ok(());
        }
        for (name, run) in [("wgpy-send", Shared::send as fn(&Shared)), ("wgpy-receive", Shared::receive)] {
            let shared = self.shared.clone();
            let guarded = move || shared.guard(name, run);
            let thread = thread::Builder::new().name(name.into()).stack_size(THREAD_STACK);
            threads.push(thread.spawn(guarded)?);
        }
        Ok(())
    }

    /// Take the TUN. Its descriptor stays the caller's to close. Gives the offloads agreed on.
    ///
    /// # Errors
    ///
    /// It is no descriptor.
    pub fn open(&self, tun: BorrowedFd<'_>, mtu: usize, vnet_hdr: bool) -> io::Result<Offload> {
        let tun = HostTun::duplicate(tun)?;
        let none = Offload { tso: false, uso: false, ..self.wanted };
        let found = if vnet_hdr { tun.set_offload(self.wanted) } else { none };
        let mut tables = self.shared.engine.write();
        if let Some(former) = tables.tun.take() {
            self.shared.sending.remove(former.as_fd());
        }
        self.shared.sending.add(tun.as_fd(), 0)?;
        tables.tun = Some(tun);
        tables.mtu = mtu;
        tables.vnet_hdr = vnet_hdr;
        tables.joins = Protocols { tcp: found.tso, udp: found.uso };
        Ok(found)
    }

    /// Open the sockets, both families on one port; 0 picks one. Gives the port.
    ///
    /// # Errors
    ///
    /// The port is taken, or the host has neither family. There are no sockets then.
    pub fn bind(&self, port: u16, mark: u32) -> io::Result<u16> {
        let engine = &self.shared.engine;
        engine.unbind();
        let (udp, port) = HostUdp::bind(port, mark, self.wanted, self.limits.socket_buffer)?;
        engine.set_udp(udp, port, MAX_SEGMENTS);
        let tables = engine.read();
        for number in 0..2 {
            if let Some(socket) = tables.udp.as_ref().and_then(|udp| udp.socket(number)) {
                self.shared.receiving.add(socket.as_fd(), number)?;
            }
        }
        Ok(port)
    }

    /// Mark what the sockets send.
    ///
    /// # Errors
    ///
    /// It takes CAP_NET_ADMIN.
    pub fn set_mark(&self, mark: u32) -> io::Result<()> {
        let marked = self.engine().read().udp.as_ref().map_or(Ok(()), |udp| udp.set_mark(mark));
        self.engine().forget_source(None);
        marked
    }

    /// End the threads, close the sockets, let go of the TUN, wipe all keys.
    pub fn close(&self) {
        self.shared.is_closing.store(true, Ordering::SeqCst);
        self.shared.sending.wake();
        self.shared.receiving.wake();
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A panic was told as an event.
            let _ = thread.join();
        }
        self.shared.engine.unbind();
        self.shared.drop_tun();
        self.shared.engine.wipe();
    }
}

impl Drop for HostEngine {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// A thread that fails ends the engine, not silently.
    fn guard(&self, name: &str, run: fn(&Self)) {
        if catch_unwind(AssertUnwindSafe(|| run(self))).is_err() {
            self.engine.events.put_failure(format!("its thread {name} met with a fault of its own"));
        }
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }

    fn drop_tun(&self) {
        let mut tables = self.engine.write();
        if let Some(tun) = tables.tun.take() {
            self.sending.remove(tun.as_fd());
        }
    }

    fn fail(&self, reason: String) {
        self.drop_tun();
        self.engine.events.put_failure(reason);
    }

    /// From the TUN to the sockets.
    fn send(&self) {
        let mut buffer: Box<[u8]> = vec![0; BATCH_OCTETS + MOST_PACKET].into();
        let mut packets = Vec::with_capacity(BATCH_PACKETS);
        let mut outbox = Outbox::new();
        let mut failures = ReadFailures::default();
        while !self.is_closing() {
            let read = {
                let tables = self.engine.read();
                let read = match &tables.tun {
                    Some(tun) => read_batch(tun, &mut buffer, &mut packets),
                    None => Err(io::ErrorKind::WouldBlock.into()),
                };
                if !packets.is_empty() {
                    failures = ReadFailures::default();
                    self.engine.host_sent(&tables, &buffer, &packets, &mut outbox);
                }
                read
            };
            match read {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = self.sending.wait() {
                        return self.fail(format!("it cannot wait for the TUN device: {error}"));
                    }
                }
                Err(error) => match failures.pause_after(&error) {
                    Some(pause) => thread::sleep(pause),
                    None => self.fail(format!("the TUN device is gone: {error}")),
                },
            }
        }
    }

    /// From the sockets to the TUN.
    fn receive(&self) {
        let mut inbox = Inbox::new();
        while !self.is_closing() {
            let ready = match self.receiving.wait() {
                Ok(ready) => ready,
                Err(error) => return self.fail(format!("it cannot wait for the sockets: {error}")),
            };
            for number in ready {
                for _ in 0..FILLS_A_TURN {
                    if !self.receive_from(number, &mut inbox) {
                        break;
                    }
                }
            }
        }
    }

    /// Deal with what a socket has. False when it has nothing.
    fn receive_from(&self, number: u64, inbox: &mut Inbox) -> bool {
        let mut tables = self.engine.read();
        let binding = tables.binding;
        let Some(udp) = &tables.udp else { return false };
        let Some(socket) = udp.socket(number) else { return false };
        if !inbox.fill(|buffer| socket.receive(buffer)) {
            return false;
        }
        for (octets, run) in inbox.runs() {
            // Commands may come between two runs: what a closed socket brought is nobody's.
            let Some(udp) = tables.udp.as_ref().filter(|_| tables.binding == binding) else { return false };
            udp.note_origin(&run.origin);
            self.engine.received(tables, octets, run);
            tables = self.engine.read();
        }
        true
    }
}

/// Failed reads of the TUN since the last packet. One packet that the driver cannot describe (EINVAL, and it is
/// gone), or no memory at the moment, end nothing.
#[derive(Default)]
struct ReadFailures(u32);

impl ReadFailures {
    /// How long to wait before the next read; `None`: there will be no next, the device is gone.
    fn pause_after(&mut self, error: &io::Error) -> Option<Duration> {
        let is_gone =
            matches!(error.raw_os_error(), Some(libc::EBADF | libc::EBADFD | libc::ENODEV | libc::ENXIO));
        self.0 += 1;
        (!is_gone && self.0 < READ_FAILURES_IN_A_ROW).then(|| Duration::from_millis(self.0.into()))
    }
}

/// Read until there is nothing more, or enough to be worth a send. What was read is in `packets`.
fn read_batch(tun: &HostTun, buffer: &mut [u8], packets: &mut Vec<Range<usize>>) -> io::Result<()> {
    packets.clear();
    let mut at = 0;
    while at < BATCH_OCTETS && packets.len() < BATCH_PACKETS {
        match tun.read(&mut buffer[at..at + MOST_PACKET]) {
            Ok(length) => {
                packets.push(at..at + length);
                at += length;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl HostEngine {
    /// What is used now: superpackets of TCP and UDP through the TUN, runs sent and received by one call.
    /// Without sockets the last two are what is wanted.
    #[must_use]
    pub fn offloads(&self) -> Offload {
        let tables = self.engine().read();
        let (gso, gro) = tables.udp.as_ref().map_or((self.wanted.gso, self.wanted.gro), HostUdp::offloads);
        let joins = tables.vnet_hdr && !self.engine().splits_writes();
        Offload { tso: joins && tables.joins.tcp, uso: joins && tables.joins.udp, gso, gro }
    }

    /// What was dropped, by reason, with what the kernel dropped before we read it.
    #[must_use]
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        let overflows = self.engine().read().udp.as_ref().map_or(0, HostUdp::overflows);
        let counts = self.engine().drops.counts();
        counts.chain([("not read in time", overflows)]).filter(|&(_, count)| count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Event;

    #[test]
    fn a_read_that_fails_is_tried_again_and_a_device_that_is_gone_is_not() {
        for passing in [libc::EINVAL, libc::ENOMEM, libc::ENOBUFS, libc::EIO] {
            let (mut failures, error) = (ReadFailures::default(), io::Error::from_raw_os_error(passing));
            for milliseconds in 1..100 {
                assert_eq!(failures.pause_after(&error), Some(Duration::from_millis(milliseconds)));
            }
            assert_eq!(failures.pause_after(&error), None);
        }
        for gone in [libc::EBADF, libc::EBADFD, libc::ENODEV, libc::ENXIO] {
            assert_eq!(ReadFailures::default().pause_after(&io::Error::from_raw_os_error(gone)), None);
        }
    }

    #[test]
    fn sockets_that_were_opened_again_are_told_from_those_before() {
        let wanted = Offload { tso: true, uso: true, gso: true, gro: true };
        let host =
            HostEngine::new(wanted, Limits { staged_octets: 1 << 20, socket_buffer: 1 << 20 }).unwrap();
        let binding = || host.engine().read().binding;
        host.bind(0, 0).unwrap();
        let first = binding();
        host.engine().unbind();
        assert_ne!(binding(), first);
        host.bind(0, 0).unwrap();
        assert_ne!(binding(), first);
    }

    #[test]
    fn a_thread_that_panics_is_told_as_a_failure_and_the_engine_still_closes() {
        let wanted = Offload { tso: true, uso: true, gso: true, gro: true };
        let host =
            HostEngine::new(wanted, Limits { staged_octets: 1 << 20, socket_buffer: 1 << 20 }).unwrap();
        host.start().unwrap();
        host.bind(0, 0).unwrap();
        let shared = host.shared.clone();
        let fault = move || {
            shared.guard("wgpy-test", |shared| {
                let _batch = shared.engine.read();
                panic!("on purpose");
            });
        };
        thread::Builder::new().spawn(fault).unwrap().join().unwrap();
        let events = host.engine().events.drain();
        assert_eq!(events, [Event::EngineFailed("its thread wgpy-test met with a fault of its own".into())]);
        // Commands go on: the device takes its leave in good order.
        let peer = host.engine().add_peer().unwrap();
        host.engine().remove_peer(peer);
        host.close();
        host.start().unwrap();
        assert!(host.threads.lock().unwrap().is_empty(), "closed for good");
    }
}
