//! The tests of the core over its public API, in one program.

mod accept;
mod addresses;
mod cooperate;
mod datagram;
mod deferred;
#[cfg(feature = "tls")]
mod endpoint;
mod framing;
mod host;
mod layers;
mod log;
mod policy;
mod process;
mod process_protocol;
mod proxy;
#[cfg(feature = "rpc")]
mod rpc;
mod run;
mod service;
mod signal;
mod thread;
#[cfg(feature = "tls-development")]
mod tls;
mod turn_hooks;
