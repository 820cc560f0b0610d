//! What threads wait on: epoll, and descriptors that wake.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::engine::Signal;

/// Turn what a call of libc gave into a result.
pub(super) fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(result: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: the call has just given this descriptor, and nobody else has it.
    checked(result).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor that is readable while it is raised.
pub struct WakeFd(OwnedFd);

impl WakeFd {
    /// Not raised.
    ///
    /// # Errors
    ///
    /// No descriptors are left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is handed over.
        owned(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) }).map(Self)
    }

    /// Another descriptor of the same.
    ///
    /// # Errors
    ///
    /// No descriptors are left.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

impl Signal for WakeFd {
    fn raise(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight octets to read. It only fails when it is raised to the brim already.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight octets to write to. It only fails when it is clear already.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsFd for WakeFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Descriptors that one thread waits for, each with a number.
pub struct Poller {
    epoll: OwnedFd,
    wake: WakeFd,
}

/// The number of the poller's own descriptor.
const WAKE: u64 = u64::MAX;

impl Poller {
    /// Waits for nothing but being woken.
    ///
    /// # Errors
    ///
    /// No descriptors are left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is handed over.
        let epoll = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        let poller = Self { epoll, wake: WakeFd::new()? };
        poller.add(poller.wake.as_fd(), WAKE)?;
        Ok(poller)
    }

    /// Wait for a descriptor to be readable, too. Closing the last descriptor of its file ends that.
    ///
    /// # Errors
    ///
    /// The descriptor cannot be waited for.
    pub fn add(&self, fd: BorrowedFd<'_>, number: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: number };
        // SAFETY: `event` is one to read.
        checked(unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event)
        })?;
        Ok(())
    }

    /// Wait for it no longer.
    pub fn remove(&self, fd: BorrowedFd<'_>) {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: `event` is one to read. It only fails when the descriptor was not there.
        unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd.as_raw_fd(), &mut event) };
    }

    /// Make `wait` return, once.
    pub fn wake(&self) {
        self.wake.raise();
    }

    /// Wait; give the numbers of what is readable.
    ///
    /// # Errors
    ///
    /// What the kernel said, which it says of a programming error alone.
    pub fn wait(&self) -> io::Result<impl Iterator<Item = u64>> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 4];
        let count = loop {
            // SAFETY: as many events to write to as it is told.
            let waited = unsafe {
                libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), events.len() as libc::c_int, -1)
            };
            match checked(waited) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other? as usize,
            }
        };
        let woken = events[..count].iter().any(|event| { event.u64 } == WAKE);
        if woken {
            self.wake.clear();
        }
        Ok(events.into_iter().take(count).map(|event| event.u64).filter(|&number| number != WAKE))
    }
}
