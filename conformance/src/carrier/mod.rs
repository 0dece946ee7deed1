//! The transports of the stream tests, each with a peer that blocks on a thread of its own.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::Future,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_core::Stream as _;
use rustix::net::sockopt;

use super::{
    bridge::{Bridge, BridgeEnd},
    rig::{PATIENCE, dial},
    sys,
};
use entwined::{
    Handle,
    protocol::Connection,
    thread::{self, Receiver, Sender, WhenFull},
    transport::{
        Address, BoxedListener, ByteStream, Listen, Stream,
        memory::{self, MemoryStream},
        tcp,
    },
};

#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_peer;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(feature = "tls")]
pub(crate) use tls::Tls;
#[cfg(feature = "tls")]
use tls_peer::TlsPeer;
#[cfg(unix)]
use unix as os;
#[cfg(unix)]
pub(super) use unix::{Pipes, Unix};
#[cfg(windows)]
use windows as os;

/// A transport under test.
pub(super) trait Carrier: 'static {
    /// Whether a peer can distinguish an abort from an end.
    const ABORT_SHOWS: bool = true;

    /// The tests that the transport cannot pass, each with the reason.
    const LACKS: &[(&str, &str)] = &[];

    /// How many connections the leak test opens and closes.
    const MANY: u64 = 10_000;

    fn open(handle: &Handle) -> Door;

    /// Asks an accepted connection what this transport knows about its peer.
    fn ask_identity(connection: &Connection);
}

/// A listener of a carrier, and the ways to connect to it.
pub(super) struct Door {
    pub(super) listener: BoxedListener,
    pub(super) dialer: Dialer,
    /// Connects one of our streams.
    pub(super) connect: Connect,
}

pub(super) type Connect = Rc<dyn Fn() -> Pin<Box<dyn Future<Output = Box<dyn ByteStream>>>>>;

/// Makes peers, on any thread.
#[derive(Clone)]
pub(super) struct Dialer(Arc<dyn Fn() -> Peer + Send + Sync>);

impl Dialer {
    fn new(dial: impl Fn() -> Peer + Send + Sync + 'static) -> Self {
        Dialer(Arc::new(dial))
    }

    /// Connects with timeouts shorter than the test's.
    pub(super) fn dial(&self) -> Peer {
        (self.0)()
    }
}

/// The other end of a connection, for use on a thread. Dropping it closes it in the way of its
/// transport.
pub(super) enum Peer {
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<TlsPeer>),
    /// Of a transport that only this system has.
    #[cfg_attr(windows, expect(dead_code, reason = "there are none"))]
    Os(os::OsPeer),
    Memory(BridgeEnd),
}

impl Peer {
    /// Sends the end of input. It can still read.
    pub(super) fn end(&mut self) {
        match self {
            Peer::Tcp(stream) => stream.shutdown(Shutdown::Write).expect("shut down"),
            #[cfg(feature = "tls")]
            Peer::Tls(peer) => peer.end().expect("sent"),
            Peer::Os(peer) => peer.end(),
            Peer::Memory(end) => end.end(),
        }
    }

    /// Resets the connection once a byte has arrived. Further bytes stay unread.
    pub(super) fn reset(mut self) {
        match &mut self {
            Peer::Tcp(stream) => {
                stream.read_exact(&mut [0]).expect("a byte");
                sockopt::set_socket_linger(stream, Some(Duration::ZERO)).expect("an option");
            }
            #[cfg(feature = "tls")]
            Peer::Tls(peer) => {
                peer.stream.read_exact(&mut [0]).expect("a byte");
                sockopt::set_socket_linger(&peer.stream.sock, Some(Duration::ZERO))
                    .expect("an option");
                peer.polite = false;
            }
            Peer::Os(peer) => peer.reset(),
            Peer::Memory(end) => end.reset(),
        }
    }

    /// Waits, without reading, until the other side has closed the connection.
    pub(super) fn hold(&self) {
        match self {
            Peer::Tcp(stream) => sys::wait_for_end(stream, PATIENCE),
            #[cfg(feature = "tls")]
            Peer::Tls(peer) => sys::wait_for_end(&peer.stream.sock, PATIENCE),
            Peer::Os(peer) => peer.hold(),
            Peer::Memory(end) => end.wait_for_end(),
        }
    }
}

impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Peer::Tcp(stream) => stream.read(buffer),
            #[cfg(feature = "tls")]
            Peer::Tls(peer) => peer.stream.read(buffer),
            Peer::Os(peer) => peer.read(buffer),
            Peer::Memory(end) => end.read(buffer),
        }
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Peer::Tcp(stream) => stream.write(bytes),
            #[cfg(feature = "tls")]
            Peer::Tls(peer) => peer.stream.write(bytes),
            Peer::Os(peer) => peer.write(bytes),
            Peer::Memory(end) => end.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            #[cfg(feature = "tls")]
            Peer::Tls(peer) => peer.stream.flush(),
            _ => Ok(()),
        }
    }
}

fn boxed<F>(make: impl Fn() -> F + 'static) -> Connect
where
    F: Future + 'static,
    F::Output: ByteStream,
{
    Rc::new(move || {
        let stream = make();
        Box::pin(async move { Box::new(stream.await) as Box<dyn ByteStream> })
    })
}

pub(super) struct Tcp;

impl Carrier for Tcp {
    fn open(handle: &Handle) -> Door {
        let (listener, address) = tcp_listener(handle);
        let handle = handle.clone();
        Door {
            listener: listener.boxed(),
            dialer: Dialer::new(move || Peer::Tcp(dial(address))),
            connect: boxed(move || {
                let handle = handle.clone();
                async move { tcp::connect(&handle, address).await.expect("a connection") }
            }),
        }
    }

    fn ask_identity(connection: &Connection) {
        ask_addresses(connection);
        os::ask_tcp(connection);
    }
}

fn ask_addresses(connection: &Connection) {
    let (ours, theirs) = (
        connection.local_address().tcp(),
        connection.peer_address().tcp(),
    );
    assert!(
        ours.is_some() && theirs.is_some() && ours != theirs,
        "{ours:?}, {theirs:?}"
    );
}

pub(super) fn tcp_listener(handle: &Handle) -> (entwined::transport::Listener, SocketAddr) {
    let listener = tcp::listen(handle, (Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_address().tcp().expect("it listens on TCP");
    (listener, address)
}

/// An in-memory stream, with a bridge to the peer's thread.
pub(super) struct Memory;

impl Carrier for Memory {
    const LACKS: &[(&str, &str)] = &[(
        "b43_out_of_fds_nobody_hangs_nothing_spins_and_accepting_goes_on",
        "it has no file descriptors",
    )];

    fn open(handle: &Handle) -> Door {
        let make = |handle: &Handle, bridge: Arc<Bridge>| {
            let (ours, theirs) = memory::pair(handle);
            handle.spawn(bridge.carry(theirs));
            bridge.watch(ours)
        };
        let (listener, hand) = Handed::new(handle, make);
        let (handle, given) = (handle.clone(), listener.given.clone());
        Door {
            listener: listener.boxed(),
            dialer: Dialer::new(move || {
                let bridge = Arc::<Bridge>::default();
                hand.send(bridge.clone()).expect("it listens");
                Peer::Memory(BridgeEnd(bridge))
            }),
            connect: boxed(move || {
                let (ours, theirs) = memory::pair(&handle);
                // The bridge has no peer.
                given.put(Arc::<Bridge>::default().watch(theirs));
                async move { ours }
            }),
        }
    }

    fn ask_identity(connection: &Connection) {
        assert_eq!(
            (connection.local_address(), connection.peer_address()),
            (&Address::Unknown, &Address::Unknown)
        );
        assert_eq!(
            connection.ask(|_: &Stream| ()),
            None,
            "memory is not a socket"
        );
        assert_eq!(connection.ask(|_: &MemoryStream| ()), Some(()));
    }
}

/// A listener for transports that have none. Other threads and this thread hand it the ends.
struct Handed<T: Send, M, S> {
    handle: Handle,
    arriving: RefCell<Receiver<T>>,
    make: M,
    given: Rc<Given<S>>,
}

/// Streams of this thread that wait to be accepted.
struct Given<S>(RefCell<(VecDeque<S>, Option<Waker>)>);

impl<S> Given<S> {
    fn put(&self, stream: S) {
        let mut given = self.0.borrow_mut();
        given.0.push_back(stream);
        if let Some(waker) = given.1.take() {
            waker.wake();
        }
    }
}

impl<T: Send, M: Fn(&Handle, T) -> S, S> Handed<T, M, S> {
    fn new(handle: &Handle, make: M) -> (Self, Sender<T>) {
        let (hand, arriving) = thread::channel(64, WhenFull::Wait);
        let given = Rc::new(Given(RefCell::default()));
        (
            Handed {
                handle: handle.clone(),
                arriving: RefCell::new(arriving),
                make,
                given,
            },
            hand,
        )
    }
}

impl<T, M, S> Listen for Handed<T, M, S>
where
    T: Send + 'static,
    M: Fn(&Handle, T) -> S + 'static,
    S: ByteStream,
{
    type Stream = S;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<io::Result<S>>> {
        let mut given = self.given.0.borrow_mut();
        if let Some(stream) = given.0.pop_front() {
            return Poll::Ready(Some(Ok(stream)));
        }
        given.1 = Some(cx.waker().clone());
        drop(given);
        let mut arriving = self.arriving.borrow_mut();
        match pin!(&mut *arriving).poll_next(cx) {
            Poll::Ready(Some(end)) => Poll::Ready(Some(Ok((self.make)(&self.handle, end)))),
            // Without dialers, only streams of this thread can arrive.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn local_address(&self) -> Address {
        Address::Unknown
    }

    fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

/// Waits for a peer's thread without blocking the loop.
pub(super) async fn joined<R>(handle: &Handle, peer: std::thread::JoinHandle<R>) -> R {
    while !peer.is_finished() {
        handle.sleep(Duration::from_millis(1)).await;
    }
    match peer.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
