//! Entwined.
#![forbid(unsafe_code)]

#[cfg(feature = "http")]
pub mod http;
pub mod protocol;
pub mod reactor;
pub mod task;
pub mod transport;

pub use reactor::{Handle, Reactor, Remote, Standalone};
