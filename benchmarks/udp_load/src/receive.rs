//! The receiver: counts datagrams, joined ones too, and those that a later one has overtaken.

use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::Trial;
use crate::send::SEQUENCE_SIZE;

const RECEIVES_A_CALL: usize = 64;
const ROOM: usize = 65536;
const CONTROL: usize = 64;
/// Nothing for this long after the sender's end: what is missing is lost.
const PATIENCE: Duration = Duration::from_millis(100);

/// `last` is when the last datagram came.
pub struct Received {
    pub datagrams: u64,
    pub reordered: u64,
    pub last: Instant,
}

/// Octets that the kernel aligns control data to.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

pub fn run(socket: &OwnedFd, trial: &Trial) -> Received {
    let mut buffer = vec![0u8; ROOM * RECEIVES_A_CALL];
    let base = buffer.as_mut_ptr();
    let mut controls = vec![Control([0; CONTROL]); RECEIVES_A_CALL];
    let mut vectors: Vec<libc::iovec> = (0..RECEIVES_A_CALL)
        .map(|at| libc::iovec { iov_base: base.wrapping_add(at * ROOM).cast(), iov_len: ROOM })
        .collect();
    // SAFETY: all zeroes is a valid mmsghdr: no address, no control data.
    let mut messages: Vec<libc::mmsghdr> = vec![unsafe { zeroed() }; RECEIVES_A_CALL];
    let mut received = Received { datagrams: 0, reordered: 0, last: Instant::now() };
    let mut highest = None;
    loop {
        for ((message, vector), control) in messages.iter_mut().zip(&mut vectors).zip(&mut controls) {
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = CONTROL as _;
        }
        // SAFETY: each message points to a vector into the buffer and to control data of its own; all outlive the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                RECEIVES_A_CALL as libc::c_uint,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        if count > 0 {
            received.last = Instant::now();
        }
        for (at, message) in messages.iter().enumerate().take(count.max(0) as usize) {
            let length = message.msg_len as usize;
            // SAFETY: the kernel has filled in this message's control data.
            let size = unsafe { segment_size(&message.msg_hdr) }.unwrap_or(length).max(1);
            for start in (0..length).step_by(size) {
                received.datagrams += 1;
                if length - start >= SEQUENCE_SIZE {
                    // SAFETY: within the `length` octets of this message that the kernel wrote.
                    let octets = unsafe { base.add(at * ROOM + start).cast::<[u8; SEQUENCE_SIZE]>().read() };
                    let number = u64::from_be_bytes(octets);
                    received.reordered += u64::from(highest.is_some_and(|highest| number < highest));
                    highest = highest.max(Some(number));
                }
            }
        }
        if trial.is_over.load(Ordering::SeqCst)
            && (received.datagrams >= trial.sent.load(Ordering::SeqCst) || received.last.elapsed() > PATIENCE)
        {
            return received;
        }
    }
}

/// How long each of the datagrams is that UDP_GRO joined.
///
/// # Safety
/// The header's control data is what the kernel left there.
unsafe fn segment_size(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: by the contract the walk stays within the control data.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while !control.is_null() {
            if (*control).cmsg_level == libc::SOL_UDP && (*control).cmsg_type == libc::UDP_GRO {
                debug_assert!((*control).cmsg_len as usize >= size_of::<libc::c_int>());
                let size = libc::CMSG_DATA(control).cast::<libc::c_int>().read_unaligned();
                return usize::try_from(size).ok();
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    None
}
