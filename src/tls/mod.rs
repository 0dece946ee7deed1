//! TLS, by [rustls], as a layer over any [`ByteStream`](crate::transport::ByteStream) (feature
//! `tls`).
//!
//! ```
//! use entwined::{Standalone, protocol::{self, Echo}, tls::{Acceptor, Connector, Roots}, transport::{ByteStream, tcp}};
//! # use entwined::protocol::{Lost, Protocol, Transport};
//! # struct Greeting(entwined::Handle);
//! # impl Protocol for Greeting {
//! #     fn connection_made(&mut self, transport: &Transport) { transport.write(b"hello"); }
//! #     fn data_received(&mut self, transport: &Transport, data: &[u8]) { assert_eq!(data, b"hello"); transport.close(); }
//! #     fn connection_lost(&mut self, why: &Lost) { assert!(matches!(why, Lost::Closed), "{why}"); self.0.stop().unwrap(); }
//! # }
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//!
//! // A certificate for this run; `Identity::from_pem_files` reads one that was issued.
//! let identity = entwined::tls::development::identity(["localhost"])?;
//! let connector = Connector::builder().roots(Roots::only(identity.certificates())).build()?;
//! let acceptor = Acceptor::builder(identity).build()?;
//!
//! let listener = tcp::listen(&handle, ([127, 0, 0, 1], 0).into())?;
//! let address = listener.local_address().tcp().expect("it listens on TCP");
//! let server = protocol::serve(acceptor.listen(listener), |_peer: &_| Some(Echo));
//!
//! handle.clone().spawn(async move {
//!     let stream = tcp::connect(&handle, address).await.expect("a server");
//!     let stream = connector.connect(stream, "localhost").expect("a name");
//!     protocol::start(&handle, stream, Greeting(handle.clone()));
//! }).detach();
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A protocol begins when the handshake is over, so its
//! [`connection_made`](crate::protocol::Protocol::connection_made) can ask who the peer is:
//! `transport.ask(|tls: &TlsStream| tls.peer_certificates().map(<[_]>::to_vec))`. To begin in plain
//! and go on with TLS, as STARTTLS does, use
//! [`Transport::upgrade`](crate::protocol::Transport::upgrade) with [`Acceptor::accept`] or
//! [`Connector::connect`].
//!
//! The same listener serves HTTP: `http::serve(acceptor.listen(listener), router)`.
//!
//! # The end of a connection
//!
//! Each direction ends with a close_notify alert (RFC 8446, 6.1).
//! [Closing](crate::protocol::Transport::close) sends it, and what the peer still sends can be
//! read. An end of input without one is an error of the kind
//! [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof), since somebody may have cut the connection
//! short; protocols that mark the end of what they say by themselves may ignore it. A `TlsStream`
//! that is dropped without being closed sends none.
//!
//! # Bounds
//!
//! For each connection at most 64 KiB that the peer does not take, 64 KiB that has arrived and was
//! not decrypted, and 16 KiB that was decrypted and not read; of a handshake message 64 KiB. The
//! buffers go back when they are empty. A handshake has the time of
//! [`Limits::establish`](crate::protocol::Limits::establish), in HTTP that of a request's head.
//! Sessions are resumed by tickets (RFC 8446, 4.6.1; RFC 5077), so a server keeps none.

mod acceptor;
mod connector;
#[cfg(any(feature = "tls-development", doc))]
pub mod development;
mod error;
mod identity;
mod stream;

use std::sync::Arc;

pub use acceptor::{Acceptor, AcceptorBuilder, ClientCertificates};
pub use connector::{Connector, ConnectorBuilder, Roots};
pub use error::{Error, ProtocolError};
pub use identity::Identity;
/// The library below, for configurations of your own.
pub use rustls;
use rustls::crypto::{CryptoProvider, ring};
pub use stream::TlsStream;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
