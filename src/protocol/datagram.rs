//! Protocols over datagrams.

use std::{
    cell::{Cell, RefCell},
    collections::{HashSet, VecDeque},
    fmt,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::Lost;
use crate::{
    reactor::{Handle, Label, Moment, Origin},
    share::{Clock, SLICE},
    task::Sleep,
    transport::{Address, Batch, DatagramSocket, FULL_QUEUE},
    wake::WakeSlot,
};

/// Handles the events of one datagram socket.
///
/// Up to 32 datagrams are received with one system call (recvmmsg(2)) and then delivered one by
/// one; fewer if the protocol takes its time, so that others get a turn after half a millisecond.
/// `stopped` is called exactly once, as the last callback. A callback is never entered while
/// another is on the stack, even if that one spins the host's loop. A panic ends the protocol and
/// nothing else.
pub trait DatagramProtocol {
    /// Called once the socket is ready.
    fn started(&mut self, transport: &DatagramTransport) {
        let _ = transport;
    }

    /// Called when a datagram arrives. A datagram of more than 64 KiB, which only Unix sockets
    /// allow, is truncated.
    fn datagram_received(&mut self, transport: &DatagramTransport, data: &[u8], from: &Address);

    /// Called when a datagram was not sent, or is known not to have arrived: nobody listens there
    /// ([`ConnectionRefused`](io::ErrorKind::ConnectionRefused), connected sockets), there is no
    /// route, or it was too long. The socket can still be used.
    fn failed(&mut self, transport: &DatagramTransport, error: &io::Error) {
        let _ = (transport, error);
    }

    /// Called last, when the socket is closed.
    fn stopped(&mut self, why: &Lost) {
        let _ = why;
    }
}

/// The outcome of sending a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sending {
    /// It will be sent.
    Queued,
    /// The datagram was dropped, as a network may drop it: too many are queued.
    Dropped,
    /// The datagram was dropped: the socket is closed.
    Closed,
}

/// A protocol's handle to its socket. It is cheap to clone, and its methods do nothing after the
/// socket is closed. They never block and never call back into the protocol.
#[derive(Clone)]
pub struct DatagramTransport {
    shared: Rc<Shared>,
}

struct Shared {
    handle: Handle,
    socket: RefCell<Option<Rc<DatagramSocket>>>,
    local: Address,
    queue: RefCell<VecDeque<(Vec<u8>, Option<Address>)>>,
    queued_bytes: Cell<usize>,
    held: RefCell<Held>,
    dropped: Cell<u64>,
    closing: Cell<bool>,
    waker: WakeSlot,
}

/// Limits on the datagrams, and their bytes, that are queued for sending.
const MOST_DATAGRAMS: usize = 1_024;
const MOST_BYTES: usize = 1024 * 1024;

/// Limits on those among them that wait for a Unix socket whose queue is full.
const MOST_HELD: usize = 512;
const MOST_HELD_BYTES: usize = 512 * 1024;

/// Datagrams for Unix sockets whose queues are full. They wait here, so that they do not hold up
/// those for others.
#[derive(Default)]
struct Held {
    datagrams: VecDeque<(Vec<u8>, Address)>,
    bytes: usize,
    /// Whom they are for.
    full: HashSet<Address>,
    /// When they are tried again.
    retry: Option<Sleep>,
}

impl DatagramTransport {
    /// Sends a datagram to `to`, in this turn or the next, together with others that are queued
    /// (sendmmsg(2)). At most 1,024 datagrams and 1 MiB can be queued; more are dropped. Besides
    /// these, 512 datagrams and 512 KiB can wait for Unix sockets whose queues are full; each is
    /// tried again every 5 ms.
    pub fn send_to(&self, data: &[u8], to: &Address) -> Sending {
        self.push(data, Some(to.clone()))
    }

    /// Sends a datagram to the address that the socket is connected to.
    pub fn send(&self, data: &[u8]) -> Sending {
        self.push(data, None)
    }

    fn push(&self, data: &[u8], to: Option<Address>) -> Sending {
        let shared = &self.shared;
        if shared.closing.get() {
            return Sending::Closed;
        }
        let bytes = shared.queued_bytes.get() + data.len();
        let mut queue = shared.queue.borrow_mut();
        if queue.len() >= MOST_DATAGRAMS || bytes > MOST_BYTES {
            shared.dropped.set(shared.dropped.get() + 1);
            return Sending::Dropped;
        }
        shared.queued_bytes.set(bytes);
        queue.push_back((data.to_vec(), to));
        drop(queue);
        self.wake();
        Sending::Queued
    }

    /// How many datagrams were dropped because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.get()
    }

    /// Closes the socket after sending the queued datagrams that the system accepts at once. Does
    /// nothing if the socket is already closed.
    pub fn close(&self) {
        self.shared.closing.set(true);
        self.wake();
    }

    /// Whether the socket is closed or about to close.
    pub fn is_closing(&self) -> bool {
        self.shared.closing.get()
    }

    /// The socket's own address.
    pub fn local_address(&self) -> &Address {
        &self.shared.local
    }

    /// The handle of the reactor that the socket runs on.
    pub fn handle(&self) -> &Handle {
        &self.shared.handle
    }

    /// Calls `question` with the socket, to query it or change an option. Returns `None` if the
    /// socket is closed.
    pub fn ask<R>(&self, question: impl FnOnce(&DatagramSocket) -> R) -> Option<R> {
        let socket = self.shared.socket.borrow().clone()?;
        Some(question(&socket))
    }

    fn wake(&self) {
        self.shared.waker.wake_and_keep();
    }
}

impl fmt::Debug for DatagramTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramTransport")
            .field("local", &self.shared.local)
            .field("queued", &self.shared.queue.borrow().len())
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

/// Runs `protocol` over `socket`. `started` is called in the next turn.
///
/// ```
/// use entwined::{
///     Standalone,
///     protocol::{self, DatagramProtocol, DatagramTransport},
///     transport::{Address, udp},
/// };
///
/// struct Echo;
///
/// impl DatagramProtocol for Echo {
///     fn datagram_received(
///         &mut self,
///         transport: &DatagramTransport,
///         data: &[u8],
///         from: &Address,
///     ) {
///         transport.send_to(data, from);
///     }
/// }
///
/// let reactor = Standalone::new()?;
/// let handle = reactor.handle();
/// let transport = protocol::start_datagrams(
///     udp::bind(&handle, "127.0.0.1:0")?,
///     Echo,
/// );
/// println!("listening on {}", transport.local_address());
/// # handle.call_soon({ let handle = handle.clone(); move || handle.stop() });
/// reactor.run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn start_datagrams(
    socket: DatagramSocket,
    protocol: impl DatagramProtocol + 'static,
) -> DatagramTransport {
    let origin = Origin::here(Label::CONNECTION);
    let handle = socket.handle();
    let shared = Rc::new(Shared {
        handle: handle.clone(),
        local: socket.local_address(),
        socket: RefCell::new(Some(Rc::new(socket))),
        queue: RefCell::default(),
        queued_bytes: Cell::new(0),
        held: RefCell::default(),
        dropped: Cell::new(0),
        closing: Cell::new(false),
        waker: WakeSlot::default(),
    });
    let transport = DatagramTransport { shared };
    let conversation = Conversation {
        transport: transport.clone(),
        protocol: Box::new(protocol),
        state: State::Fresh,
        at_a_time: 1,
        failures: 0,
        rest: None,
        origin,
    };
    handle.spawn_detached(origin, conversation);
    transport
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    Started,
    Stopped,
}

/// How many attempts in a row to receive may fail, until nothing is received for this long. A
/// sandbox that does not let this program receive leaves the socket readable.
const MOST_FAILURES: u32 = 64;
const REST: Duration = Duration::from_millis(100);

/// The task that runs a protocol over its socket.
struct Conversation {
    transport: DatagramTransport,
    protocol: Box<dyn DatagramProtocol>,
    state: State,
    /// How many datagrams are received at a time: as many as the protocol handles in a slice.
    at_a_time: usize,
    /// How many attempts in a row to receive have failed.
    failures: u32,
    /// Present while nothing is received, because that fails each time.
    rest: Option<Sleep>,
    origin: Origin,
}

impl Future for Conversation {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.transport.shared.waker.register(cx.waker());
        let mut clock = Clock::NEW;
        loop {
            match this.step(cx) {
                Ok(Poll::Ready(())) => {
                    // Peers that send faster than the protocol works do not hold the thread.
                    if clock.has_passed(SLICE) {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Ok(Poll::Pending) => return Poll::Pending,
                Err(why) => {
                    this.stop(&why);
                    return Poll::Ready(());
                }
            }
        }
    }
}

impl Conversation {
    /// Ready when something happened.
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Lost> {
        if self.state == State::Fresh {
            self.state = State::Started;
            self.call(|protocol, transport| protocol.started(transport))?;
        }
        let sent = self.send(cx);
        let waits = sent.is_pending();
        if let Poll::Ready(Err(error)) = sent {
            self.fail(error)?;
            return Ok(Poll::Ready(()));
        }
        if self.transport.is_closing() {
            // The system may still accept what there was no share left for.
            if waits && !self.transport.handle().spend(0) {
                cx.waker().wake_by_ref();
                return Ok(Poll::Pending);
            }
            return Err(Lost::Closed);
        }
        let Some(socket) = self.transport.shared.socket.borrow().clone() else {
            return Ok(Poll::Pending);
        };
        if let Some(rest) = &mut self.rest {
            if Pin::new(rest).poll(cx).is_pending() {
                return Ok(Poll::Pending);
            }
            self.rest = None;
        }
        // The batch is shared by the whole thread. If a callback spins the loop, other sockets use
        // another one meanwhile.
        let mut batch = BATCH
            .take()
            .unwrap_or_else(|| Batch::new(MOST_RECEIVED, LONGEST));
        batch.limit(self.at_a_time);
        let result = match socket.poll_receive_batch(cx, &mut batch) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(_)) => {
                self.failures = 0;
                self.deliver(&batch).map(Poll::Ready)
            }
            Poll::Ready(Err(error)) => {
                self.failures = (self.failures + 1) % MOST_FAILURES;
                if self.failures == 0 {
                    self.rest = Some(self.transport.handle().sleep(REST));
                }
                self.fail(error).map(Poll::Ready)
            }
        };
        BATCH.set(Some(batch));
        result
    }

    fn deliver(&mut self, batch: &Batch) -> Result<(), Lost> {
        let start = Moment::now();
        for (data, received) in batch {
            if self.transport.is_closing() {
                break;
            }
            self.call(|protocol, transport| {
                protocol.datagram_received(transport, data, &received.from)
            })?;
        }
        self.at_a_time = match Moment::now().since(start) {
            took if took >= SLICE => 1,
            took if took < SLICE / 2 => MOST_RECEIVED.min(2 * self.at_a_time),
            _ => self.at_a_time,
        };
        Ok(())
    }

    /// Sends the queued datagrams. The first error drops its datagram.
    fn send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = &self.transport.shared;
        let Some(socket) = shared.socket.borrow().clone() else {
            return Poll::Ready(Ok(()));
        };
        if socket.is_paced() {
            return self.send_paced(cx, &socket);
        }
        let mut queue = shared.queue.borrow_mut();
        while !queue.is_empty() {
            let waiting = queue.iter().map(|(data, to)| (&data[..], to.as_ref()));
            let sent = ready!(socket.poll_send_batch(cx, waiting));
            // The datagram that the error is about is not sent again.
            for (data, _) in queue.drain(..*sent.as_ref().unwrap_or(&1)) {
                shared
                    .queued_bytes
                    .set(shared.queued_bytes.get() - data.len());
            }
            sent?;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends the queued datagrams that their receivers have room for, and holds the others. The
    /// first error drops its datagram.
    fn send_paced(&self, cx: &mut Context<'_>, socket: &DatagramSocket) -> Poll<io::Result<()>> {
        let shared = &self.transport.shared;
        let mut held = shared.held.borrow_mut();
        let held = &mut *held;
        let retry = held.retry.as_mut();
        if retry.is_some_and(|retry| Pin::new(retry).poll(cx).is_ready()) {
            held.retry = None;
            held.full.clear();
            let mut failed = None;
            for _ in 0..held.datagrams.len() {
                let Some((data, to)) = held.datagrams.pop_front() else {
                    break;
                };
                // The others for a full one keep their order behind it.
                if !held.full.contains(&to) {
                    match socket.try_send(&data, Some(&to)) {
                        Ok(true) => {
                            held.bytes -= data.len();
                            continue;
                        }
                        Err(error) if failed.is_none() => {
                            held.bytes -= data.len();
                            failed = Some(error);
                            continue;
                        }
                        // One error at a time is reported.
                        Ok(false) | Err(_) => drop(held.full.insert(to.clone())),
                    }
                }
                held.datagrams.push_back((data, to));
            }
            if let Some(error) = failed {
                return Poll::Ready(Err(error));
            }
        }
        let mut queue = shared.queue.borrow_mut();
        while !queue.is_empty() {
            if !shared.handle.spend(1) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Some((data, to)) = queue.pop_front() else {
                break;
            };
            shared
                .queued_bytes
                .set(shared.queued_bytes.get() - data.len());
            let to = match to {
                Some(to) => to,
                None => {
                    socket.try_send(&data, None)?;
                    continue;
                }
            };
            if held.full.contains(&to) || !socket.try_send(&data, Some(&to))? {
                if held.datagrams.len() >= MOST_HELD || held.bytes + data.len() > MOST_HELD_BYTES {
                    shared.dropped.set(shared.dropped.get() + 1);
                    continue;
                }
                held.bytes += data.len();
                if !held.full.contains(&to) {
                    held.full.insert(to.clone());
                }
                held.datagrams.push_back((data, to));
            }
        }
        if held.datagrams.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let sleep = || shared.handle.sleep(FULL_QUEUE);
        if Pin::new(held.retry.get_or_insert_with(sleep))
            .poll(cx)
            .is_ready()
        {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Reports an error, or stops if the socket can no longer be used.
    fn fail(&mut self, error: io::Error) -> Result<(), Lost> {
        use rustix::io::Errno;
        if matches!(
            Errno::from_io_error(&error),
            Some(Errno::BADF | Errno::NOTSOCK | Errno::FAULT)
        ) {
            return Err(Lost::Failed(error));
        }
        self.call(|protocol, transport| protocol.failed(transport, &error))
    }

    /// Calls the protocol, contained.
    fn call(
        &mut self,
        callback: impl FnOnce(&mut dyn DatagramProtocol, &DatagramTransport),
    ) -> Result<(), Lost> {
        let handle = &self.transport.shared.handle;
        let result = handle.contain(self.origin, || {
            callback(&mut *self.protocol, &self.transport)
        });
        result.ok_or(Lost::Panicked)
    }

    fn stop(&mut self, why: &Lost) {
        let shared = &self.transport.shared;
        shared.closing.set(true);
        shared.waker.clear();
        let (queue, held) = (shared.queue.take(), shared.held.take());
        drop((queue, held, shared.socket.take()));
        if std::mem::replace(&mut self.state, State::Stopped) == State::Started {
            // A panic in `stopped` has been reported; there is nothing left to end.
            let _ = self.call(|protocol, _| protocol.stopped(why));
        }
    }
}

impl Drop for Conversation {
    /// The task was dropped from outside: the reactor's run is over.
    fn drop(&mut self) {
        if self.state != State::Stopped {
            self.stop(&Lost::Stopped);
        }
    }
}

/// How many datagrams are received at a time, at most.
const MOST_RECEIVED: usize = 32;

/// The longest datagram of UDP has 65,527 bytes.
const LONGEST: usize = 64 * 1024;

thread_local! {
    static BATCH: RefCell<Option<Batch>> = const { RefCell::new(None) };
}
