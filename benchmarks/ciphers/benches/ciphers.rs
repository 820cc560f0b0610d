//! Nanoseconds a packet, a line of JSON a sample: {"size": …, "batch": …, "cipher": …, "ns": …}. The ciphers take turns
//! within a round, so that a noisy machine spoils a round for all of them.

use std::time::Instant;

use ciphers::sealers;

const SIZES: [usize; 4] = [64, 256, 1424, 8192];
const BATCHES: [usize; 4] = [1, 4, 16, 44];
/// Octets a sample seals, about.
const SAMPLE: usize = 400_000;

fn main() {
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(25);
    let mut sealers = sealers();
    let mut texts = vec![0; SIZES[3] * BATCHES[3]];
    for size in SIZES {
        for batch in BATCHES {
            let repeats = (SAMPLE / (size * batch + 200)).max(1);
            for _ in 0..rounds {
                for sealer in &mut sealers {
                    let mut run = |repeats: usize| {
                        let started = Instant::now();
                        for i in 0..repeats {
                            sealer.seal((i * batch) as u64, &mut texts[..size * batch], size);
                        }
                        started.elapsed().as_nanos() as f64 / (repeats * batch) as f64
                    };
                    run(1);
                    let ns = run(repeats);
                    let cipher = sealer.name();
                    println!(r#"{{"size": {size}, "batch": {batch}, "cipher": "{cipher}", "ns": {ns:.1}}}"#);
                }
            }
        }
    }
}
