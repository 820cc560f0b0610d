//! What fuzzers do to the data plane and its cipher: each function takes any octets, and panics when a promise is broken.
//!
//! ```sh
//! cargo +nightly fuzz run --fuzz-dir rust/fuzz --features fuzzer split_coalesce
//! ```
//!
//! Their corpora (`corpus/`) replay in `cargo test`, without a fuzzer; so does a number of random inputs.

mod allowed_ips;
mod engine;
mod input;
mod packets;
mod seal_batch;

pub use allowed_ips::allowed_ips;
pub use engine::{engine, host_packets};
pub use packets::{seal_open, split_coalesce};
pub use seal_batch::seal_batch;

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by the name of their corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("engine", engine),
    ("host_packets", host_packets),
    ("split_coalesce", split_coalesce),
    ("seal_open", seal_open),
    ("seal_batch", seal_batch),
    ("allowed_ips", allowed_ips),
];
