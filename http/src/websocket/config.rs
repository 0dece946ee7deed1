//! The limits of a WebSocket.

use std::time::Duration;

/// The limits of one WebSocket. Name the fields that matter and take the rest from the default:
///
/// ```
/// use entwined_http::websocket::Config;
///
/// let config = Config { max_message_size: 64 * 1024, ..Config::default() };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Maximum bytes of a received message. A longer one closes the connection with the code 1009
    /// as soon as a header says so.
    /// The default is 1 MiB. A message is checked and copied as a whole: in a measurement, echoing
    /// one of 16 MiB held the thread for 8 to 46 ms, which is visible in a window.
    pub max_message_size: usize,
    /// Maximum bytes that may wait to be sent. Beyond them, a [`Sender`](super::Sender)
    /// refuses messages. Each message counts 64 bytes besides its own, so empty ones cannot pile up
    /// either. The default is 1 MiB.
    pub max_queued: usize,
    /// After this much silence the peer gets a PING. If it stays silent for as long again, the
    /// WebSocket ends. Each byte that arrives breaks the silence. The default is 30 s.
    pub ping_interval: Duration,
    /// How long a peer may leave unread what is sent. If it takes less than 16 KiB in this time
    /// while more waits, the WebSocket ends with [`Error::Stuck`](super::Error::Stuck). The default
    /// is 30 s.
    pub write_timeout: Duration,
    /// Subprotocols, best first: those that a server speaks, or those that a client asks for.
    pub protocols: Vec<String>,
    /// Of a server: other sites whose pages may open a WebSocket, such as `https://example.org`;
    /// `*` is every page. Browsers do not keep pages from opening WebSockets to other sites, with
    /// the user's cookies: the server must. By default, only pages of the server itself may (of the
    /// host and port that the request is for), and clients that are not pages, which send no
    /// `Origin`. Others get 403.
    pub origins: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_message_size: 1024 * 1024,
            max_queued: 1024 * 1024,
            ping_interval: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            protocols: Vec::new(),
            origins: Vec::new(),
        }
    }
}
