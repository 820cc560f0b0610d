//! See `wgpy_fuzz::allowed_ips`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wgpy_fuzz::allowed_ips(data));
