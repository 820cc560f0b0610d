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

/// A random number.
#[must_use]
pub fn random_u32() -> u32 {
    let mut octets = [0; 4];
    fill_random(&mut octets);
    u32::from_ne_bytes(octets)
}
