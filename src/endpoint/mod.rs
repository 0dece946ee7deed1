//! Endpoints: a text that says where to listen or what to connect to, for configuration files and
//! command lines.
//!
//! ```
//! use entwined::{Standalone, endpoint, protocol::{self, Echo}};
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let server = endpoint::server("tcp:0:interface=127.0.0.1")?;
//! let server = protocol::serve(server.listen(&handle)?, |_| Some(Echo));
//! let port = server.local_address().tcp().expect("TCP").port();
//!
//! let client = endpoint::client(&format!("tcp:host=localhost:port={port}"))?;
//! handle.clone().spawn(async move {
//!     let stream = client.connect(&handle).await.expect("the server listens");
//!     println!("connected to {}", entwined::transport::ByteStream::peer_address(&stream));
//!     handle.stop();
//! });
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The syntax is that of Twisted's endpoints: a kind, then arguments, each after a colon, by
//! position or by name. A backslash escapes `:`, `=` and `\`.
//!
//! To listen:
//!
//! - `tcp:8080` listens on every address of this machine, IPv6 and IPv4. `interface=127.0.0.1`
//!   selects one address. Port 0 takes a free port.
//! - `unix:/run/app.sock`, `unix:@app`: a socket file, or an abstract name. Only the own user can
//!   connect to a socket file; `mode=660` sets other permissions.
//! - `fd:3`: a listening socket inherited from the parent process.
//! - `systemd:0`, `systemd:name=http`: a socket from systemd's [socket activation], by number or by
//!   its `FileDescriptorName=`.
//! - `stdio:`: the standard input and output of this process, as the only connection.
//! - `tls:8443:certificate=cert.pem:key=key.pem`: TLS over TCP (feature `tls`). Also takes
//!   `interface=`.
//!
//! To connect:
//!
//! - `tcp:example.org:80`, `tcp:host=example.org:port=80`: a host by name, [all of whose addresses
//!   are tried](crate::transport::connect_host), or an address. For IPv6 write `tcp:\:\:1:80` or
//!   `tcp:[::1]:80`.
//! - `unix:/run/app.sock`, `unix:@app`: a socket file, or an abstract name.
//! - `fd:3`: a connected socket inherited from the parent process.
//! - `stdio:`: the standard input and output of this process.
//! - `tls:example.org:443`: TLS over TCP (feature `tls`). `roots=ca.pem` trusts other authorities
//!   than the system's. `name=` is needed if the certificate is for another name than the host's.
//!
//! With [`Kinds::add_process`] only, as whoever writes such a text can run any program:
//!
//! - `process:/usr/bin/bc:-l`: a program. It is run with these arguments for each connection and
//!   killed when the connection ends.
//!
//! Link-local addresses take the name or number of their network interface:
//! `tcp:[fe80::1%eth0]:80`.
//!
//! Every client takes `timeout=` in seconds, which defaults to 30. Your own kinds can be
//! [added](Kinds::add_server) to a [`Kinds`].
//!
//! [socket activation]: https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html

mod arguments;
mod error;
mod forward;
mod kinds;
mod standard;
#[cfg(feature = "tls")]
mod tls;

pub use arguments::{Arguments, ParseError, Value};
pub use error::EndpointError;
pub use forward::{Forward, forward};
pub use kinds::{Client, ClientEndpoint, Connecting, Kinds, Server, ServerEndpoint};

/// Parses a text that says where to listen, using the standard kinds.
///
/// # Errors
/// [`ParseError`] points at the mistake.
pub fn server(text: &str) -> Result<ServerEndpoint, ParseError> {
    Kinds::new().server(text)
}

/// Parses a text that says what to connect to, using the standard kinds.
///
/// # Errors
/// [`ParseError`] points at the mistake.
pub fn client(text: &str) -> Result<ClientEndpoint, ParseError> {
    Kinds::new().client(text)
}

impl Kinds {
    /// Creates a registry with the standard kinds. None of them starts a program; see
    /// [`add_process`](Kinds::add_process).
    pub fn new() -> Self {
        let mut kinds = Kinds::empty();
        standard::add(&mut kinds);
        #[cfg(feature = "tls")]
        tls::add(&mut kinds);
        kinds
    }

    /// Adds the kind `process:` to connect to, which runs a program. Only for texts from somebody
    /// who may run any program with the rights of this one: not from the network, and not from a
    /// file that others can write.
    ///
    /// ```
    /// use entwined::endpoint::Kinds;
    ///
    /// assert!(entwined::endpoint::client("process:/bin/cat").is_err());
    /// let mut kinds = Kinds::new();
    /// kinds.add_process();
    /// let cat = kinds.client("process:/bin/cat")?;
    /// # Ok::<(), entwined::endpoint::ParseError>(())
    /// ```
    pub fn add_process(&mut self) {
        standard::add_process(self);
    }
}

impl Default for Kinds {
    fn default() -> Self {
        Kinds::new()
    }
}
