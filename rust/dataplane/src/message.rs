//! Transport data (paper §5.4.6): type 4 and three zero octets as one LE u32, receiver index, counter, sealed
//! packet, tag.

/// First four octets of transport data, read as one little-endian number.
pub const TYPE_TRANSPORT_DATA: u32 = 4;
/// Type, receiver index, counter.
pub const HEADER_SIZE: usize = 16;
/// Poly1305's.
pub const TAG_SIZE: usize = 16;
/// A keepalive: the smallest transport data.
pub const MIN_TRANSPORT_SIZE: usize = HEADER_SIZE + TAG_SIZE;
/// Packets are padded to a multiple of this.
pub const PADDING_MULTIPLE: usize = 16;
/// A keypair neither sends nor receives a counter that has reached this (paper §6.1).
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// A keypair this old, in nanoseconds, neither sends nor receives (paper §6.1: 180 s).
pub const REJECT_AFTER_TIME: u64 = 180_000_000_000;

/// How long a packet of `length` octets is once padded: to 16, but not past the MTU. MTU 0: to 16 only.
///
/// A packet longer than the MTU is padded by what its part past a multiple of the MTU would be.
#[must_use]
pub fn padded_length(length: usize, mtu: usize) -> usize {
    if mtu == 0 {
        return length.next_multiple_of(PADDING_MULTIPLE);
    }
    let last_unit = if length > mtu { length % mtu } else { length };
    length - last_unit + last_unit.next_multiple_of(PADDING_MULTIPLE).min(mtu)
}

/// Size of the transport message that carries a packet.
#[must_use]
pub fn transport_size(packet_length: usize, mtu: usize) -> usize {
    MIN_TRANSPORT_SIZE + padded_length(packet_length, mtu)
}

/// Write the header of a message into its first 16 octets.
pub fn write_header(message: &mut [u8], receiver_index: u32, counter: u64) {
    message[..4].copy_from_slice(&TYPE_TRANSPORT_DATA.to_le_bytes());
    message[4..8].copy_from_slice(&receiver_index.to_le_bytes());
    message[8..HEADER_SIZE].copy_from_slice(&counter.to_le_bytes());
}

fn le_u32(octets: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(octets.get(..4)?.try_into().ok()?))
}

/// The type of a WireGuard message, None when it is too short to have one.
#[must_use]
pub fn message_type_untrusted(datagram: &[u8]) -> Option<u32> {
    le_u32(datagram)
}

/// Whom transport data is for: the receiver index. None for other messages, and for what is too short to be
/// one.
#[must_use]
pub fn receiver_index_untrusted(datagram: &[u8]) -> Option<u32> {
    if datagram.len() < MIN_TRANSPORT_SIZE || message_type_untrusted(datagram)? != TYPE_TRANSPORT_DATA {
        return None;
    }
    le_u32(&datagram[4..])
}

/// The counter of transport data; zero when it is too short, which [`receiver_index_untrusted`] has ruled
/// out.
#[must_use]
pub fn counter_untrusted(datagram: &[u8]) -> u64 {
    let octets = datagram.get(8..HEADER_SIZE).and_then(|octets| octets.try_into().ok());
    u64::from_le_bytes(octets.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_goes_to_sixteen_and_not_past_the_mtu() {
        for (length, mtu, padded) in [
            (0, 1420, 0),
            (1, 1420, 16),
            (16, 1420, 16),
            (17, 1420, 32),
            (1408, 1420, 1408),
            (1409, 1420, 1420),
            (1419, 1420, 1420),
            (1420, 1420, 1420),
            (1421, 1420, 1436),
            (2840, 1420, 2840),
            (2841, 1420, 2856),
            (2839, 1420, 2840),
            (5, 8, 8),
            (1, 0, 16),
            (1420, 0, 1424),
        ] {
            assert_eq!(padded_length(length, mtu), padded, "{length} octets, MTU {mtu}");
        }
    }

    #[test]
    fn padding_is_the_kernels_formula_at_every_length() {
        for mtu in [0, 1, 15, 16, 17, 68, 1280, 1420] {
            for length in 0..4000usize {
                let mut last_unit = length;
                if mtu != 0 && last_unit > mtu {
                    last_unit %= mtu;
                }
                let mut aligned = last_unit.div_ceil(16) * 16;
                if mtu != 0 {
                    aligned = aligned.min(mtu);
                }
                assert_eq!(padded_length(length, mtu), length + aligned - last_unit);
            }
        }
    }

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        let mut message = [0xff; 32];
        write_header(&mut message, 0x0102_0304, 0x1122_3344_5566_7788);
        assert_eq!(message[..8], [4, 0, 0, 0, 4, 3, 2, 1]);
        assert_eq!(receiver_index_untrusted(&message), Some(0x0102_0304));
        assert_eq!(counter_untrusted(&message), 0x1122_3344_5566_7788);
        assert_eq!(receiver_index_untrusted(&message[..31]), None);
        for reserved in 1..4 {
            let mut other = message;
            other[reserved] = 1;
            assert_eq!(receiver_index_untrusted(&other), None, "the three zero octets belong to the type");
        }
    }
}
