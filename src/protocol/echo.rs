//! The echo protocol, RFC 862.

use super::{Connection, Flow, Protocol};

/// Sends back what it receives (RFC 862). It stops reading from a peer that does not read.
#[derive(Debug, Default, Clone, Copy)]
pub struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, connection: &Connection, data: &[u8]) {
        if connection.write(data) == Flow::Full {
            connection.pause_reading();
        }
    }

    fn resume_writing(&mut self, connection: &Connection) {
        connection.resume_reading();
    }
}
