//! Control messages of sendmsg and recvmsg, in a buffer of fixed size.

use std::mem::size_of;

const SIZE: usize = 128;

/// Room for control messages, aligned as they must be.
#[repr(C, align(8))]
struct Room([u8; SIZE]);

/// What goes with a datagram.
pub struct ControlWriter {
    room: Room,
    used: usize,
}

impl Default for ControlWriter {
    fn default() -> Self {
        Self { room: Room([0; SIZE]), used: 0 }
    }
}

fn space(length: usize) -> usize {
    // SAFETY: it only computes.
    unsafe { libc::CMSG_SPACE(length as libc::c_uint) as usize }
}

impl ControlWriter {
    /// Add one. All that are ever added together fit.
    pub fn push(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        let end = self.used + space(data.len());
        assert!(end <= SIZE, "control messages are few and short");
        // SAFETY: all zeros is a cmsghdr.
        let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
        // SAFETY: it only computes.
        header.cmsg_len = unsafe { libc::CMSG_LEN(data.len() as libc::c_uint) } as _;
        header.cmsg_level = level;
        header.cmsg_type = kind;
        let place = &mut self.room.0[self.used..end];
        let start = header.cmsg_len as usize - data.len();
        // SAFETY: the place is longer than the header, and `space` keeps it aligned.
        unsafe { place.as_mut_ptr().cast::<libc::cmsghdr>().write(header) };
        place[start..start + data.len()].copy_from_slice(data);
        self.used = end;
    }

    /// Let a message point to what was added.
    pub fn attach(&mut self, message: &mut libc::msghdr) {
        if self.used > 0 {
            message.msg_control = self.room.0.as_mut_ptr().cast();
            message.msg_controllen = self.used as _;
        }
    }
}

/// What comes with a datagram.
pub struct ControlReader(Room);

impl Default for ControlReader {
    fn default() -> Self {
        Self(Room([0; SIZE]))
    }
}

impl ControlReader {
    /// Let a message point to the room.
    pub fn attach(&mut self, message: &mut libc::msghdr) {
        message.msg_control = self.0.0.as_mut_ptr().cast();
        message.msg_controllen = SIZE as _;
    }

    /// Hand out what the kernel put there: level, type, data.
    // musl and glibc differ in the types of these lengths.
    #[allow(clippy::unnecessary_cast)]
    pub fn each(&self, message: &libc::msghdr, mut take: impl FnMut(libc::c_int, libc::c_int, &[u8])) {
        let octets = &self.0.0[..SIZE.min(message.msg_controllen as usize)];
        let mut at = 0;
        // SAFETY: it only computes.
        let header_size = unsafe { libc::CMSG_LEN(0) } as usize;
        while at + header_size <= octets.len() && size_of::<libc::cmsghdr>() <= header_size {
            // SAFETY: a header's octets are there, and any octets are one.
            let header = unsafe { octets[at..].as_ptr().cast::<libc::cmsghdr>().read_unaligned() };
            let length = header.cmsg_len as usize;
            let Some(data) = octets.get(at + header_size..at + length) else { return };
            take(header.cmsg_level, header.cmsg_type, data);
            at += space(length - header_size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut writer = ControlWriter::default();
        writer.push(1, 2, &[3; 12]);
        writer.push(4, 5, &[6, 7]);
        writer.push(8, 9, &[]);
        // SAFETY: all zeros is a msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        writer.attach(&mut message);
        let reader = ControlReader(writer.room);
        let mut read = Vec::new();
        reader.each(&message, |level, kind, data| read.push((level, kind, data.to_vec())));
        assert_eq!(read, [(1, 2, vec![3; 12]), (4, 5, vec![6, 7]), (8, 9, vec![])]);
    }
}
