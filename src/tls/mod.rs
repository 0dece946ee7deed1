//! TLS with [rustls], around any [`ByteStream`](crate::transport::ByteStream) (feature
//! `tls`).
//!
//! ```
//! use entwined::{
//!     Standalone,
//!     protocol::{self, Echo},
//!     tls::{Acceptor, Connector, Roots},
//!     transport::{ByteStream, tcp},
//! };
//! # use entwined::protocol::{Lost, Protocol, Connection};
//! # struct Greeting(entwined::Handle);
//! # impl Protocol for Greeting {
//! #     fn connection_made(&mut self, connection: &Connection) {
//! #         connection.write(b"hello");
//! #     }
//! #     fn data_received(&mut self, connection: &Connection, data: &[u8]) {
//! #         assert_eq!(data, b"hello");
//! #         connection.close();
//! #     }
//! #     fn connection_lost(&mut self, why: &Lost) {
//! #         assert!(matches!(why, Lost::Closed), "{why}");
//! #         self.0.stop();
//! #     }
//! # }
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//!
//! // A certificate for this run; `Identity::from_pem_files` loads an issued one.
//! let identity = entwined::tls::development::identity(["localhost"])?;
//! let connector = Connector::builder().roots(Roots::only(identity.certificates())).build()?;
//! let acceptor = Acceptor::builder(identity).build()?;
//!
//! let listener = tcp::listen(&handle, "127.0.0.1:0")?;
//! let address = listener.local_address().tcp().expect("it listens on TCP");
//! let server = protocol::serve(acceptor.listen(listener), |_| Some(Echo));
//!
//! handle.clone().spawn(async move {
//!     let stream = tcp::connect(&handle, address).await.expect("a server");
//!     let stream = connector.connect(stream, "localhost").expect("a name");
//!     protocol::start(&handle, stream, Greeting(handle.clone()));
//! });
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A protocol starts when the handshake is complete, so its
//! [`connection_made`](crate::protocol::Protocol::connection_made) can check the peer's identity:
//! `connection.ask(|tls: &TlsStream| tls.peer_certificates().map(<[_]>::to_vec))`. To start
//! unencrypted and switch to TLS later, as STARTTLS does, use
//! [`Connection::upgrade`](crate::protocol::Connection::upgrade) with [`Acceptor::accept`] or
//! [`Connector::connect`].
//!
//! The same listener can serve HTTP: `http::serve(acceptor.listen(listener), router)`.
//!
//! # Handshakes
//!
//! A handshake can take longer than a frame can wait: with an RSA key of 4096 bits and the curve
//! P-384, eight milliseconds. So it is done on a thread, while the loop goes on. All handshakes of
//! the process share one thread fewer than there are processors, but one at least. What a custom
//! configuration calls, such as a verifier of certificates, is called there; its panic is an error
//! of the connection. In a [`Simulation`](crate::simulation::Simulation) everything is done on one
//! thread.
//!
//! # The end of a connection
//!
//! Each direction ends with a close_notify alert (RFC 8446, section 6.1).
//! [Closing](crate::protocol::Connection::close) the connection sends it; what the peer still sends
//! can be read.
//!
//! An end of input without the alert is an error of kind
//! [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof), because an attacker may have truncated the
//! connection. Protocols that mark the end of their messages themselves may ignore this error. A
//! `TlsStream` that is dropped without being closed sends no alert.
//!
//! # Bounds
//!
//! Each connection buffers at most 64 KiB that the peer does not take, 64 KiB that has arrived but
//! is not decrypted, and 16 KiB that is decrypted but not read. A handshake message may have 64
//! KiB. Of the certificates of issuers that a peer sends, the first ten are looked at: repetitions
//! and the roots' own do not count, and only one may have the subject of a root or of one before
//! it. (A custom configuration has rustls's limits, which let a peer hold a thread for 100 ms.)
//! The buffers are freed when they are empty. A handshake must complete within
//! [`Config::establish_timeout`](crate::protocol::Config::establish_timeout); in HTTP, within the
//! time limit for a request's head. Sessions are resumed with tickets (RFC 8446, section 4.6.1; RFC
//! 5077), so a server stores none.

mod acceptor;
mod chain;
mod connector;
#[cfg(any(feature = "tls-development", doc))]
pub mod development;
mod engine;
mod error;
mod identity;
mod records;
mod stream;

use std::sync::Arc;

pub use acceptor::{Acceptor, AcceptorBuilder, ClientCertificates};
pub use connector::{Connector, ConnectorBuilder, Roots};
pub use error::{Error, ProtocolError};
pub use identity::Identity;
/// The rustls crate, for custom configurations.
pub use rustls;
use rustls::crypto::{CryptoProvider, ring};
pub use stream::TlsStream;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
