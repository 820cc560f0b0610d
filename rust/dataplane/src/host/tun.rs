//! A TUN by its descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::calls;
use super::offload::Offload;
use super::poller::checked;
use crate::engine::Tun;

const TUN_F_CSUM: libc::c_ulong = 0x01;
const TUN_F_TSO: libc::c_ulong = 0x02 | 0x04;
const TUN_F_USO: libc::c_ulong = 0x20 | 0x40;

/// A descriptor of ours of somebody's TUN.
pub struct HostTun(OwnedFd);

impl HostTun {
    /// Duplicate the caller's descriptor, which stays the caller's to close.
    ///
    /// # Errors
    ///
    /// It is none, or none are left.
    pub fn duplicate(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(fd.try_clone_to_owned()?))
    }

    /// Ask for superpackets, as many kinds as are wanted and the kernel knows. Gives those it agreed to.
    #[must_use]
    pub fn set_offload(&self, wanted: Offload) -> Offload {
        let flags = |tso: bool, uso: bool| {
            // The kernel takes neither kind without unfinished checksums, and USO since 6.2.
            TUN_F_CSUM | if tso { TUN_F_TSO } else { 0 } | if uso { TUN_F_USO } else { 0 }
        };
        for (tso, uso) in [(wanted.tso, wanted.uso), (wanted.tso, false), (false, false)] {
            // SAFETY: the call takes a number, and no memory.
            if checked(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNSETOFFLOAD as _, flags(tso, uso)) })
                .is_ok()
            {
                return Offload { tso, uso, ..wanted };
            }
        }
        Offload { tso: false, uso: false, ..wanted }
    }

    /// Read one packet, or superpacket.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is none, else what the host said.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        calls::read(self.0.as_fd(), buffer)
    }
}

impl Tun for HostTun {
    fn write(&self, parts: &[io::IoSlice<'_>]) -> io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        // It takes a packet whole or not at all; were it otherwise, the packet is lost.
        if calls::write_parts(self.0.as_fd(), parts)? == length {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }
}

impl AsFd for HostTun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
