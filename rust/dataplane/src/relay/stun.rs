//! STUN Binding requests (RFC 8489), answered. Layouts are in `wgpy/mesh/stun.py`.

use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use blake2::digest::Mac;

use super::cookie::mac;

const HEADER_SIZE: usize = 20;
const MAGIC: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const REQUEST: [u8; 2] = [0, 1];
const ANSWER: [u8; 2] = [1, 1];
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const OTHER_ADDRESS: u16 = 0x802c;
const RECEIPT_FOR: u16 = 0xfd57;
const RECEIPT: u16 = 0xfd58;
const TAG_SIZE: usize = 8;
/// Of a receipt, whose layout is in `wgpy/mesh/receipt.py`: a time, and a MAC.
const RECEIPT_SIZE: usize = 20;
/// Two IPv6 addresses and a receipt.
const MOST: usize = HEADER_SIZE + 2 * 24 + 4 + RECEIPT_SIZE;

/// An answer, as long as `size`.
pub struct Answer {
    octets: [u8; MOST],
    size: usize,
}

impl Answer {
    /// What to send.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets[..self.size]
    }

    fn push(&mut self, octets: &[u8]) {
        self.octets[self.size..self.size + octets.len()].copy_from_slice(octets);
        self.size += octets.len();
    }

    fn push_address(&mut self, kind: u16, endpoint: SocketAddr, mask: [u8; 16]) {
        let port = endpoint.port() ^ u16::from_be_bytes([mask[0], mask[1]]);
        let mut put = |family: u8, address: &[u8]| {
            self.push(&kind.to_be_bytes());
            self.push(&(4 + address.len() as u16).to_be_bytes());
            self.push(&[0, family]);
            self.push(&port.to_be_bytes());
            address.iter().zip(mask).for_each(|(one, other)| self.push(&[one ^ other]));
        };
        match endpoint.ip() {
            IpAddr::V4(address) => put(1, &address.octets()),
            IpAddr::V6(address) => put(2, &address.octets()),
        }
    }
}

/// Whether it is a Binding request: its first octets, and attributes that fill it as it says.
#[must_use]
pub fn is_request_untrusted(datagram: &[u8]) -> bool {
    let Some(header) = datagram.get(..HEADER_SIZE) else { return false };
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    header[..2] == REQUEST && header[4..8] == MAGIC && length == datagram.len() - HEADER_SIZE
}

/// The answer to a request that came from `mapped`; `other` is where we listen, too. None when the answer
/// would be the longer of the two: nobody shall use us to amplify. Who names himself gets a receipt under
/// `receipt_key`.
#[must_use]
pub fn answer(
    request: &[u8],
    mapped: SocketAddr,
    other: Option<SocketAddr>,
    receipt_key: &[u8; 32],
) -> Option<Answer> {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC);
    mask[4..].copy_from_slice(&request[8..HEADER_SIZE]);
    let mut made = Answer { octets: [0; MOST], size: 0 };
    made.push(&ANSWER);
    made.push(&[0, 0]);
    made.push(&request[4..HEADER_SIZE]);
    made.push_address(XOR_MAPPED_ADDRESS, mapped, mask);
    if let Some(other) = other {
        made.push_address(OTHER_ADDRESS, other, [0; 16]);
    }
    if let Some(tag) = tag_untrusted(request) {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let when = (since_1970.as_secs() as u32).to_be_bytes();
        let address = match mapped.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        made.push(&RECEIPT.to_be_bytes());
        made.push(&(RECEIPT_SIZE as u16).to_be_bytes());
        made.push(&when);
        made.push(&mac(receipt_key, &[tag, &address.octets(), &when]).finalize().into_bytes());
    }
    let length = (made.size - HEADER_SIZE) as u16;
    made.octets[2..4].copy_from_slice(&length.to_be_bytes());
    (made.size <= request.len()).then_some(made)
}

/// Who wants a receipt.
fn tag_untrusted(request: &[u8]) -> Option<&[u8]> {
    let mut rest = request.get(HEADER_SIZE..)?;
    while let [kind0, kind1, length0, length1, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*length0, *length1]));
        let value = tail.get(..length)?;
        if u16::from_be_bytes([*kind0, *kind1]) == RECEIPT_FOR {
            return (length == TAG_SIZE).then_some(value);
        }
        rest = tail.get(length.next_multiple_of(4)..)?;
    }
    None
}
