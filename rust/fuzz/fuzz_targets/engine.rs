//! See `wgpy_fuzz::engine`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wgpy_fuzz::engine(data));
