//! What an engine is joined to: a clock, sockets and a TUN, of the host or in memory.

use std::io;
use std::net::{IpAddr, SocketAddr};

/// Where a datagram came from, and at which of our addresses and interfaces it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The sender.
    pub remote: SocketAddr,
    /// Which of our addresses it was sent to.
    pub local: Option<IpAddr>,
    /// By which interface it came; 0: unknown.
    pub interface_index: u32,
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Nanoseconds of the boot-time clock, never zero.
    fn now(&self) -> u64;
}

/// Sends datagrams. Never waits.
pub trait Udp: Send + Sync {
    /// Send datagrams of `segment_size` octets, of which the last may be shorter, from the address of
    /// `source` if the host still has it. Returns the octets that left.
    fn send(
        &self,
        run: &[u8],
        segment_size: usize,
        to: SocketAddr,
        source: Option<&Origin>,
        tos: u8,
    ) -> usize;

    /// Routes or addresses changed: forget what was learned of them.
    fn forget_routes(&self) {}
}

/// Gives packets to the host. Never waits.
pub trait Tun: Send + Sync {
    /// Write one packet, or superpacket, that is in parts. A virtio header is the first part where there is
    /// one.
    ///
    /// # Errors
    ///
    /// What the host said.
    fn write(&self, parts: &[io::IoSlice<'_>]) -> io::Result<()>;
}
