//! What a server allows.

use std::time::Duration;

use entwined::server::DEFAULT_MAX_CONNECTIONS;

/// What one server allows. Each bound holds for every peer; make one with [`Config::default`] and
/// change its fields.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Connections at a time; peers beyond it wait in the listener's backlog. 10,000.
    pub max_connections: usize,
    /// Whether it speaks HTTP/2 to who begins with that (RFC 9113), over TLS (where the acceptor
    /// must offer `h2`: [`protocols`](entwined::tls::AcceptorBuilder::protocols)) and without. True.
    pub http2: bool,
    /// Requests of one connection of HTTP/2 that are open at a time. 100.
    pub max_streams: u32,
    /// Bytes of a request's head, from the request line to the empty line; beyond it 431. 64 KiB, 8
    /// KiB at least.
    pub head_limit: usize,
    /// Headers of a request; beyond it 431. 100.
    pub header_count: usize,
    /// How long a head may take from its first byte, and a first request from the connection's
    /// begin: then 408. 10 s.
    pub header_deadline: Duration,
    /// How long a connection may be idle between two requests. 60 s.
    pub idle_deadline: Duration,
    /// Bytes of a body that is read as a whole; beyond it 413. 2 MiB.
    pub body_limit: usize,
    /// How long a body that is read as a whole may take; then 408. 30 s.
    pub body_deadline: Duration,
    /// How long a peer may take nothing of a response before its connection is ended. 30 s.
    pub write_deadline: Duration,
    /// Bytes a second that a peer has to send of a body, and to take of what is ready for it, on
    /// average since it was first waited for; a sender that is slower is answered by 408, a
    /// reader's connection ended. Counted after [`rate_grace`](Config::rate_grace). 240; 0 for no
    /// limit.
    pub min_rate: u32,
    /// How long a peer may be slower than [`min_rate`](Config::min_rate). 5 s.
    pub rate_grace: Duration,
    /// Requests of one connection; then it is ended in order, so that load spreads and what a
    /// library keeps for it goes. 1,000,000.
    pub max_requests: u64,
    /// How long requests that are being answered may take when the reactor stops. 5 s.
    pub shutdown_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_connections: DEFAULT_MAX_CONNECTIONS,
            http2: true,
            max_streams: 100,
            head_limit: 64 * 1024,
            header_count: 100,
            header_deadline: Duration::from_secs(10),
            idle_deadline: Duration::from_secs(60),
            body_limit: 2 * 1024 * 1024,
            body_deadline: Duration::from_secs(30),
            write_deadline: Duration::from_secs(30),
            min_rate: 240,
            rate_grace: Duration::from_secs(5),
            max_requests: 1_000_000,
            shutdown_grace: Duration::from_secs(5),
        }
    }
}
