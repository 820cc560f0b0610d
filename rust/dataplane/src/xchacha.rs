//! HChaCha20 (draft-irtf-cfrg-xchacha §2.2): the subkey that makes an AEAD with nonces of 24 octets of one
//! with 12.

use zeroize::Zeroizing;

use crate::aead::KEY_SIZE;

const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

fn quarter_round(state: &mut [u32; 16], [a, b, c, d]: [usize; 4]) {
    for (first, second, third, distance) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        state[first] = state[first].wrapping_add(state[second]);
        state[third] = (state[third] ^ state[first]).rotate_left(distance);
    }
}

/// The subkey for the first 16 octets of a nonce. The last eight are the AEAD's counter.
#[must_use]
pub fn derive_subkey(key: &[u8; KEY_SIZE], nonce: &[u8; 16]) -> Zeroizing<[u8; KEY_SIZE]> {
    let mut state = Zeroizing::new([0u32; 16]);
    state[..4].copy_from_slice(&CONSTANTS);
    for (word, octets) in state[4..].iter_mut().zip(key.chunks_exact(4).chain(nonce.chunks_exact(4))) {
        *word = u32::from_le_bytes([octets[0], octets[1], octets[2], octets[3]]);
    }
    for _ in 0..10 {
        for at in 0..4 {
            quarter_round(&mut state, [at, at + 4, at + 8, at + 12]);
        }
        for at in 0..4 {
            quarter_round(&mut state, [at, 4 + (at + 1) % 4, 8 + (at + 2) % 4, 12 + (at + 3) % 4]);
        }
    }
    let mut subkey = Zeroizing::new([0; KEY_SIZE]);
    for (octets, word) in subkey.chunks_exact_mut(4).zip(state[..4].iter().chain(&state[12..])) {
        octets.copy_from_slice(&word.to_le_bytes());
    }
    subkey
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_the_vector_of_the_draft() {
        // draft-irtf-cfrg-xchacha-03 §2.2.1.
        let key = std::array::from_fn(|at| at as u8);
        let nonce = [0, 0, 0, 9, 0, 0, 0, 0x4a, 0, 0, 0, 0, 0x31, 0x41, 0x59, 0x27];
        let hex: String = derive_subkey(&key, &nonce).iter().map(|octet| format!("{octet:02x}")).collect();
        assert_eq!(hex, "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc");
    }
}
