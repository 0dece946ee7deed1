//! Tests of what only Linux has, or all Unix systems: file descriptors, Unix sockets, processes and
//! signals. Many have programs of others as peers.

mod accept;
mod addresses;
mod datagram;
#[cfg(feature = "tls")]
mod endpoint;
mod framing;
mod policy;
mod process;
mod process_protocol;
mod proxy;
#[cfg(feature = "rpc")]
mod rpc;
mod service;
mod signal;
mod thread;
