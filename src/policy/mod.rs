//! Policies: rules for connections that do not depend on the protocol. Each wraps a stream, so it
//! works for protocols, async code and HTTP alike.
//!
//! ```
//! use std::time::Duration;
//! use entwined::{
//!     Standalone,
//!     policy::{Bucket, PerPeer, RateLimited, IdleTimeout},
//!     protocol::{self, Echo},
//!     transport::{Listen, tcp},
//! };
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let peers = PerPeer::new(10);
//! let everybody = Bucket::new(10_000_000, 100_000);
//! let listener = tcp::listen(&handle, "127.0.0.1:0")?
//!     .map_stream(move |stream| peers.wrap(stream))
//!     .map_stream({
//!         let handle = handle.clone();
//!         move |stream| IdleTimeout::new(&handle, stream, Duration::from_secs(60))
//!     })
//!     .map_stream({
//!         let handle = handle.clone();
//!         move |stream| RateLimited::new(&handle, stream, Some(everybody.clone()), None)
//!     });
//! let server = protocol::serve(listener, |_| Some(Echo));
//! # handle.call_soon({ let handle = handle.clone(); move || handle.stop() });
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A server itself limits its total number of connections: see
//! [`Server::set_max_connections`](crate::protocol::Server::set_max_connections).

mod bucket;
mod log;
mod peers;
mod rate;
mod timeout;

pub use bucket::TokenBucket;
pub use log::TrafficLog;
pub use peers::{Counted, PerPeer};
pub use rate::{Bucket, RateLimited};
pub use timeout::IdleTimeout;
