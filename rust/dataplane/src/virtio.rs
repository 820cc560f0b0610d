//! virtio_net_hdr: the ten octets before a packet on a TUN with IFF_VNET_HDR, in native byte order.

/// Octets in the header.
pub const HEADER_SIZE: usize = 10;

/// `flags`: the checksum at `checksum_start + checksum_offset` holds the pseudo header's sum only.
pub const NEEDS_CHECKSUM: u8 = 1;

/// One packet.
pub const GSO_NONE: u8 = 0;
/// A TCP superpacket over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// A TCP superpacket over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// A UDP superpacket of whole datagrams.
pub const GSO_UDP_L4: u8 = 5;
/// May stand beside a TCP type: the first segment alone keeps CWR.
pub const GSO_ECN: u8 = 0x80;

/// The header's fields.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct VirtioHeader {
    /// [`NEEDS_CHECKSUM`] or none.
    pub flags: u8,
    /// What the packet is.
    pub gso_type: u8,
    /// Octets of headers; a hint.
    pub header_length: u16,
    /// Octets of payload in each segment but the last.
    pub gso_size: u16,
    /// Where the transport header begins.
    pub checksum_start: u16,
    /// Where in it the checksum is.
    pub checksum_offset: u16,
}

impl VirtioHeader {
    /// Split a packet into its header and what follows.
    #[must_use]
    pub fn split(packet: &[u8]) -> Option<(Self, &[u8])> {
        let (header, rest) = packet.split_first_chunk::<HEADER_SIZE>()?;
        let number = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let header = Self {
            flags: header[0],
            gso_type: header[1],
            header_length: number(2),
            gso_size: number(4),
            checksum_start: number(6),
            checksum_offset: number(8),
        };
        Some((header, rest))
    }

    /// The header as octets.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut octets = [0; HEADER_SIZE];
        octets[0] = self.flags;
        octets[1] = self.gso_type;
        octets[2..4].copy_from_slice(&self.header_length.to_ne_bytes());
        octets[4..6].copy_from_slice(&self.gso_size.to_ne_bytes());
        octets[6..8].copy_from_slice(&self.checksum_start.to_ne_bytes());
        octets[8..].copy_from_slice(&self.checksum_offset.to_ne_bytes());
        octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn any_header_reads_back_as_it_was_written() {
        let mut random = Random::new(6);
        for _ in 0..1000 {
            let octets = random.bytes(HEADER_SIZE + 3);
            let (header, rest) = VirtioHeader::split(&octets).unwrap();
            assert_eq!(header.encode(), octets[..HEADER_SIZE]);
            assert_eq!(rest, &octets[HEADER_SIZE..]);
        }
        assert_eq!(VirtioHeader::split(&[0; 9]), None);
    }
}
