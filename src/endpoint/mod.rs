//! Endpoints: where to listen and what to connect to, as text that a user can write into a file or
//! a command line.
//!
//! ```
//! use entwined::{Standalone, endpoint, protocol::{self, Echo}};
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let server = endpoint::server("tcp:0:interface=127.0.0.1")?;
//! let server = protocol::serve(server.listen(&handle)?, |_peer: &_| Some(Echo));
//! let port = server.local_address().tcp().expect("TCP").port();
//!
//! let client = endpoint::client(&format!("tcp:host=localhost:port={port}"))?;
//! handle.clone().spawn(async move {
//!     let stream = client.connect(&handle).await.expect("the server listens");
//!     println!("connected to {}", entwined::transport::ByteStream::peer_address(&stream));
//!     handle.stop().expect("the reactor runs");
//! }).detach();
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The text is that of Twisted's endpoints: a kind, then arguments, each after a colon, by their
//! place or by their name. A backslash takes the meaning of `:`, `=` or `\` away.
//!
//! | to listen | |
//! |---|---|
//! | `tcp:8080` | on every address of this machine, IPv6 and IPv4; `interface=127.0.0.1` for one. Port 0 is a free one. |
//! | `unix:/run/app.sock`, `unix:@app` | a socket file, or an abstract name |
//! | `fd:3` | a listening socket that the parent process has handed on |
//! | `systemd:0`, `systemd:name=http` | one by systemd's [socket activation](https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html), by number or by its `FileDescriptorName=` |
//! | `stdio:` | the standard input and output of this process, as its only connection |
//! | `tls:8443:certificate=cert.pem:key=key.pem` | TLS over TCP (feature `tls`), with `interface=` as well |
//!
//! | to connect | |
//! |---|---|
//! | `tcp:example.org:80`, `tcp:host=example.org:port=80` | a host by its name, [all of whose addresses are tried](crate::transport::connect_host), or an address; IPv6 is `tcp:\:\:1:80` or `tcp:[::1]:80` |
//! | `unix:/run/app.sock`, `unix:@app` | a socket file, or an abstract name |
//! | `fd:3` | a connected socket that the parent process has handed on |
//! | `stdio:` | the standard input and output of this process |
//! | `process:/usr/bin/bc:-l` | a program, run with these arguments for each connection and killed at its end |
//! | `tls:example.org:443` | TLS over TCP (feature `tls`); `roots=ca.pem` for other authorities than the system's, `name=` when the certificate is for another name |
//!
//! Every client takes `timeout=` in seconds, 30 unless told. Kinds of your own are
//! [added](Kinds::add_server) to a [`Kinds`].

mod arguments;
mod forward;
mod kinds;
mod standard;
#[cfg(feature = "tls")]
mod tls;

use std::{error::Error, fmt, io};

pub use arguments::{Arguments, ParseError, Value};
pub use forward::{Forward, forward};
pub use kinds::{Client, ClientEndpoint, Connecting, Kinds, Server, ServerEndpoint};

use crate::transport::{HostError, ListenError};

/// Reads a description of where to listen, of one of the standard kinds.
///
/// # Errors
/// [`ParseError`] points at what is wrong.
pub fn server(text: &str) -> Result<ServerEndpoint, ParseError> {
    Kinds::new().server(text)
}

/// Reads a description of what to connect to, of one of the standard kinds.
///
/// # Errors
/// [`ParseError`] points at what is wrong.
pub fn client(text: &str) -> Result<ClientEndpoint, ParseError> {
    Kinds::new().client(text)
}

/// Why an endpoint cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum EndpointError {
    /// The address cannot be listened on.
    Listen(ListenError),
    /// There is no connection to the host.
    Host(HostError),
    /// The file descriptor is not what it should be, or there is none.
    Fd(String),
    /// There was no connection in the time that it had.
    TimedOut,
    /// TLS cannot be used like this.
    #[cfg(feature = "tls")]
    Tls(crate::tls::Error),
    /// Anything else.
    Io(io::Error),
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointError::Listen(source) => source.fmt(f),
            EndpointError::Host(source) => source.fmt(f),
            EndpointError::Fd(what) => f.write_str(what),
            EndpointError::TimedOut => f.write_str("there was no connection in time"),
            #[cfg(feature = "tls")]
            EndpointError::Tls(source) => source.fmt(f),
            EndpointError::Io(source) => source.fmt(f),
        }
    }
}

impl Error for EndpointError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            EndpointError::Listen(source) => Some(source),
            EndpointError::Host(source) => Some(source),
            #[cfg(feature = "tls")]
            EndpointError::Tls(source) => Some(source),
            EndpointError::Io(source) => Some(source),
            EndpointError::Fd(_) | EndpointError::TimedOut => None,
        }
    }
}

impl From<ListenError> for EndpointError {
    fn from(source: ListenError) -> Self {
        EndpointError::Listen(source)
    }
}

impl From<HostError> for EndpointError {
    fn from(source: HostError) -> Self {
        EndpointError::Host(source)
    }
}

impl From<io::Error> for EndpointError {
    fn from(source: io::Error) -> Self {
        EndpointError::Io(source)
    }
}

#[cfg(feature = "tls")]
impl From<crate::tls::Error> for EndpointError {
    fn from(source: crate::tls::Error) -> Self {
        EndpointError::Tls(source)
    }
}
