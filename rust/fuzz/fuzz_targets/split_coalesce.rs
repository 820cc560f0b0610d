//! See `wgpy_fuzz::split_coalesce`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wgpy_fuzz::split_coalesce(data));
