//! Entwined.
#![forbid(unsafe_code)]

pub mod deferred;
#[cfg(feature = "http")]
pub mod http;
mod panic;
pub mod protocol;
pub mod reactor;
pub mod task;
pub mod transport;

pub use reactor::{Handle, Reactor, Remote, Standalone};
