//! The corpora, and random inputs, without a fuzzer. `FUZZ_INPUTS` says how many inputs of each target.

use std::fs;
use std::path::Path;

use wgpy_fuzz::TARGETS;

const INPUTS: usize = 2000;
const LONGEST: usize = 4096;

/// xorshift64*; the same inputs each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn octets(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.next() >> 32) as u8).collect()
    }
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut paths: Vec<_> = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn every_input_of_the_corpora_keeps_every_promise() {
    for (name, target) in TARGETS {
        let inputs = corpus(name);
        assert!(inputs.len() >= 10, "{name} has {} inputs", inputs.len());
        inputs.iter().for_each(|input| target(input));
    }
}

#[test]
fn random_inputs_and_the_corpora_changed_at_random_keep_every_promise() {
    let count = std::env::var("FUZZ_INPUTS").map_or(INPUTS, |count| count.parse().expect("a number"));
    for (name, target) in TARGETS {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let inputs = corpus(name);
        for number in 0..count {
            let mut input = match number % 4 {
                0 => {
                    let length = random.next() as usize % LONGEST;
                    random.octets(length)
                }
                _ => inputs[random.next() as usize % inputs.len()].clone(),
            };
            for _ in 0..number % 8 {
                if !input.is_empty() {
                    let at = random.next() as usize % input.len();
                    input[at] = random.next() as u8;
                }
            }
            target(&input);
        }
    }
}
