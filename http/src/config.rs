//! The limits of a server.

use std::time::Duration;

use entwined::server::DEFAULT_MAX_CONNECTIONS;

/// The limits of a server. Each limit applies to every peer. Set the fields that matter and take
/// the rest from the default:
///
/// ```
/// use entwined_http::Config;
///
/// let config = Config { max_connections: 5, ..Config::default() };
/// ```
///
/// A new field breaks code that names all fields, and so needs a new version of the library. Name
/// them all only if you want the compiler to report new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Maximum number of connections at a time. Further peers wait in the listener's backlog.
    /// Default 10,000.
    pub max_connections: usize,
    /// Whether clients may use HTTP/2 (RFC 9113), with and without TLS. With TLS, the acceptor must
    /// offer `h2`: see [`protocols`](entwined::tls::AcceptorBuilder::protocols). Default true.
    pub http2: bool,
    /// Maximum number of requests in flight on an HTTP/2 connection; zero counts as one. Default
    /// 100.
    pub max_streams: u32,
    /// Maximum bytes of a request's head, from the request line to the empty line. A larger head
    /// gets 431. Default 64 KiB; minimum 8 KiB; over HTTP/2 at most 512 KiB.
    pub max_head_size: usize,
    /// Maximum number of headers of a request. A request with more gets 431. Default 100; at most
    /// 16,384.
    pub max_headers: usize,
    /// How long a head may take, measured from its first byte, or for the first request from the
    /// start of the connection. After that, the response is 408. Default 10 s.
    pub head_timeout: Duration,
    /// How long a connection may be idle between two requests. Default 60 s.
    pub idle_timeout: Duration,
    /// Maximum bytes of a body that is read as a whole. A larger body gets 413. Default 2 MiB.
    pub max_body_size: usize,
    /// How long reading a whole body may take. After that, the response is 408. Default 30 s.
    pub body_timeout: Duration,
    /// How long a peer may read nothing of a response before its connection is closed. Default 30
    /// s.
    pub write_timeout: Duration,
    /// Minimum rate of a peer, in bytes per second, when it sends a body and when it reads what is
    /// ready for it. This is an average from the time when we first waited for the peer, checked
    /// after [`rate_grace`](Config::rate_grace). A slower sender gets 408; a slower reader's
    /// connection is closed. Default 240; 0 for no limit.
    pub min_rate: u32,
    /// How long a peer may be slower than [`min_rate`](Config::min_rate). Default 5 s.
    pub rate_grace: Duration,
    /// Maximum number of requests on one connection; zero counts as one. After that, the connection
    /// shuts down gracefully, so that load is spread and memory that a library keeps for the
    /// connection is freed. Default 1,000,000.
    pub max_requests: u64,
    /// How long requests in flight may still take when the reactor stops. Default 5 s.
    pub shutdown_grace: Duration,
}

/// The most headers of a message, whatever the program allows. A `HeaderMap` with more than 24,576
/// panics.
pub(super) const MOST_HEADERS: usize = 16 * 1024;

impl Default for Config {
    fn default() -> Self {
        Config {
            max_connections: DEFAULT_MAX_CONNECTIONS,
            http2: cfg!(feature = "http2"),
            max_streams: 100,
            max_head_size: 64 * 1024,
            max_headers: 100,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            max_body_size: 2 * 1024 * 1024,
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            min_rate: 240,
            rate_grace: Duration::from_secs(5),
            max_requests: 1_000_000,
            shutdown_grace: Duration::from_secs(5),
        }
    }
}
