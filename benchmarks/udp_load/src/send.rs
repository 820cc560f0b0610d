//! The sender: bursts at a steady rate, a number in each datagram.

use std::mem::zeroed;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use udp_load::socket;

use crate::Trial;

/// Each datagram begins with its number.
pub const SEQUENCE_SIZE: usize = 8;

const SENDS_A_CALL: usize = 64;
const TICK: Duration = Duration::from_micros(200);
/// A sender that was kept waiting does not make up for more than this: it would measure the queues instead.
const MOST_CATCH_UP: f64 = 0.001;

/// `datagrams` were offered in `seconds` until `end`; the kernel refused `refused` of them.
pub struct Sent {
    pub datagrams: u64,
    pub refused: u64,
    pub seconds: f64,
    pub end: Instant,
}

fn addresses(first: IpAddr, count: u32) -> Vec<IpAddr> {
    (0..count)
        .map(|number| match first {
            IpAddr::V4(first) => IpAddr::from((u32::from(first) + number).to_be_bytes()),
            IpAddr::V6(first) => IpAddr::from((u128::from(first) + u128::from(number)).to_be_bytes()),
        })
        .collect()
}

pub fn run(socket: &OwnedFd, trial: &Trial, port: u16) -> Sent {
    // SAFETY: takes no memory.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    let piece = trial.size * trial.segments;
    let mut buffer = vec![0u8; piece * SENDS_A_CALL];
    let base = buffer.as_mut_ptr();
    let mut vectors: Vec<libc::iovec> = (0..SENDS_A_CALL)
        .map(|at| libc::iovec { iov_base: base.wrapping_add(at * piece).cast(), iov_len: piece })
        .collect();
    let mut names: Vec<_> = addresses(trial.address, trial.spread)
        .into_iter()
        .map(|address| socket::name(address, port))
        .collect();
    // SAFETY: all zeroes is a valid mmsghdr: no address, no control data.
    let mut messages: Vec<libc::mmsghdr> = vec![unsafe { zeroed() }; SENDS_A_CALL];
    for (message, vector) in messages.iter_mut().zip(&mut vectors) {
        message.msg_hdr.msg_iov = vector;
        message.msg_hdr.msg_iovlen = 1;
    }
    let (mut sent, mut refused, mut turn) = (0u64, 0u64, 0usize);
    // A piece has to come due, however many datagrams it holds.
    let most_behind = MOST_CATCH_UP.max(2.0 * trial.segments as f64 / trial.rate);
    let started = Instant::now();
    // When the first datagram would have been sent, had we never been kept waiting.
    let mut skipped = 0.0;
    loop {
        let now = started.elapsed().as_secs_f64();
        if now >= trial.seconds {
            break;
        }
        let behind = now - skipped - sent as f64 / trial.rate;
        skipped += (behind - most_behind).max(0.0);
        let due = (((now - skipped) * trial.rate) as u64).saturating_sub(sent) as usize / trial.segments;
        if due == 0 {
            thread::sleep(TICK);
            continue;
        }
        let count = due.min(SENDS_A_CALL);
        for at in 0..count * trial.segments {
            let number = sent + at as u64;
            // SAFETY: at most SENDS_A_CALL pieces of `segments` datagrams, each longer than its number, are in the
            // buffer; it is written through the pointer that the vectors were made from.
            unsafe { base.add(at * trial.size).cast::<[u8; SEQUENCE_SIZE]>().write(number.to_be_bytes()) };
        }
        if trial.spread > 1 {
            for message in &mut messages[..count] {
                let (address, length) = &mut names[turn];
                message.msg_hdr.msg_name = std::ptr::from_mut(address).cast();
                message.msg_hdr.msg_namelen = *length;
                turn = (turn + 1) % trial.spread as usize;
            }
        }
        // SAFETY: each of the `count` messages points to a vector, and that into the buffer; all outlive the call.
        let taken =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count as libc::c_uint, 0) };
        // What the kernel refuses (no buffers, port closed) was offered, and is lost.
        let done = if taken > 0 { taken as u64 } else { 1 } * trial.segments as u64;
        refused += if taken > 0 { 0 } else { done };
        sent += done;
    }
    let seconds = started.elapsed().as_secs_f64();
    trial.sent.store(sent, Ordering::SeqCst);
    trial.is_over.store(true, Ordering::SeqCst);
    Sent { datagrams: sent, refused, seconds, end: started + Duration::from_secs_f64(seconds) }
}
