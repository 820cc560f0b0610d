//! Poly1305 by products of 32 bits: limbs of 26 bits in lanes of 64, for every vector that can multiply so.
#![allow(unsafe_op_in_unsafe_fn, reason = "each line is an instruction, and all ask the same of the CPU")]

use crate::poly::{BLOCK_SIZE, Field, LaneSet, MAX_ROW, lanes_with_more, octets, tag};

const MASK: u64 = (1 << 26) - 1;
/// 2^128, the bit above each block, in the fifth limb.
const HIGH_BIT: u64 = 1 << 24;
/// Lanes of the widest vector, blocks of the longest row.
const MAX_WIDTH: usize = 8;
const MAX_BLOCKS: usize = 4;

/// A vector of 64-bit lanes.
pub(crate) trait Wide: Copy {
    /// Lanes.
    const WIDTH: usize;
    /// Blocks in a row.
    const BLOCKS: usize;
    /// # Safety
    /// The CPU has the instructions of the implementation; so for all functions here.
    unsafe fn splat(value: u64) -> Self;
    unsafe fn load(values: *const u64) -> Self;
    unsafe fn store(self, values: *mut u64);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn and(self, other: Self) -> Self;
    unsafe fn or(self, other: Self) -> Self;
    /// The product of the lower halves.
    unsafe fn multiply(self, other: Self) -> Self;
    unsafe fn shift_left<const BITS: u32>(self) -> Self;
    unsafe fn shift_right<const BITS: u32>(self) -> Self;
    /// `other` in the lanes of the set, self in the others.
    unsafe fn select(self, set: LaneSet, other: Self) -> Self;
    /// The lower and the upper half of each block of a row of each lane, blocks past BLOCKS anything.
    unsafe fn columns(rows: *const *const u8) -> [[Self; 2]; MAX_BLOCKS];
}

type Limbs<V> = [V; 5];

/// A number to multiply with: its limbs, and the upper four times 5. (2^130 ≡ 5.)
#[derive(Clone, Copy)]
struct Factor<V> {
    r: Limbs<V>,
    s: [V; 4],
}

/// r to r⁴ (as far as a row has blocks), and what is added in the end.
pub(crate) struct Key<V> {
    powers: [Factor<V>; MAX_BLOCKS],
    s: [V; 2],
}

/// The hash of each lane, its limbs a little above their bits.
#[derive(Clone, Copy)]
pub(crate) struct Hash<V>(Limbs<V>);

#[inline(always)]
unsafe fn limbs<V: Wide>(low: V, high: V) -> Limbs<V> {
    let mask = V::splat(MASK);
    [
        low.and(mask),
        low.shift_right::<26>().and(mask),
        low.shift_right::<52>().or(high.shift_left::<12>()).and(mask),
        high.shift_right::<14>().and(mask),
        high.shift_right::<40>(),
    ]
}

#[inline(always)]
unsafe fn block<V: Wide>([low, high]: [V; 2]) -> Limbs<V> {
    let mut limbs = limbs(low, high);
    limbs[4] = limbs[4].or(V::splat(HIGH_BIT));
    limbs
}

impl<V: Wide> Factor<V> {
    #[inline(always)]
    unsafe fn new(r: Limbs<V>) -> Self {
        let mut s = [r[1], r[2], r[3], r[4]];
        for s in &mut s {
            *s = s.add(s.shift_left::<2>());
        }
        Self { r, s }
    }
}

/// Add the products of `x` and `factor` to the sums of each limb's weight.
#[inline(always)]
unsafe fn add_products<V: Wide>(sums: &mut Limbs<V>, x: &Limbs<V>, factor: &Factor<V>) {
    for (i, sum) in sums.iter_mut().enumerate() {
        for (j, x) in x.iter().enumerate() {
            // x[j] times the limb of weight i - j, or 5 times that of i - j + 5.
            let factor = if j <= i { factor.r[i - j] } else { factor.s[i + 4 - j] };
            *sum = sum.add(x.multiply(factor));
        }
    }
}

/// Each limb at most a little above its bits.
#[inline(always)]
unsafe fn reduce<V: Wide>(mut d: Limbs<V>) -> Limbs<V> {
    let mask = V::splat(MASK);
    for i in 0..4 {
        d[i + 1] = d[i + 1].add(d[i].shift_right::<26>());
        d[i] = d[i].and(mask);
    }
    let over = d[4].shift_right::<26>();
    d[4] = d[4].and(mask);
    d[0] = d[0].add(over).add(over.shift_left::<2>());
    d[1] = d[1].add(d[0].shift_right::<26>());
    d[0] = d[0].and(mask);
    d
}

#[inline(always)]
unsafe fn multiply<V: Wide>(x: &Limbs<V>, factor: &Factor<V>) -> Limbs<V> {
    let mut sums = [V::splat(0); 5];
    add_products(&mut sums, x, factor);
    reduce(sums)
}

#[inline(always)]
unsafe fn add<V: Wide>(mut x: Limbs<V>, y: &Limbs<V>) -> Limbs<V> {
    for (x, y) in x.iter_mut().zip(y) {
        *x = x.add(*y);
    }
    x
}

impl<V: Wide> Field for Hash<V> {
    const WIDTH: usize = V::WIDTH;
    const ROW: usize = V::BLOCKS * BLOCK_SIZE;
    type Key = Key<V>;

    #[inline(always)]
    unsafe fn key(keys: *const *const u8) -> Key<V> {
        let mut halves = [[0_u64; MAX_WIDTH]; 4];
        for lane in 0..V::WIDTH {
            for (i, half) in halves.iter_mut().enumerate() {
                half[lane] = u64::from_le((*keys.add(lane)).cast::<u64>().add(i).read_unaligned());
            }
        }
        let (r_low, r_high) = (V::load(halves[0].as_ptr()), V::load(halves[1].as_ptr()));
        let (s_low, s_high) = (V::load(halves[2].as_ptr()), V::load(halves[3].as_ptr()));
        let first = Factor::new(limbs(
            r_low.and(V::splat(0x0fff_fffc_0fff_ffff)),
            r_high.and(V::splat(0x0fff_fffc_0fff_fffc)),
        ));
        let mut powers = [first; MAX_BLOCKS];
        for i in 1..V::BLOCKS {
            powers[i] = Factor::new(multiply(&powers[i - 1].r, &first));
        }
        Key { powers, s: [s_low, s_high] }
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([V::splat(0); 5])
    }

    /// A row for one reduction: (h + m₀)·rⁿ + m₁·rⁿ⁻¹ + … + mₙ₋₁·r.
    #[inline(always)]
    unsafe fn absorb_row(self, rows: *const *const u8, key: &Key<V>) -> Self {
        let columns = V::columns(rows);
        let mut sums = [V::splat(0); 5];
        // The hash comes last, since what is before does not wait for it.
        for i in 1..V::BLOCKS {
            let i = V::BLOCKS - i;
            add_products(&mut sums, &block(columns[i]), &key.powers[V::BLOCKS - 1 - i]);
        }
        add_products(&mut sums, &add(self.0, &block(columns[0])), &key.powers[V::BLOCKS - 1]);
        Self(reduce(sums))
    }

    #[inline(always)]
    unsafe fn absorb_rest(mut self, rows: *const *const u8, lengths: *const usize, key: &Key<V>) -> Self {
        let mut padded = [[0_u8; MAX_ROW]; MAX_WIDTH];
        let mut at = [padded[0].as_ptr(); MAX_WIDTH];
        for (lane, (padded, at)) in padded.iter_mut().zip(&mut at).enumerate().take(V::WIDTH) {
            (*rows.add(lane)).copy_to_nonoverlapping(padded.as_mut_ptr(), *lengths.add(lane));
            *at = padded.as_ptr();
        }
        let columns = V::columns(at.as_ptr());
        for (i, column) in columns.into_iter().enumerate().take(V::BLOCKS) {
            let set = lanes_with_more(lengths, V::WIDTH, i * BLOCK_SIZE);
            if set == 0 {
                break;
            }
            let next = multiply(&add(self.0, &block(column)), &key.powers[0]);
            self = self.select(set, Self(next));
        }
        self
    }

    #[inline(always)]
    unsafe fn absorb_lengths(self, lengths: *const usize, key: &Key<V>) -> Self {
        let block = block([V::splat(0), V::load(octets(lengths, V::WIDTH).as_ptr())]);
        Self(multiply(&add(self.0, &block), &key.powers[0]))
    }

    #[inline(always)]
    unsafe fn select(mut self, set: LaneSet, other: Self) -> Self {
        for (limb, other) in self.0.iter_mut().zip(other.0) {
            *limb = limb.select(set, other);
        }
        self
    }

    #[inline(always)]
    unsafe fn finish(self, key: &Key<V>, tags: *mut [u8; 16]) {
        let mut h = [[0_u64; MAX_WIDTH]; 5];
        for (h, limb) in h.iter_mut().zip(self.0) {
            limb.store(h.as_mut_ptr());
        }
        let mut s = [[0_u64; MAX_WIDTH]; 2];
        for (s, half) in s.iter_mut().zip(key.s) {
            half.store(s.as_mut_ptr());
        }
        for lane in 0..V::WIDTH {
            let limb = |i: usize| u128::from(h[i][lane]);
            let low = limb(0) + (limb(1) << 26) + (limb(2) << 52) + (limb(3) << 78);
            let (low, carry) = low.overflowing_add(limb(4) << 104);
            let top = (h[4][lane] >> 24) + u64::from(carry);
            *tags.add(lane) = tag(low, top, [s[0][lane], s[1][lane]]);
        }
    }
}
