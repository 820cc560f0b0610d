//! The system calls that move packets, as results. In this crate's own tests they fail when `faults` says so;
//! elsewhere there is nothing but the call.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

#[cfg(test)]
use super::faults::strike;

fn checked(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// recvmsg(2).
///
/// # Safety
///
/// All that `message` points to has the room it says.
pub unsafe fn receive_message(fd: BorrowedFd<'_>, message: &mut libc::msghdr) -> io::Result<usize> {
    #[cfg(test)]
    strike(fd)?;
    // SAFETY: the caller's.
    checked(unsafe { libc::recvmsg(fd.as_raw_fd(), message, 0) })
}

/// sendmsg(2).
///
/// # Safety
///
/// All that `message` points to is there, as long as it says.
pub unsafe fn send_message(fd: BorrowedFd<'_>, message: &libc::msghdr) -> io::Result<usize> {
    #[cfg(test)]
    strike(fd)?;
    // SAFETY: the caller's.
    checked(unsafe { libc::sendmsg(fd.as_raw_fd(), message, 0) })
}

/// read(2).
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    #[cfg(test)]
    let buffer = match strike(fd)? {
        true => {
            let half = buffer.len().min(40);
            &mut buffer[..half]
        }
        false => buffer,
    };
    // SAFETY: pointer and length are those of a slice that may be written to.
    checked(unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// writev(2), of fewer parts than IOV_MAX.
pub fn write_parts(fd: BorrowedFd<'_>, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
    #[cfg(test)]
    if strike(fd)? {
        return Ok(parts.iter().map(|part| part.len()).sum::<usize>() / 2);
    }
    // SAFETY: an IoSlice is an iovec, and there are as many as it is told.
    checked(unsafe { libc::writev(fd.as_raw_fd(), parts.as_ptr().cast(), parts.len() as libc::c_int) })
}
