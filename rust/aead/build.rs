//! Rust has AVX-512 in its standard library since 1.89; an older compiler builds without those kernels.

use std::process::Command;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(avx512_intrinsics)");
    let rustc = std::env::var_os("RUSTC").expect("cargo names its compiler");
    let output = Command::new(rustc).arg("--version").output().expect("the compiler runs");
    // "rustc 1.89.0 (…)"
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    if minor.is_some_and(|minor| minor >= 89) {
        println!("cargo::rustc-cfg=avx512_intrinsics");
    }
}
