//! What the window and the load of `cargo xtask bench soak` share.

use std::net::SocketAddr;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// Where the window's servers are. The window prints it as a line of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Addresses {
    /// HTTP/1.1 and HTTP/2.
    pub http: SocketAddr,
    /// The same over TLS.
    pub https: SocketAddr,
    /// The echo protocol.
    pub echo: SocketAddr,
    /// The same over TLS.
    pub tls_echo: SocketAddr,
    /// Calls between programs.
    pub rpc: SocketAddr,
    /// The certificates of the servers with TLS, as DER.
    pub certificates: Vec<Vec<u8>>,
}

/// What the window says about itself at `/figures`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Live tasks.
    pub tasks: usize,
    /// Pending timers.
    pub timers: usize,
    /// File descriptors watched.
    pub sources: usize,
    /// Open connections.
    pub connections: usize,
    /// Connections opened since the start.
    pub opened: u64,
    /// Frames drawn since the start.
    pub drawn: u64,
    /// Frames lost since the start.
    pub lost: u64,
    /// The time since the start, in milliseconds.
    pub time: f64,
    /// How long the thread has waited for a processor since the start, in milliseconds.
    pub waited: f64,
    /// 99 of 100 frame gaps since the last question were at most this long, in milliseconds.
    pub gap_p99: f64,
}

/// Lets this process have as many file descriptors as the system allows.
pub fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Without this the load is smaller, which its report shows.
    let _ = setrlimit(Resource::Nofile, raised);
}
