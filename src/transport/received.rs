//! What is known of a datagram.

use crate::address::Address;

/// A datagram that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedDatagram {
    /// Number of bytes in the buffer.
    pub count: usize,
    /// The sender.
    pub from: Address,
    /// Whether the datagram was longer than the buffer, so that its end is lost.
    pub truncated: bool,
}
