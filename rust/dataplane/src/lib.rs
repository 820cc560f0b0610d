//! The data plane of wgpy: what happens to a packet between the TUN and the socket.
//!
//! No Python, no I/O, no clock. Instants are nanoseconds of the boot-time clock, handed in. Names are the
//! paper's and the kernel's. Nothing panics on the content of a packet or datagram, whoever sent it.
//!
//! Out: [`superpacket`] splits what the TUN gave, [`fragment`] what is too long for its path, [`send`] lays the segments out as transport messages in
//! runs fit for one send each, [`keypair`] numbers and seals them. In: [`receive`] opens a run, checks where
//! its packets say they are from ([`allowed_ips`]) and [`coalesce`] joins them for the TUN.

pub mod aead;
pub mod allowed_ips;
pub mod checksum;
pub mod coalesce;
pub mod engine;
pub mod fragment;
#[cfg(target_os = "linux")]
pub mod host;
pub mod inner;
pub mod keypair;
pub mod message;
#[cfg(test)]
mod random;
pub mod receive;
pub mod relay;
pub mod replay;
pub mod send;
pub mod superpacket;
pub mod virtio;
mod xchacha;
