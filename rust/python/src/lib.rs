//! `wgpy._engine`: conversions between Python and `wgpy-dataplane`. `wgpy/_engine.pyi` says what each thing
//! does.
//!
//! What is read of a Python buffer that may change is copied while the GIL is held. Long work is done with
//! the GIL released, on memory that is ours alone; no lock is held while waiting for the GIL.

use pyo3::prelude::*;

mod allowed_ips;
mod crypto;
mod defence;
#[cfg(target_os = "linux")]
mod engine;
mod errors;
mod octets;
mod packets;
mod received;
#[cfg(target_os = "linux")]
mod relay;
mod session;
#[cfg(feature = "simulation")]
mod simulation;
#[cfg(target_os = "linux")]
mod strangers;
#[cfg(target_os = "linux")]
mod timer;

// A caller's buffer must not change while it is copied: the module counts on the GIL for that, and says so.
#[pymodule(gil_used = true)]
mod _engine {
    #[pymodule_export]
    use crate::allowed_ips::AllowedIps;
    #[pymodule_export]
    use crate::crypto::{ReplayWindow, aead_kernel, aead_open, aead_seal, internet_checksum};
    #[pymodule_export]
    use crate::defence::FirstDefence;
    #[cfg(target_os = "linux")]
    #[pymodule_export]
    use crate::engine::Engine;
    #[pymodule_export]
    use crate::packets::{
        coalesce, fragment, longest_segment, looped_receiver_index, segment_count, split_superpacket,
    };
    #[pymodule_export]
    use crate::received::{Opened, Outcome, open_datagrams};
    #[cfg(target_os = "linux")]
    #[pymodule_export]
    use crate::relay::Relay;
    #[pymodule_export]
    use crate::session::Session;
    #[cfg(feature = "simulation")]
    #[pymodule_export]
    use crate::simulation::{
        datagram_arrives, departed, handshake_depth, host_got, host_sends, index_count, refuse, set_now,
        skip_counters,
    };
    #[cfg(target_os = "linux")]
    #[pymodule_export]
    use crate::strangers::Sieve;
    #[cfg(target_os = "linux")]
    #[pymodule_export]
    use crate::timer::{boottime_ns, timerfd_create, timerfd_settime};

    #[pymodule_export]
    const VIRTIO_NET_HDR_SIZE: usize = wgpy_dataplane::virtio::HEADER_SIZE;
    #[pymodule_export]
    const MAX_RUN_SIZE: usize = wgpy_dataplane::send::MAX_RUN_SIZE;
}

/// Work on less than this is done without releasing the GIL: taking it again may cost more than the work.
const DETACH_SIZE: usize = 16 * 1024;

/// Instants cross as float seconds and are counted in nanoseconds below.
fn nanoseconds(seconds: f64) -> u64 {
    // `as` keeps to the bounds, and takes what is not a number for zero.
    (seconds * 1e9).round() as u64
}
