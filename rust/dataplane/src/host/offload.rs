//! What the kernel may do for us, and what it got wrong.

use std::ffi::CStr;

/// Each of the offloads: wanted, or found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    /// TCP superpackets through the TUN.
    pub tso: bool,
    /// UDP superpackets through the TUN.
    pub uso: bool,
    /// Many datagrams by one send.
    pub gso: bool,
    /// Many datagrams by one receive.
    pub gro: bool,
}

/// Kernels 7.0 to 7.1.4 corrupt a UDP_SEGMENT send whose last datagram is as long as the others.
#[must_use]
pub fn equal_tail_is_corrupted(release: &str) -> bool {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>());
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return false };
    // "7.0-rc1" has an empty part, "7.1.4-1" another number behind.
    let patch = if release[release.find('.').map_or(0, |at| at + 1)..].contains('.') {
        parts.next().and_then(Result::ok).unwrap_or(0)
    } else {
        0
    };
    (7, 0, 0) <= (major, minor, patch) && (major, minor, patch) < (7, 1, 5)
}

/// `uname -r`.
#[must_use]
pub fn kernel_release() -> String {
    // SAFETY: all zeros is a utsname.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is one to write to.
    if unsafe { libc::uname(&mut name) } != 0 {
        return String::new();
    }
    // SAFETY: the kernel has ended it with a zero within the array.
    unsafe { CStr::from_ptr(name.release.as_ptr()) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_corrupt_an_equal_tail_are_known_by_their_release() {
        for (release, corrupts) in [
            ("6.18.44-fc", false),
            ("6.19.99", false),
            ("7.0-rc1", true),
            ("7.0.0-rc3", true),
            ("7.0.12-generic", true),
            ("7.1-arch1", true),
            ("7.1.4-1", true),
            ("7.1.5", false),
            ("7.2-rc1", false),
            ("8.0.1", false),
            ("", false),
            ("seven", false),
        ] {
            assert_eq!(equal_tail_is_corrupted(release), corrupts, "{release}");
        }
        assert!(!kernel_release().is_empty());
    }
}
