//! Poly1305 (RFC 8439 §2.5) of several packets at once, one in each lane.
//!
//! Each lane is the plain Horner rule over its packet's blocks, so a lane needs no powers of its key beyond those
//! that save reductions, and nothing is summed over lanes at the end. Packets of different lengths drop out as
//! they end.

use std::ptr;

/// Octets of a block.
pub(crate) const BLOCK_SIZE: usize = 16;
/// Octets of a one-time key's place: a whole block of keystream, of which the first half is the key.
pub(crate) const KEY_PLACE: usize = 64;
/// Lanes of the widest field.
pub(crate) const MAX_WIDTH: usize = 16;
/// Octets of the longest row.
pub(crate) const MAX_ROW: usize = 64;

/// Where a lane that ended reads instead.
static ZEROS: [u8; MAX_ROW] = [0; MAX_ROW];

/// Which lanes a step concerns, a bit each.
pub(crate) type LaneSet = u32;

/// An element of the integers modulo 2^130 - 5 in each of WIDTH lanes.
pub(crate) trait Field: Copy {
    /// Lanes, at most 16.
    const WIDTH: usize;
    /// Octets of a packet that one step takes: some blocks, at most 64.
    const ROW: usize;
    /// What each lane multiplies with, and adds in the end.
    type Key;

    /// # Safety
    /// The CPU has the instructions of the implementation; so for all functions here. `keys` are WIDTH pointers to
    /// KEY_PLACE readable octets each.
    unsafe fn key(keys: *const *const u8) -> Self::Key;
    unsafe fn zero() -> Self;
    /// Take a row of each lane. `rows`: WIDTH pointers to ROW octets each.
    unsafe fn absorb_row(self, rows: *const *const u8, key: &Self::Key) -> Self;
    /// Take what is less than a row, padded to whole blocks, of lanes that have any left. `lengths`: WIDTH numbers
    /// of octets less than ROW, as many as `rows` point to.
    unsafe fn absorb_rest(self, rows: *const *const u8, lengths: *const usize, key: &Self::Key) -> Self;
    /// Take the block of lengths: no additional data, WIDTH `lengths` of octets.
    unsafe fn absorb_lengths(self, lengths: *const usize, key: &Self::Key) -> Self;
    /// `other` in the lanes of the set, self in the others.
    unsafe fn select(self, set: LaneSet, other: Self) -> Self;
    /// The tags, WIDTH of them.
    unsafe fn finish(self, key: &Self::Key, tags: *mut [u8; 16]);
}

/// Two fields' lanes in turn: while one waits for its products, the other's are made.
#[derive(Clone, Copy)]
struct Pair<F>(F, F);

impl<F: Field> Field for Pair<F> {
    const WIDTH: usize = 2 * F::WIDTH;
    const ROW: usize = F::ROW;
    type Key = (F::Key, F::Key);

    #[inline(always)]
    unsafe fn key(keys: *const *const u8) -> Self::Key {
        // SAFETY: as this function's; so in all of these.
        unsafe { (F::key(keys), F::key(keys.add(F::WIDTH))) }
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: see `key`.
        unsafe { Self(F::zero(), F::zero()) }
    }

    #[inline(always)]
    unsafe fn absorb_row(self, rows: *const *const u8, key: &Self::Key) -> Self {
        // SAFETY: see `key`.
        unsafe { Self(self.0.absorb_row(rows, &key.0), self.1.absorb_row(rows.add(F::WIDTH), &key.1)) }
    }

    #[inline(always)]
    unsafe fn absorb_rest(self, rows: *const *const u8, lengths: *const usize, key: &Self::Key) -> Self {
        // SAFETY: see `key`.
        unsafe {
            let first = self.0.absorb_rest(rows, lengths, &key.0);
            Self(first, self.1.absorb_rest(rows.add(F::WIDTH), lengths.add(F::WIDTH), &key.1))
        }
    }

    #[inline(always)]
    unsafe fn absorb_lengths(self, lengths: *const usize, key: &Self::Key) -> Self {
        // SAFETY: see `key`.
        unsafe {
            Self(self.0.absorb_lengths(lengths, &key.0), self.1.absorb_lengths(lengths.add(F::WIDTH), &key.1))
        }
    }

    #[inline(always)]
    unsafe fn select(self, set: LaneSet, other: Self) -> Self {
        // SAFETY: see `key`.
        unsafe { Self(self.0.select(set, other.0), self.1.select(set >> F::WIDTH, other.1)) }
    }

    #[inline(always)]
    unsafe fn finish(self, key: &Self::Key, tags: *mut [u8; 16]) {
        // SAFETY: see `key`.
        unsafe {
            self.0.finish(&key.0, tags);
            self.1.finish(&key.1, tags.add(F::WIDTH));
        }
    }
}

/// The tags of `count` texts without additional data.
///
/// `keys`: one-time keys. Each pointer of `texts` has as many octets as `lengths` says.
///
/// # Safety
/// The CPU has the instructions of `F`; the pointers are readable for what is said above.
#[inline(always)]
pub(crate) unsafe fn tags<F: Field>(
    keys: &[[u8; KEY_PLACE]],
    texts: &[*const u8],
    lengths: &[usize],
    tags: &mut [[u8; 16]],
) {
    let count = keys.len().min(texts.len()).min(lengths.len()).min(tags.len());
    let mut first = 0;
    while first < count {
        let used = Pair::<F>::WIDTH.min(count - first);
        // Lanes beyond the last text have an empty one.
        let mut at = [ZEROS.as_ptr(); MAX_WIDTH];
        let mut length = [0; MAX_WIDTH];
        let mut key = [ZEROS.as_ptr(); MAX_WIDTH];
        let mut made = [[0; 16]; MAX_WIDTH];
        at[..used].copy_from_slice(&texts[first..first + used]);
        length[..used].copy_from_slice(&lengths[first..first + used]);
        for (pointer, key) in key.iter_mut().zip(&keys[first..first + used]) {
            *pointer = ptr::from_ref(key).cast();
        }
        // SAFETY: the arrays have at least WIDTH places, each of which points to what is asked for: a text and its
        // length as the caller promised, or zeros.
        unsafe {
            if used > F::WIDTH {
                tags_of_lanes::<Pair<F>>(&key, at, &length, &mut made);
            } else {
                tags_of_lanes::<F>(&key, at, &length, &mut made);
            }
        }
        tags[first..first + used].copy_from_slice(&made[..used]);
        first += used;
    }
}

/// # Safety
/// As for [`tags`].
#[inline(always)]
unsafe fn tags_of_lanes<F: Field>(
    keys: &[*const u8; MAX_WIDTH],
    mut at: [*const u8; MAX_WIDTH],
    lengths: &[usize; MAX_WIDTH],
    tags: &mut [[u8; 16]; MAX_WIDTH],
) {
    let mut left = *lengths;
    // SAFETY: the caller has the instructions. Pointers advance by a row only while a row is left.
    unsafe {
        let key = F::key(keys.as_ptr());
        let mut hash = F::zero();
        loop {
            let going = |left: &usize| *left >= F::ROW;
            let Some(rows) = left.iter().filter(|left| going(left)).map(|left| left / F::ROW).min() else {
                break;
            };
            let mut rows_at = [ZEROS.as_ptr(); MAX_WIDTH];
            let (mut strides, mut set) = ([0; MAX_WIDTH], 0);
            for lane in 0..F::WIDTH {
                if !going(&left[lane]) {
                    continue;
                }
                (rows_at[lane], strides[lane]) = (at[lane], F::ROW);
                at[lane] = at[lane].add(rows * F::ROW);
                left[lane] -= rows * F::ROW;
                set |= 1 << lane;
            }
            let is_whole = set == (1 << F::WIDTH) - 1;
            for _ in 0..rows {
                let next = hash.absorb_row(rows_at.as_ptr(), &key);
                hash = if is_whole { next } else { hash.select(set, next) };
                for (row, stride) in rows_at.iter_mut().zip(strides) {
                    *row = row.add(stride);
                }
            }
        }
        if left.iter().any(|&left| left > 0) {
            hash = hash.absorb_rest(at.as_ptr(), left.as_ptr(), &key);
        }
        hash = hash.absorb_lengths(lengths.as_ptr(), &key);
        hash.finish(&key, tags.as_mut_ptr());
    }
}

/// Which of the first `width` lanes have more than `octets` left.
///
/// # Safety
/// There are as many lengths.
#[inline(always)]
pub(crate) unsafe fn lanes_with_more(lengths: *const usize, width: usize, octets: usize) -> LaneSet {
    let mut set = 0;
    for lane in 0..width {
        // SAFETY: as this function's.
        set |= LaneSet::from(unsafe { *lengths.add(lane) } > octets) << lane;
    }
    set
}

/// The lengths of the first `width` lanes, as numbers of 64 bits.
///
/// # Safety
/// There are as many.
#[inline(always)]
pub(crate) unsafe fn octets(lengths: *const usize, width: usize) -> [u64; MAX_WIDTH] {
    let mut octets = [0; MAX_WIDTH];
    for (lane, octets) in octets.iter_mut().enumerate().take(width) {
        // SAFETY: as this function's.
        *octets = unsafe { *lengths.add(lane) } as u64;
    }
    octets
}

/// The last step: the hash `low` + 2^128·`top`, not above 2^132, reduced, and the second half of the one-time key
/// added. In constant time.
#[inline(always)]
pub(crate) fn tag(low: u128, top: u64, [s_low, s_high]: [u64; 2]) -> [u8; 16] {
    // 2^130 ≡ 5.
    let (low, carry) = low.overflowing_add(u128::from(5 * (top >> 2)));
    let top = (top & 3) + u64::from(carry);
    // h + 5 has bit 130 where h is 2^130 - 5 or more, and then h - (2^130 - 5) is its lower 130 bits.
    let (reduced, carry) = low.overflowing_add(5);
    let is_more = u128::from((top + u64::from(carry)) >> 2 & 1).wrapping_neg();
    let hash = low & !is_more | reduced & is_more;
    hash.wrapping_add(u128::from(s_high) << 64 | u128::from(s_low)).to_le_bytes()
}
