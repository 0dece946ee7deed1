//! The echo protocol, RFC 862.

use super::{Flow, Protocol, Transport};

/// Sends back what it receives (RFC 862). It stops reading from a peer that does not read.
#[derive(Debug, Default, Clone, Copy)]
pub struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        if transport.write(data) == Flow::Full {
            transport.pause_reading();
        }
    }

    fn resume_writing(&mut self, transport: &Transport) {
        transport.resume_reading();
    }
}
