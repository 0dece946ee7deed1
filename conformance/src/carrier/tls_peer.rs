//! A TLS client that is rustls' own and not ours.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::rig::dial;

/// A TLS client that is rustls' own and not ours.
pub(crate) struct TlsPeer {
    pub(super) stream: StreamOwned<ClientConnection, TcpStream>,
    /// Whether it sends `close_notify` on drop.
    pub(super) polite: bool,
}

impl TlsPeer {
    pub(super) fn new(config: &Arc<ClientConfig>, address: SocketAddr) -> Self {
        let name = "localhost".try_into().expect("a name");
        let client = ClientConnection::new(config.clone(), name).expect("a client");
        let mut stream = StreamOwned::new(client, dial(address));
        while stream.conn.is_handshaking() {
            stream
                .conn
                .complete_io(&mut stream.sock)
                .expect("a handshake");
        }
        // The session tickets arrive after the handshake. If they stayed unread, this peer's close
        // would become a reset.
        while stream.conn.tls13_tickets_received() < 2 {
            stream.conn.read_tls(&mut stream.sock).expect("tickets");
            stream.conn.process_new_packets().expect("tickets");
        }
        TlsPeer {
            stream,
            polite: true,
        }
    }

    pub(super) fn end(&mut self) -> io::Result<()> {
        self.stream.conn.send_close_notify();
        self.stream.flush()
    }
}

impl Drop for TlsPeer {
    fn drop(&mut self) {
        if self.polite {
            // The other side may be gone.
            let _ = self.end();
        }
    }
}
