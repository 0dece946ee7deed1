//! Ready-made [layers](crate::Layer).
//!
//! ```
//! use std::time::Duration;
//! use entwined_http::{Router, layers};
//!
//! let router = Router::new()
//!     .get("/", || "hello")
//!     .layer(layers::timeout(Duration::from_secs(10)))
//!     .layer(layers::request_id())
//!     .layer(layers::access_log());
//! ```

mod auth;
mod basics;
#[cfg(feature = "compression")]
mod compression;
mod cookies;
mod cors;
mod local;
mod random;
#[cfg(feature = "sessions")]
mod session;
mod state;

pub use auth::{basic_auth, bearer_auth, same_secret};
pub use basics::{RequestId, access_log, max_body_size, max_concurrent, request_id, timeout};
#[cfg(feature = "compression")]
pub use compression::{Compression, compression};
pub use cors::{Cors, cors};
pub use local::{LocalOnly, local_only};
#[cfg(feature = "sessions")]
pub use session::{Session, SessionError, SessionKey, Sessions, sessions};
pub use state::state;
