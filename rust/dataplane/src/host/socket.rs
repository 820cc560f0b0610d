//! One family's UDP socket: options, sendmsg, recvmsg.

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use super::calls;
use super::control::{ControlReader, ControlWriter};
use super::offload::Offload;
use super::poller::checked;
use super::udp::Transmit;
use crate::engine::{Origin, Received};

const PMTUDISC_DONT: libc::c_int = 0;

/// One family's socket.
pub struct UdpSocket {
    pub(super) fd: OwnedFd,
    pub(super) is_ipv6: bool,
    /// One call sends many datagrams.
    pub gso: bool,
    /// One call receives many.
    pub gro: bool,
    pub(super) overflows: AtomicU32,
}

impl UdpSocket {
    /// Raises what the host says: the port is taken, or it does not have the family.
    pub fn bind(is_ipv6: bool, port: u16, mark: u32, wanted: Offload, buffer: usize) -> io::Result<Self> {
        let family = if is_ipv6 { libc::AF_INET6 } else { libc::AF_INET };
        let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no memory is handed over.
        let fd = checked(unsafe { libc::socket(family, kind, 0) })?;
        // SAFETY: the call has just given this descriptor, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let set = |level, option, value: libc::c_int| set_option(&fd, level, option, value);
        if mark != 0 {
            set(libc::SOL_SOCKET, libc::SO_MARK, mark as libc::c_int)?;
        }
        let local: SocketAddr = if is_ipv6 {
            set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
            set(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
            set(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
            set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, PMTUDISC_DONT)?;
            (Ipv6Addr::UNSPECIFIED, port).into()
        } else {
            set(libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
            set(libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
            set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, PMTUDISC_DONT)?;
            (Ipv4Addr::UNSPECIFIED, port).into()
        };
        let buffer = buffer as libc::c_int;
        for (forced, usual) in
            [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
        {
            // Only what the administrator allows is had without CAP_NET_ADMIN, and less does, too.
            let _ = set(libc::SOL_SOCKET, forced, buffer).or_else(|_| set(libc::SOL_SOCKET, usual, buffer));
        }
        let _ = set(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1);
        let (address, length) = to_sockaddr(local);
        // SAFETY: the address is as long as it is told.
        checked(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) })?;
        let gso = wanted.gso && set(libc::IPPROTO_UDP, libc::UDP_SEGMENT, 0).is_ok();
        let gro = wanted.gro && set(libc::IPPROTO_UDP, libc::UDP_GRO, 1).is_ok();
        Ok(Self { fd, is_ipv6, gso, gro, overflows: AtomicU32::new(0) })
    }

    /// The port bound.
    pub fn port(&self) -> io::Result<u16> {
        let mut address = empty_sockaddr();
        let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        // SAFETY: there is as much room for an address as it is told.
        checked(unsafe { libc::getsockname(self.fd.as_raw_fd(), (&raw mut address).cast(), &mut length) })?;
        Ok(from_sockaddr(&address).map_or(0, |address| address.port()))
    }

    /// Datagrams that the kernel threw away because nobody read them in time.
    #[must_use]
    pub fn overflows(&self) -> u32 {
        self.overflows.load(Ordering::Relaxed)
    }

    /// Mark what it sends; 0: do not.
    ///
    /// # Errors
    ///
    /// It takes CAP_NET_ADMIN.
    pub fn set_mark(&self, mark: u32) -> io::Result<()> {
        set_option(&self.fd, libc::SOL_SOCKET, libc::SO_MARK, mark as libc::c_int)
    }

    /// Read one datagram or, with GRO, several of one sender. None: there is none now.
    #[must_use]
    pub fn receive(&self, buffer: &mut [u8]) -> Option<Received> {
        let mut address = empty_sockaddr();
        let mut part = io::IoSliceMut::new(buffer);
        let mut control = ControlReader::default();
        // SAFETY: all zeros is a msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = (&raw mut address).cast();
        message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        message.msg_iov = (&raw mut part).cast();
        message.msg_iovlen = 1;
        control.attach(&mut message);
        // SAFETY: all that `message` points to lives until the call is over, and has the room it says. An
        // IoSliceMut is an iovec.
        let got = unsafe { calls::receive_message(self.fd.as_fd(), &mut message) };
        // An error is of one datagram, or of one sent before: the socket goes on.
        let length = got.ok()?;
        let remote = from_sockaddr(&address)?;
        let mut received = Received {
            length,
            segment_size: length,
            origin: Origin { remote, local: None, interface_index: 0 },
            tos: 0,
        };
        control.each(&message, |level, kind, data| match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => {
                received.segment_size = number(data).map_or(length, |size| size as usize);
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                self.overflows.store(number(data).unwrap_or(0), Ordering::Relaxed);
            }
            // One octet.
            (libc::IPPROTO_IP, libc::IP_TOS) => received.tos = data.first().copied().unwrap_or(0),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => received.tos = number(data).unwrap_or(0) as u8,
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // Interface, our address, destination in the header.
                if let Some((interface, rest)) = data.split_first_chunk() {
                    received.origin.interface_index = u32::from_ne_bytes(*interface);
                    received.origin.local = rest.first_chunk::<4>().map(|address| IpAddr::from(*address));
                }
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                if let Some((address, interface)) = data.split_first_chunk::<16>() {
                    received.origin.local = Some(IpAddr::from(*address));
                    received.origin.interface_index = number(interface).unwrap_or(0);
                }
            }
            _ => {}
        });
        Some(received)
    }
}

impl Transmit for UdpSocket {
    fn transmit(
        &self,
        run: &[u8],
        sentinel: &[u8],
        segment_size: usize,
        to: SocketAddr,
        source: Option<&Origin>,
        tos: u8,
    ) -> Result<(), libc::c_int> {
        let (mut address, length) = to_sockaddr(to);
        let mut parts = [io::IoSlice::new(run), io::IoSlice::new(sentinel)];
        let mut control = ControlWriter::default();
        if segment_size > 0 {
            control.push(libc::SOL_UDP, libc::UDP_SEGMENT, &(segment_size as u16).to_ne_bytes());
        }
        if tos != 0 {
            let (level, kind) = if self.is_ipv6 {
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
            } else {
                (libc::IPPROTO_IP, libc::IP_TOS)
            };
            control.push(level, kind, &libc::c_int::from(tos).to_ne_bytes());
        }
        if let Some(source) = source {
            push_source(&mut control, source, self.is_ipv6);
        }
        // SAFETY: all zeros is a msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = (&raw mut address).cast();
        message.msg_namelen = length;
        message.msg_iov = parts.as_mut_ptr().cast();
        message.msg_iovlen = if sentinel.is_empty() { 1 } else { 2 } as _;
        control.attach(&mut message);
        // SAFETY: all that `message` points to lives until the call is over. An IoSlice is an iovec.
        let sent = unsafe { calls::send_message(self.fd.as_fd(), &message) };
        sent.map(drop).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
    }
}

fn number(data: &[u8]) -> Option<u32> {
    data.first_chunk().map(|octets| u32::from_ne_bytes(*octets))
}

/// The address alone: which interface it leaves by is the routing table's to say.
fn push_source(control: &mut ControlWriter, source: &Origin, is_ipv6: bool) {
    match source.local {
        Some(IpAddr::V4(local)) if !is_ipv6 => {
            let mut info = [0; 12];
            info[4..8].copy_from_slice(&local.octets());
            control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
        }
        Some(IpAddr::V6(local)) if is_ipv6 => {
            let scope = if local.is_unicast_link_local() { source.interface_index } else { 0 };
            let mut info = [0; 20];
            info[..16].copy_from_slice(&local.octets());
            info[16..].copy_from_slice(&scope.to_ne_bytes());
            control.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
        }
        _ => {}
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn set_option(fd: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is as long as it is told.
    checked(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), size) })?;
    Ok(())
}

fn empty_sockaddr() -> libc::sockaddr_storage {
    // SAFETY: all zeros is an address, of no family.
    unsafe { std::mem::zeroed() }
}

fn to_sockaddr(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    let mut storage = empty_sockaddr();
    let size = match address {
        SocketAddr::V4(address) => {
            // SAFETY: the storage has room and alignment for every kind of address.
            let place = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in>() };
            place.sin_family = libc::AF_INET as libc::sa_family_t;
            place.sin_port = address.port().to_be();
            place.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            // SAFETY: the storage has room and alignment for every kind of address.
            let place = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in6>() };
            place.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            place.sin6_port = address.port().to_be();
            place.sin6_addr.s6_addr = address.ip().octets();
            place.sin6_scope_id = address.scope_id();
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, size as libc::socklen_t)
}

fn from_sockaddr(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: its family says that it is one, and the storage has its size and alignment.
            let place = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            let address = Ipv4Addr::from(place.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(address, u16::from_be(place.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: its family says that it is one, and the storage has its size and alignment.
            let place = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            let address = Ipv6Addr::from(place.sin6_addr.s6_addr);
            // The flow label is no part of an endpoint.
            Some(SocketAddrV6::new(address, u16::from_be(place.sin6_port), 0, place.sin6_scope_id).into())
        }
        _ => None,
    }
}
