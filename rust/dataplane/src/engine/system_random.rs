//! Random octets of the system.

use std::io;

/// Fill with octets that nobody can guess.
///
/// # Panics
///
/// When the system has none, which no kernel since 3.17 says once it is up.
pub fn fill_random(mut octets: &mut [u8]) {
    while !octets.is_empty() {
        // SAFETY: pointer and length are those of a slice that may be written to.
        let got = unsafe { libc::getrandom(octets.as_mut_ptr().cast(), octets.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => octets = &mut octets[got..],
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            Err(_) => panic!("the system gives no random octets: {}", io::Error::last_os_error()),
        }
    }
}

/// Octets fetched at once.
const POOL_SIZE: usize = 1536;

/// Random octets for what is public, such as nonces: a call of the kernel for many. Each is given once.
pub struct RandomPool {
    octets: [u8; POOL_SIZE],
    left: usize,
}

impl Default for RandomPool {
    fn default() -> Self {
        Self { octets: [0; POOL_SIZE], left: 0 }
    }
}

impl RandomPool {
    /// Fill with at most [`POOL_SIZE`] octets.
    ///
    /// # Panics
    ///
    /// As [`fill_random`], and when that is asked for more.
    pub fn fill(&mut self, octets: &mut [u8]) {
        assert!(octets.len() <= POOL_SIZE, "{} octets are asked of {POOL_SIZE}", octets.len());
        if self.left < octets.len() {
            fill_random(&mut self.octets);
            self.left = POOL_SIZE;
        }
        let rest = self.left - octets.len();
        octets.copy_from_slice(&self.octets[rest..self.left]);
        self.left = rest;
    }
}

/// A random number.
#[must_use]
pub fn random_u32() -> u32 {
    let mut octets = [0; 4];
    fill_random(&mut octets);
    u32::from_ne_bytes(octets)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_octets_of_the_pool_are_given_twice() {
        let mut pool = RandomPool::default();
        let nonces: HashSet<[u8; 24]> = (0..1000)
            .map(|_| {
                let mut nonce = [0; 24];
                pool.fill(&mut nonce);
                nonce
            })
            .collect();
        assert_eq!(nonces.len(), 1000);
        assert!(!nonces.contains(&[0; 24]));
    }
}
