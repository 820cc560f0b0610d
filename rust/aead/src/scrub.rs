//! What finished calls leave on the stack.

use std::hint::black_box;
use std::mem::MaybeUninit;

/// Overwrite the next N octets of the stack, where the frames of finished calls lay: values that were moved and vectors
/// that found no register are keys, and a compiler clears neither.
#[inline(never)]
pub fn scrub_stack<const N: usize>() {
    let mut dead_frames = MaybeUninit::<[u8; N]>::uninit();
    // SAFETY: zeros are octets. In one go, which zeroize's writes of one octet are not; `black_box` keeps them.
    unsafe { dead_frames.as_mut_ptr().write_bytes(0, 1) };
    black_box(&mut dead_frames);
}
