//! What a server allows.

use std::time::Duration;

use entwined::server::DEFAULT_MAX_CONNECTIONS;

/// The limits of a server. Each one applies to every peer. Start with [`Config::default`] and
/// change its fields.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Maximum number of connections at a time. Further peers wait in the listener's backlog.
    /// Default 10,000.
    pub max_connections: usize,
    /// Whether it speaks HTTP/2 to who begins with that (RFC 9113), over TLS (where the acceptor
    /// must offer `h2`: [`protocols`](entwined::tls::AcceptorBuilder::protocols)) and without. True.
    pub http2: bool,
    /// Maximum number of requests in flight on an HTTP/2 connection. Default 100.
    pub max_streams: u32,
    /// Maximum bytes of a request's head, from the request line to the empty line. A larger head
    /// gets 431. Default 64 KiB; at least 8 KiB.
    pub head_limit: usize,
    /// Maximum number of headers of a request. More get 431. Default 100.
    pub header_count: usize,
    /// How long a head may take, from its first byte, or for the first request from the start of
    /// the connection. Then the response is 408. Default 10 s.
    pub header_deadline: Duration,
    /// How long a connection may be idle between two requests. Default 60 s.
    pub idle_deadline: Duration,
    /// Maximum bytes of a body that is read as a whole. A larger body gets 413. Default 2 MiB.
    pub body_limit: usize,
    /// How long it may take to read a whole body. Then the response is 408. Default 30 s.
    pub body_deadline: Duration,
    /// How long a peer may read nothing of a response before its connection is closed. Default 30
    /// s.
    pub write_deadline: Duration,
    /// Minimum rate of a peer, in bytes per second, when it sends a body and when it reads what is
    /// ready for it. This is an average from the time when we first waited for the peer, checked
    /// after [`rate_grace`](Config::rate_grace). A slower sender gets 408; a slower reader's
    /// connection is closed. Default 240; 0 for no limit.
    pub min_rate: u32,
    /// How long a peer may be slower than [`min_rate`](Config::min_rate). Default 5 s.
    pub rate_grace: Duration,
    /// Maximum number of requests on one connection. Then the connection shuts down gracefully, so
    /// that load is spread and memory that a library keeps for the connection is freed. Default
    /// 1,000,000.
    pub max_requests: u64,
    /// How long requests in flight may take when the reactor stops. Default 5 s.
    pub shutdown_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_connections: DEFAULT_MAX_CONNECTIONS,
            http2: cfg!(feature = "http2"),
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
