//! ChaCha20 (RFC 8439 §2.3, §2.4) for many blocks at once, one in each lane of sixteen vectors.
//!
//! The blocks need not follow each other: each lane has its counter, its nonce and its place in memory. Blocks of
//! several packets share vectors this way, the blocks of their one-time keys among them, and no lane idles until
//! the last few of a batch.

/// Lanes that are filled before a kernel is called: several times the widest vector's, since a vector that is loaded
/// from places just written waits until all before it is done.
pub(crate) const LANES: usize = 64;
/// Octets of a block.
pub(crate) const BLOCK_SIZE: usize = 64;

/// "expand 32-byte k"
pub(crate) const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// Places that are written at a time, of which those that are not meant are written again by who comes next.
const STRIDE: usize = 16;

/// Blocks to make, and where their octets go.
#[repr(C, align(64))]
pub(crate) struct Lanes {
    pub block: [u32; LANES + STRIDE],
    pub nonce_low: [u32; LANES + STRIDE],
    pub nonce_high: [u32; LANES + STRIDE],
    /// What is XORed with the keystream, in place.
    pub text: [*mut u8; LANES + STRIDE],
    /// Octets at `text`, 0 to 64. A lane that is not in use has 0.
    pub length: [u8; LANES + STRIDE],
    /// Lanes in use, at most LANES.
    pub count: usize,
}

impl Lanes {
    pub fn new() -> Self {
        Self {
            block: [0; LANES + STRIDE],
            nonce_low: [0; LANES + STRIDE],
            nonce_high: [0; LANES + STRIDE],
            text: [std::ptr::null_mut(); LANES + STRIDE],
            length: [0; LANES + STRIDE],
            count: 0,
        }
    }

    /// Add one block; there must be a lane for it.
    #[inline(always)]
    pub fn push_block(&mut self, counter: u64, block: u32, text: *mut u8, length: usize) {
        // Always within: `is_full` was false.
        let lane = self.count.min(LANES - 1);
        self.block[lane] = block;
        self.nonce_low[lane] = counter as u32;
        self.nonce_high[lane] = (counter >> 32) as u32;
        self.text[lane] = text;
        self.length[lane] = length as u8;
        self.count = lane + 1;
    }

    /// Add as many of the blocks of a text as there are lanes for; the number of octets they cover.
    ///
    /// `block`: the number of the first one. The text is `length` octets at `text`.
    #[inline(always)]
    pub fn push(&mut self, counter: u64, block: u32, text: *mut u8, length: usize) -> usize {
        let free = LANES - self.count;
        let blocks = length.div_ceil(BLOCK_SIZE).min(free);
        let mut done = 0;
        while done < blocks {
            let first = self.count + done;
            // Whole vectors of them at a time.
            let (numbers, texts) =
                (&mut self.block[first..first + STRIDE], &mut self.text[first..first + STRIDE]);
            for i in 0..STRIDE {
                numbers[i] = block.wrapping_add((done + i) as u32);
                texts[i] = text.wrapping_add((done + i) * BLOCK_SIZE);
            }
            // The nonce is four zero octets and the counter (paper §5.4.6), so its first word is 0 in all lanes.
            self.nonce_low[first..first + STRIDE].fill(counter as u32);
            self.nonce_high[first..first + STRIDE].fill((counter >> 32) as u32);
            self.length[first..first + STRIDE].fill(BLOCK_SIZE as u8);
            done += STRIDE;
        }
        self.count += blocks;
        let covered = length.min(blocks * BLOCK_SIZE);
        if covered % BLOCK_SIZE > 0 {
            self.length[self.count - 1] = (covered % BLOCK_SIZE) as u8;
        }
        covered
    }

    /// No more blocks will come: what is behind the last is not in use.
    pub fn end(&mut self) {
        self.length[self.count..].fill(0);
    }

    pub fn is_full(&self) -> bool {
        self.count == LANES
    }

    pub fn clear(&mut self) {
        self.count = 0;
    }
}

/// Of ten double rounds, so many have something beside them. Who sees to it that there is always something to do saves
/// the CPU branches that it foretells wrongly, and sixteen blocks of text are hashed in less than the ten.
const ROUNDS_BESIDE: usize = 9;

/// What the scalar units do while the vector units are at the rounds.
pub(crate) trait Beside {
    /// A little of it, if there is anything to do.
    ///
    /// # Safety
    /// What the implementation was made with is still there.
    unsafe fn step(&mut self);
    /// Lanes of these lengths, the next ones in the order in which they were pushed, have been XORed.
    fn xored(&mut self, lengths: &[u8]);
}

/// Nothing.
impl Beside for () {
    #[inline(always)]
    unsafe fn step(&mut self) {}
    #[inline(always)]
    fn xored(&mut self, _lengths: &[u8]) {}
}

/// A vector of 32-bit words.
pub(crate) trait Words: Copy {
    /// How many.
    const WIDTH: usize;
    /// Whether there are registers for all words of the groups that are worked on together.
    const HAVE_REGISTERS: bool;

    /// # Safety
    /// The CPU has the instructions of the implementation; so for all functions here.
    unsafe fn splat(word: u32) -> Self;
    unsafe fn load(words: *const u32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn xor(self, other: Self) -> Self;
    unsafe fn rotate_left_16(self) -> Self;
    unsafe fn rotate_left_12(self) -> Self;
    unsafe fn rotate_left_8(self) -> Self;
    unsafe fn rotate_left_7(self) -> Self;
}

/// The sixteen words of N groups of blocks, N at most 2, beginning with lane `first`. A group has as many blocks as a
/// vector has lanes.
///
/// # Safety
/// The CPU has the instructions of `V`, and `first` leaves lanes for all. As for [`Beside::step`].
#[inline(always)]
pub(crate) unsafe fn keystreams<V: Words, B: Beside, const N: usize>(
    key: &[u32; 8],
    lanes: &Lanes,
    first: usize,
    beside: &mut B,
) -> [[V; 16]; N] {
    const COLUMNS: [[usize; 4]; 4] = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]];
    const DIAGONALS: [[usize; 4]; 4] = [[0, 1, 2, 3], [5, 6, 7, 4], [10, 11, 8, 9], [15, 12, 13, 14]];
    // SAFETY: as this function's.
    unsafe {
        let mut x = [[V::splat(0); 16]; N];
        for (g, x) in x.iter_mut().enumerate() {
            *x = start(key, lanes, first + g * V::WIDTH);
        }
        for round in 0..10 {
            if V::HAVE_REGISTERS {
                side_by_side(&mut x, COLUMNS);
                side_by_side(&mut x, DIAGONALS);
                continue;
            }
            // Written out: in a loop over the halves the compiler would index, and no word would stay in a register.
            one_by_one(&mut x[0], COLUMNS);
            if round < ROUNDS_BESIDE {
                beside.step();
            }
            if N > 1 {
                one_by_one(&mut x[N - 1], COLUMNS);
                if round < ROUNDS_BESIDE {
                    beside.step();
                }
            }
            one_by_one(&mut x[0], DIAGONALS);
            if round < ROUNDS_BESIDE {
                beside.step();
            }
            if N > 1 {
                one_by_one(&mut x[N - 1], DIAGONALS);
                if round < ROUNDS_BESIDE {
                    beside.step();
                }
            }
        }
        for (g, x) in x.iter_mut().enumerate() {
            for (x, start) in x.iter_mut().zip(start::<V>(key, lanes, first + g * V::WIDTH)) {
                *x = x.add(start);
            }
        }
        x
    }
}

/// The words before the first round.
#[inline(always)]
unsafe fn start<V: Words>(key: &[u32; 8], lanes: &Lanes, first: usize) -> [V; 16] {
    // SAFETY: as for `keystreams`.
    unsafe {
        [
            V::splat(CONSTANTS[0]),
            V::splat(CONSTANTS[1]),
            V::splat(CONSTANTS[2]),
            V::splat(CONSTANTS[3]),
            V::splat(key[0]),
            V::splat(key[1]),
            V::splat(key[2]),
            V::splat(key[3]),
            V::splat(key[4]),
            V::splat(key[5]),
            V::splat(key[6]),
            V::splat(key[7]),
            V::load(lanes.block.as_ptr().add(first)),
            V::splat(0),
            V::load(lanes.nonce_low.as_ptr().add(first)),
            V::load(lanes.nonce_high.as_ptr().add(first)),
        ]
    }
}

/// Half a double round of all groups, each step for all of them: none waits for another.
#[inline(always)]
unsafe fn side_by_side<V: Words, const N: usize>(x: &mut [[V; 16]; N], [a, b, c, d]: [[usize; 4]; 4]) {
    // SAFETY: the caller has the instructions of `V`.
    unsafe {
        for x in &mut *x {
            for i in 0..4 {
                x[a[i]] = x[a[i]].add(x[b[i]]);
                x[d[i]] = x[d[i]].xor(x[a[i]]).rotate_left_16();
            }
        }
        for x in &mut *x {
            for i in 0..4 {
                x[c[i]] = x[c[i]].add(x[d[i]]);
                x[b[i]] = x[b[i]].xor(x[c[i]]).rotate_left_12();
            }
        }
        for x in &mut *x {
            for i in 0..4 {
                x[a[i]] = x[a[i]].add(x[b[i]]);
                x[d[i]] = x[d[i]].xor(x[a[i]]).rotate_left_8();
            }
        }
        for x in &mut *x {
            for i in 0..4 {
                x[c[i]] = x[c[i]].add(x[d[i]]);
                x[b[i]] = x[b[i]].xor(x[c[i]]).rotate_left_7();
            }
        }
    }
}

/// Half a double round of one group, a quarter round after the other: four words in registers at a time. The CPU finds
/// by itself what does not wait.
#[inline(always)]
unsafe fn one_by_one<V: Words>(x: &mut [V; 16], [a, b, c, d]: [[usize; 4]; 4]) {
    // SAFETY: the caller has the instructions of `V`.
    unsafe {
        for i in 0..4 {
            let [mut w, mut y, mut z, mut v] = [x[a[i]], x[b[i]], x[c[i]], x[d[i]]];
            w = w.add(y);
            v = v.xor(w).rotate_left_16();
            z = z.add(v);
            y = y.xor(z).rotate_left_12();
            w = w.add(y);
            v = v.xor(w).rotate_left_8();
            z = z.add(v);
            y = y.xor(z).rotate_left_7();
            [x[a[i]], x[b[i]], x[c[i]], x[d[i]]] = [w, y, z, v];
        }
    }
}
