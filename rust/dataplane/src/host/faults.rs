//! System calls that fail now and then: what sockets and TUN may answer on a bad day. Only in tests.
//!
//! Two engines with their threads and real sockets on the loopback; a pair of connected sockets that keep
//! messages apart is the TUN of each. `tests/engine/test_faults.py` does the same to the portable engine, with
//! the core above it.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{HostEngine, Limits, Offload};
use crate::allowed_ips::PeerId;
use crate::engine::{Clock, Event, NewSession};
use crate::host::BootClock;
use crate::keypair::Established;
use crate::virtio;

/// What the calls on one descriptor do.
#[derive(Clone, Default)]
struct Weather {
    errnos: Vec<libc::c_int>,
    /// Some take only part, too.
    short: bool,
    struck: usize,
    random: u64,
}

static WEATHER: LazyLock<Mutex<HashMap<RawFd, Weather>>> = LazyLock::new(Mutex::default);

fn weather() -> MutexGuard<'static, HashMap<RawFd, Weather>> {
    WEATHER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asked before each call: three in ten fail where it storms. True: the call takes only part.
pub fn strike(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut all = weather();
    let Some(weather) = all.get_mut(&fd.as_raw_fd()) else { return Ok(false) };
    weather.random =
        weather.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let dice = (weather.random >> 33) as usize;
    if dice % 10 >= 3 {
        return Ok(false);
    }
    weather.struck += 1;
    let kinds = weather.errnos.len() + usize::from(weather.short);
    match weather.errnos.get(dice / 10 % kinds) {
        Some(&errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Ok(true),
    }
}

const ERRNOS: [libc::c_int; 12] = [
    libc::EAGAIN,
    libc::ENOBUFS,
    libc::EIO,
    libc::EINVAL,
    libc::EMSGSIZE,
    libc::EPERM,
    libc::ENETDOWN,
    libc::ENOMEM,
    libc::EINTR,
    libc::ENETUNREACH,
    libc::EHOSTUNREACH,
    libc::ECONNREFUSED,
];
const PATIENCE: Duration = Duration::from_secs(60);
const CHAINING_KEY: [u8; 32] = [9; 32];

/// An engine, and the host's side of its TUN.
struct End {
    number: u8,
    host: HostEngine,
    far: UnixDatagram,
    _tun: UnixDatagram,
    port: u16,
    peer: PeerId,
    index: u32,
}

impl End {
    fn new(number: u8) -> Self {
        let wanted = Offload { tso: true, uso: true, gso: true, gro: true };
        let limits = Limits { staged_octets: 1 << 20, socket_buffer: 1 << 20 };
        let host = HostEngine::new(wanted, limits).unwrap();
        let (tun, far) = UnixDatagram::pair().unwrap();
        for end in [&tun, &far] {
            end.set_nonblocking(true).unwrap();
        }
        host.open(tun.as_fd(), 1420, true).unwrap();
        // It is no TUN and agrees to nothing; superpackets are made all the same.
        host.engine().write().joins.udp = true;
        let port = host.bind(0, 0).unwrap();
        let peer = host.engine().add_peer().unwrap();
        host.engine().add_allowed_ips(peer, &[(Ipv4Addr::new(10, 0, 0, 3 - number).into(), 32)]);
        let index = host.engine().reserve_index(peer).unwrap();
        host.start().unwrap();
        Self { number, host, far, _tun: tun, port, peer, index }
    }

    fn begin(&self, other: &Self, is_initiator: bool) {
        self.host.engine().set_endpoint(self.peer, Some(SocketAddr::from(([127, 0, 0, 1], other.port))));
        let established = Established {
            local_index: self.index,
            remote_index: other.index,
            is_initiator,
            peer: self.peer,
            created_at: BootClock.now(),
        };
        self.host.engine().begin_session(NewSession {
            established,
            chaining_key: &CHAINING_KEY,
            response: None,
        });
    }

    /// A UDP packet of the host for the other end, behind a virtio header that asks for nothing.
    fn send(&self) {
        let mut packet = vec![0; virtio::HEADER_SIZE + 200];
        let inner = &mut packet[virtio::HEADER_SIZE..];
        inner[0] = 0x45;
        inner[2..4].copy_from_slice(&200u16.to_be_bytes());
        inner[8..10].copy_from_slice(&[64, 17]);
        inner[12..16].copy_from_slice(&[10, 0, 0, self.number]);
        inner[16..20].copy_from_slice(&[10, 0, 0, 3 - self.number]);
        inner[24..26].copy_from_slice(&180u16.to_be_bytes());
        // The queue is short, and a host drops what does not fit.
        let _ = self.far.send(&packet);
    }

    /// Whether a packet of the other end has come out since the last call.
    fn arrived(&self) -> bool {
        let mut packet = [0; 1 << 16];
        let mut found = false;
        while let Ok(length) = self.far.recv(&mut packet) {
            assert!(length >= virtio::HEADER_SIZE + 20, "a packet that was cut short came out");
            found |= packet[virtio::HEADER_SIZE + 15] == 3 - self.number;
        }
        found
    }

    /// Descriptors of the TUN, or of the sockets.
    fn descriptors(&self, of_tun: bool) -> Vec<RawFd> {
        let tables = self.host.engine().read();
        if of_tun {
            tables.tun.iter().map(|tun| tun.as_fd().as_raw_fd()).collect()
        } else {
            tables.udp.iter().flat_map(|udp| udp.sockets()).map(|socket| socket.as_fd().as_raw_fd()).collect()
        }
    }

    fn drop_count(&self, reason: &str) -> u64 {
        self.host.drops().iter().find(|(name, _)| *name == reason).map_or(0, |&(_, count)| count)
    }
}

fn pair() -> [End; 2] {
    let [one, two] = [End::new(1), End::new(2)];
    two.begin(&one, false);
    one.begin(&two, true);
    [one, two]
}

fn flows_both_ways(ends: &[End; 2]) {
    let deadline = Instant::now() + PATIENCE;
    let mut found = [false; 2];
    while found != [true; 2] {
        assert!(Instant::now() < deadline, "{found:?} after {PATIENCE:?}");
        ends.iter().for_each(End::send);
        thread::sleep(Duration::from_millis(5));
        for (end, found) in ends.iter().zip(&mut found) {
            *found |= end.arrived();
        }
    }
}

fn storm(of_tun: bool) {
    let ends = pair();
    flows_both_ways(&ends);
    let descriptors: Vec<RawFd> = ends.iter().flat_map(|end| end.descriptors(of_tun)).collect();
    for (half, errnos) in ERRNOS.chunks(ERRNOS.len() / 2).enumerate() {
        for (number, &fd) in descriptors.iter().enumerate() {
            let random = (half * 10 + number) as u64;
            weather().insert(fd, Weather { errnos: errnos.to_vec(), short: of_tun, struck: 0, random });
        }
        let deadline = Instant::now() + PATIENCE;
        let struck = || descriptors.iter().map(|fd| weather()[fd].struck).sum::<usize>();
        while struck() < 300 {
            assert!(Instant::now() < deadline, "{} calls were struck", struck());
            // Several at once: a run is sent by one call.
            for end in &ends {
                (0..4).for_each(|_| end.send());
                let _ = end.arrived();
            }
            thread::sleep(Duration::from_millis(1));
        }
        descriptors.iter().for_each(|fd| drop(weather().remove(fd)));
        flows_both_ways(&ends);
    }
    for end in &ends {
        let counted = if of_tun { "not taken by the host" } else { "not taken by the socket" };
        assert!(end.drop_count(counted) > 0, "what was lost is counted: {:?}", end.host.drops());
        let failed = |event: &Event| matches!(event, Event::EngineFailed(_));
        assert!(!end.host.engine().events.drain().iter().any(failed), "no call that failed ends an engine");
        end.host.close();
    }
}

#[test]
fn traffic_recovers_from_calls_of_the_sockets_that_failed() {
    storm(false);
}

#[test]
fn traffic_recovers_from_calls_of_the_tun_that_failed_or_took_only_part() {
    storm(true);
}
