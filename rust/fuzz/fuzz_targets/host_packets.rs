//! See `wgpy_fuzz::host_packets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wgpy_fuzz::host_packets(data));
