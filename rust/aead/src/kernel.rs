//! The kernels: which instructions seal and open, and what a machine has of them.

use crate::batch::Message;
use crate::chacha::{Beside, Lanes};

/// How batches are sealed and opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// ring, one message at a time.
    Library,
    /// Eight blocks in vectors of 256 bits, hashes on the scalar units.
    Avx2,
    /// Sixteen blocks in vectors of 512 bits, eight hashes.
    Avx512,
    /// The same with Poly1305 by IFMA's products of 52 bits.
    Avx512Ifma,
    /// Four blocks in vectors of 128 bits, two hashes.
    Neon,
}

/// How a kernel makes keystream.
pub(crate) trait Instructions {
    /// XOR the lanes' texts with their keystream, and do meanwhile what there is to do.
    ///
    /// # Safety
    /// The machine has the kernel. Each lane's text is as long as it says, and no two overlap. As for [`Beside::step`].
    unsafe fn xor_lanes<B: Beside>(key: &[u32; 8], lanes: &Lanes, beside: &mut B);
}

/// What is hashed when, and by which units.
pub(crate) trait Order {
    /// Seal at most [`crate::MAX_BATCH`] messages.
    ///
    /// # Safety
    /// The machine has the kernel.
    unsafe fn seal<I: Instructions>(key: &[u32; 8], messages: &mut [Message<'_>]);

    /// Open at most [`crate::MAX_BATCH`] messages. What is not authentic stays ciphertext.
    ///
    /// # Safety
    /// The machine has the kernel.
    unsafe fn open<I: Instructions>(key: &[u32; 8], messages: &mut [Message<'_>]);
}

/// Seal or open a batch.
///
/// # Safety
/// The machine has the kernel. At most [`crate::MAX_BATCH`] messages.
type OnBatch = unsafe fn(key: &[u32; 8], messages: &mut [Message<'_>]);

/// The two uses of a kernel.
pub(crate) struct Functions {
    pub seal: OnBatch,
    pub open: OnBatch,
}

impl Kernel {
    /// All of them, the one to be preferred first.
    pub const ALL: [Self; 5] = [Self::Avx512Ifma, Self::Avx512, Self::Avx2, Self::Neon, Self::Library];

    /// What `WGPY_AEAD` calls it. Which of the two of AVX-512 is the machine's matter.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Library => "library",
            Self::Avx2 => "avx2",
            Self::Avx512 | Self::Avx512Ifma => "avx512",
            Self::Neon => "neon",
        }
    }

    /// For people.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Library => "library (ring)",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Ifma => "avx512 with IFMA",
            Self::Neon => "neon",
        }
    }

    /// Whether this machine has what it takes.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Library => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"),
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512Ifma => {
                Self::Avx512.is_available()
                    && is_x86_feature_detected!("avx512ifma")
                    && is_x86_feature_detected!("avx512vbmi2")
            }
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Self::Neon => true,
            #[allow(unreachable_patterns, reason = "which of them are left depends on the architecture")]
            _ => false,
        }
    }

    /// Whether it is faster than the library with `count` messages of `octets` in all, as benchmarks/ciphers.py found.
    pub(crate) fn is_worthwhile(self, count: usize, octets: usize) -> bool {
        // One message fills the lanes of ChaCha20 but a single one of Poly1305.
        match self {
            Self::Library => false,
            Self::Avx512Ifma => count >= 2,
            Self::Avx512 | Self::Avx2 => count >= 4,
            // With long messages assembler that hashes on other ports than it enciphers comes out ahead.
            Self::Neon => count >= 4 && octets <= count * 1500,
        }
    }

    /// What it consists of; None for the library. The machine must have the kernel.
    pub(crate) fn functions(self) -> Option<&'static Functions> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Some(&x86::with_avx2::FUNCTIONS),
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512 => Some(&x86::with_avx512::FUNCTIONS),
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512Ifma => Some(&x86::with_ifma::FUNCTIONS),
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Self::Neon => Some(&arm::with_neon::FUNCTIONS),
            _ => None,
        }
    }
}

/// A kernel: where an order is compiled with the instructions it is to use.
macro_rules! kernel {
    ($name:ident, $features:literal, $xor_lanes:path, $order:ty) => {
        pub(super) mod $name {
            use super::*;

            struct Kernel;

            impl Instructions for Kernel {
                #[inline(always)]
                unsafe fn xor_lanes<B: Beside>(key: &[u32; 8], lanes: &Lanes, beside: &mut B) {
                    // SAFETY: as this function's.
                    unsafe { $xor_lanes(key, lanes, beside) }
                }
            }

            /// # Safety
            /// As for [`Order::seal`].
            #[target_feature(enable = $features)]
            unsafe fn seal(key: &[u32; 8], messages: &mut [Message<'_>]) {
                // SAFETY: as this function's.
                unsafe { <$order>::seal::<Kernel>(key, messages) }
            }

            /// # Safety
            /// As for [`Order::open`].
            #[target_feature(enable = $features)]
            unsafe fn open(key: &[u32; 8], messages: &mut [Message<'_>]) {
                // SAFETY: as this function's.
                unsafe { <$order>::open::<Kernel>(key, messages) }
            }

            pub(in super::super) static FUNCTIONS: Functions = Functions { seal, open };
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #[cfg(avx512_intrinsics)]
    use std::arch::x86_64::__m512i;

    use super::{Functions, Instructions, Order};
    use crate::avx2;
    use crate::batch::Message;
    use crate::beside::HashesBeside;
    use crate::chacha::{Beside, Lanes};
    #[cfg(avx512_intrinsics)]
    use crate::{avx512, ifma, in_lanes::HashesInLanes, poly26};

    kernel!(with_avx2, "avx2", avx2::xor_lanes, HashesBeside);
    #[cfg(avx512_intrinsics)]
    kernel!(with_avx512, "avx512f,avx512bw", avx512::xor_lanes, HashesInLanes<poly26::Hash<__m512i>>);
    #[cfg(avx512_intrinsics)]
    kernel!(
        with_ifma,
        "avx512f,avx512bw,avx512ifma,avx512vbmi2",
        avx512::xor_lanes,
        HashesInLanes<ifma::Hash>
    );
}

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod arm {
    use std::arch::aarch64::uint64x2_t;

    use super::{Functions, Instructions, Order};
    use crate::batch::Message;
    use crate::chacha::{Beside, Lanes};
    use crate::in_lanes::HashesInLanes;
    use crate::neon;
    use crate::poly26::Hash;

    kernel!(with_neon, "neon", neon::xor_lanes, HashesInLanes<Hash<uint64x2_t>>);
}
