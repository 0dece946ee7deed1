//! The tests of the core over its public API, in one program.

mod accept;
mod addresses;
mod cooperate;
#[cfg(windows)]
mod ctrl_c;
mod datagram;
mod deferred;
#[cfg(feature = "tls")]
mod endpoint;
mod framing;
mod host;
mod last_words;
mod layers;
mod log;
#[cfg(target_os = "linux")]
mod on_linux;
#[cfg(windows)]
mod on_windows;
mod policy;
mod process;
mod proxy;
#[cfg(feature = "rpc")]
mod rpc;
mod run;
mod run_end;
mod service;
mod streams;
mod thread;
mod thread_end;
#[cfg(feature = "tls-development")]
mod tls;
mod turn_hooks;
mod wakers;
