//! A relay: packets forwarded between nodes of one network that cannot reach each other (docs/relay.md).
//!
//! One pass over what a receive brought: the datagrams of one sender for one receiver are a run, whose headers
//! are changed where they lie and which leaves by one send. Nothing is queued, copied or allocated for a
//! datagram of a session. Who may have a session is not decided here: a REGISTER whose cookie is right goes
//! up.

mod cookie;
mod forwarder;
#[allow(missing_docs, reason = "they are named as in docs/relay.md")]
pub mod message;
mod sessions;
mod shares;
mod stun;
#[cfg(test)]
mod tests;

pub use forwarder::{Forwarder, Registration, Settings};
pub use sessions::NodeAddress;
