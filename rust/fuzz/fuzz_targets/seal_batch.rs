//! See `wgpy_fuzz::seal_batch`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wgpy_fuzz::seal_batch(data));
