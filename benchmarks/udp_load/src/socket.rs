//! Sockets in network namespaces, with room for bursts.

use std::io::{Error, Result};
use std::mem::{size_of, zeroed};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// What one send may carry: an IPv4 datagram's most.
pub const LARGEST_SEND: usize = 65507;
const BUFFER: libc::c_int = 16 << 20;
const RECEIVE_TIMEOUT_MICROSECONDS: i64 = 50_000;

fn check(returned: libc::c_int) -> Result<libc::c_int> {
    if returned < 0 { Err(Error::last_os_error()) } else { Ok(returned) }
}

/// Make this thread's next sockets in the namespace at `path`.
pub fn enter(path: &str) -> Result<()> {
    let namespace = std::fs::File::open(path)?;
    // SAFETY: the descriptor is open; setns takes no memory.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

fn set<T>(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &T) -> Result<()> {
    // SAFETY: `value` is readable for the length given.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    })
    .map(drop)
}

fn open(address: IpAddr) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no memory is passed; the descriptor is new and ours.
    Ok(unsafe {
        OwnedFd::from_raw_fd(check(libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?)
    })
}

/// `address` and `port` as the kernel has them.
pub fn name(address: IpAddr, port: u16) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all zeroes is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
    let place: *mut libc::sockaddr_storage = &raw mut storage;
    let length = match address {
        IpAddr::V4(address) => {
            let name = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: port.to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is large and aligned enough for every family.
            unsafe { place.cast::<libc::sockaddr_in>().write(name) };
            size_of::<libc::sockaddr_in>()
        }
        IpAddr::V6(address) => {
            let name = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: port.to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: address.octets() },
                sin6_scope_id: 0,
            };
            // SAFETY: as above.
            unsafe { place.cast::<libc::sockaddr_in6>().write(name) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}

/// All addresses of the family of `address`.
fn any(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { [0u8; 4].into() } else { [0u8; 16].into() }
}

fn bind(socket: &OwnedFd, address: IpAddr, port: u16) -> Result<()> {
    let (address, length) = name(address, port);
    // SAFETY: the address is readable for the length given.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) }).map(drop)
}

/// Bound to all addresses; with UDP_GRO when the sender joins datagrams, as programs do that use the one and the other.
pub fn receiver(address: IpAddr, port: u16, segments: usize) -> Result<OwnedFd> {
    let socket = open(address)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &BUFFER)?;
    let timeout = libc::timeval { tv_sec: 0, tv_usec: RECEIVE_TIMEOUT_MICROSECONDS };
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &timeout)?;
    if segments > 1 {
        set(&socket, libc::SOL_UDP, libc::UDP_GRO, &1)?;
    }
    bind(&socket, any(address), port)?;
    Ok(socket)
}

/// Joins `segments` datagrams of `size` in each send.
pub fn sender(address: IpAddr, size: usize, segments: usize) -> Result<OwnedFd> {
    let socket = open(address)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &BUFFER)?;
    if segments > 1 {
        set(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, &(size as libc::c_int))?;
    }
    Ok(socket)
}

/// What the socket sends goes there, and errors that come back are told.
pub fn connect(socket: &OwnedFd, address: IpAddr, port: u16) -> Result<()> {
    let (address, length) = name(address, port);
    // SAFETY: the address is readable for the length given.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) }).map(drop)
}
