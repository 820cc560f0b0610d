//! What both programs share.

pub mod socket;
