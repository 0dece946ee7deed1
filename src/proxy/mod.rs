//! The [PROXY protocol](https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt), versions 1
//! and 2: a header before the first byte, in which a proxy names the client that it acts for.
//!
//! ```
//! use entwined::{
//!     Standalone,
//!     protocol::{self, Echo},
//!     proxy::Proxied,
//!     transport::{ByteStream, Listen, tcp},
//! };
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let listener = tcp::listen(&handle, "127.0.0.1:0")?.map_stream(|stream| {
//!     // Only the proxy may send a header; other clients are served under their own address.
//!     let from_proxy = ByteStream::peer_address(&stream)
//!         .tcp()
//!         .is_some_and(|peer| peer.ip().is_loopback());
//!     Proxied::new(stream, from_proxy)
//! });
//! let server = protocol::serve(listener, |client: &_| {
//!     println!("{client} is here");
//!     Some(Echo)
//! });
//! # handle.call_soon({ let handle = handle.clone(); move || handle.stop() });
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod header;
mod stream;

pub use header::{Header, ProxyError};
pub use stream::Proxied;
