//! See `wgpy_fuzz::seal_open`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wgpy_fuzz::seal_open(data));
