//! Connections with TLS, in memory and in simulated time.

use std::{cell::RefCell, future::poll_fn, io, pin::Pin, rc::Rc};

use entwined::{
    Handle,
    protocol::{Connection, Lost, Protocol},
    simulation::Simulation,
    tls::{Acceptor, Connector, Identity, Roots, TlsStream, development},
    transport::{
        ByteStream,
        memory::{self, Link, MemoryStream},
    },
};
use futures_io::{AsyncRead, AsyncWrite};

pub fn identity(names: &[&str]) -> Identity {
    development::identity(names.iter().copied()).expect("names")
}

/// A server for `localhost` and a client that trusts it.
pub fn both() -> (Acceptor, Connector) {
    let identity = identity(&["localhost", "127.0.0.1"]);
    let connector = Connector::builder()
        .roots(Roots::only(identity.certificates()))
        .build()
        .expect("roots");
    (
        Acceptor::builder(identity).build().expect("an identity"),
        connector,
    )
}

/// A client and a server in memory.
pub fn streams(
    handle: &Handle,
    acceptor: &Acceptor,
    connector: &Connector,
    link: Link,
) -> (TlsStream, TlsStream) {
    let (near, far) = memory::pair_over(handle, link);
    (
        connector.connect(near, "localhost").expect("a name"),
        acceptor.accept(far),
    )
}

/// Runs both sides of a conversation to their ends.
pub fn converse<A: 'static, B: 'static>(
    simulation: &Simulation,
    one: impl Future<Output = A> + 'static,
    other: impl Future<Output = B> + 'static,
) -> (A, B) {
    let handle = simulation.handle();
    let one = handle.spawn(one);
    let other = handle.spawn(other);
    let one = simulation.run_until(one).expect("an end");
    (one, simulation.run_until(other).expect("an end"))
}

pub async fn write_all(stream: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, bytes)).await?;
        bytes = &bytes[count..];
    }
    poll_fn(|cx| Pin::new(&mut *stream).poll_flush(cx)).await
}

pub async fn close(stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    poll_fn(|cx| Pin::new(&mut *stream).poll_close(cx)).await
}

pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut buffer = [0; 10_000];
    let count = poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buffer)).await?;
    Ok(buffer[..count].to_vec())
}

pub async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        match read(stream).await? {
            bytes if bytes.is_empty() => return Ok(all),
            bytes => all.extend(bytes),
        }
    }
}

pub async fn established(stream: &mut TlsStream) -> io::Result<()> {
    poll_fn(|cx| stream.poll_established(cx)).await
}

/// Bytes without an obvious pattern.
pub fn pattern(count: usize) -> Vec<u8> {
    (0..count as u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

pub type Log = Rc<RefCell<Vec<String>>>;

/// Logs what happens. It answers the line `STARTTLS` with `go` and starts TLS, and echoes
/// everything else.
pub struct Noting {
    pub log: Log,
    pub acceptor: Option<Acceptor>,
}

impl Noting {
    fn note(&self, what: impl Into<String>) {
        self.log.borrow_mut().push(what.into());
    }
}

impl Protocol for Noting {
    fn connection_made(&mut self, connection: &Connection) {
        let name = connection.ask(|tls: &TlsStream| tls.server_name().map(str::to_owned));
        self.note(format!("made {name:?}"));
    }

    fn data_received(&mut self, connection: &Connection, data: &[u8]) {
        self.note(String::from_utf8_lossy(data));
        match self.acceptor.take() {
            Some(acceptor) if data == b"STARTTLS\r\n" => {
                connection.write(b"go\r\n");
                connection.upgrade(move |stream| acceptor.accept(stream));
            }
            _ => {
                connection.write(data);
            }
        }
    }

    fn upgraded(&mut self, connection: &Connection) {
        let version = connection.ask(|tls: &TlsStream| tls.version()).flatten();
        self.note(format!("upgraded to {version:?}"));
    }

    fn connection_failed(&mut self, why: &Lost) {
        self.note(format!("failed: {why}"));
    }

    fn connection_lost(&mut self, why: &Lost) {
        self.note(why.to_string());
    }
}

/// A TLS server whose peer writes raw bytes instead of TLS.
pub fn raw(handle: &Handle, acceptor: &Acceptor) -> (MemoryStream, TlsStream) {
    let (near, far) = memory::pair(handle);
    (near, acceptor.accept(far))
}
