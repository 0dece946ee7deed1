//! What the tests share: a reactor under observation, counters, peers, and a protocol made of
//! closures.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io::{self, Read},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    rc::Rc,
    task::{Poll, Waker},
    thread,
    time::Duration,
};

use super::backend::HostLoop;
use entwined::{
    Handle,
    protocol::{Connection, End, Lost, Protocol, Server, serve},
    reactor::{Observer, Report},
    transport::{Address, tcp},
};

pub(super) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A backend under test that records panics. A panic in a callback fails the test, unless the test
/// takes it out.
pub(super) struct Rig {
    pub(super) harness: HostLoop,
    pub(super) handle: Handle,
    panics: Rc<RefCell<Vec<String>>>,
    _observer: Observer,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::over(HostLoop::new())
    }

    pub(super) fn over(harness: HostLoop) -> Self {
        let handle = harness.handle();
        let panics: Rc<RefCell<Vec<String>>> = Rc::default();
        let kept = panics.clone();
        let observer = handle.observe(move |report| {
            if let Report::Panic { .. } = report {
                kept.borrow_mut().push(report.to_string());
            }
        });
        Rig {
            harness,
            handle,
            panics,
            _observer: observer,
        }
    }

    /// Runs until the reactor is stopped.
    #[track_caller]
    pub(super) fn run(&self) {
        let result = self.harness.run();
        self.no_panics();
        result.expect("a run");
    }

    /// Runs until `body` has ended, then stops the reactor.
    #[track_caller]
    pub(super) fn complete<F>(&self, body: F) -> F::Output
    where
        F: Future + 'static,
    {
        let result = Rc::new(RefCell::new(None));
        let (slot, handle) = (result.clone(), self.handle.clone());
        let task = self.handle.spawn(body);
        self.handle.spawn(async move {
            *slot.borrow_mut() = task.await.ok();
            // The body may have stopped the reactor itself.
            handle.stop();
        });
        self.run();
        result.take().expect("the body has ended")
    }

    /// Iterates the host's loop until `over`, whether the reactor runs or not.
    #[track_caller]
    pub(super) fn host_until(&self, over: impl Fn() -> bool) {
        while !over() {
            // Without a reactor, nothing else wakes the host.
            self.harness.iterate(Some(ms(1)));
        }
        self.no_panics();
    }

    pub(super) fn host_call(&self, delay: Duration, callback: impl FnOnce() + 'static) {
        self.harness.host_call(delay, Box::new(callback));
    }

    /// Takes the panics reported so far.
    pub(super) fn take_panics(&self) -> Vec<String> {
        self.panics.take()
    }

    #[track_caller]
    fn no_panics(&self) {
        let panics = self.take_panics();
        assert!(panics.is_empty(), "{}", panics.join("\n"));
    }
}

impl Rig {
    /// Starts a server on a free loopback port.
    pub(super) fn serve<P: Protocol + 'static>(
        &self,
        build: impl Fn(&Address) -> Option<P> + 'static,
    ) -> (Server, SocketAddr) {
        serve_on(&self.handle, build)
    }

    /// Starts a server. `build` makes the protocol of each connection.
    pub(super) fn serve_each<P: Protocol + 'static>(
        &self,
        build: impl Fn() -> P + 'static,
    ) -> (Server, SocketAddr) {
        self.serve(move |_| Some(build()))
    }
}

pub(super) fn serve_on<P: Protocol + 'static>(
    handle: &Handle,
    build: impl Fn(&Address) -> Option<P> + 'static,
) -> (Server, SocketAddr) {
    let listener = tcp::listen(handle, (Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_address().tcp().expect("it listens on TCP");
    (serve(listener, build), address)
}

/// Returns a callback that stops the reactor.
pub(super) fn stopper(handle: &Handle) -> impl Fn() + Clone + 'static {
    let handle = handle.clone();
    move || handle.stop()
}

/// A record of what happened, in order.
#[derive(Clone, Default)]
pub(super) struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    pub(super) fn add(&self, entry: impl Into<String>) {
        self.0.borrow_mut().push(entry.into());
    }

    /// Returns a closure that adds this entry.
    pub(super) fn adder(&self, entry: &str) -> impl FnOnce() + use<> + 'static {
        let (log, entry) = (self.clone(), entry.to_owned());
        move || log.add(entry)
    }

    pub(super) fn entries(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    #[track_caller]
    pub(super) fn assert(&self, expected: &[&str]) {
        assert_eq!(self.entries(), expected);
    }
}

/// A counter that tasks can wait for.
#[derive(Clone, Default)]
pub(super) struct Count(Rc<(Cell<u64>, RefCell<Vec<Waker>>)>);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.0.set(self.0.0.get() + more);
        let waiting = self.0.1.take();
        for waker in waiting {
            waker.wake();
        }
    }

    pub(super) fn get(&self) -> u64 {
        self.0.0.get()
    }

    /// Returns a closure that adds one.
    pub(super) fn adder(&self) -> impl Fn() + Clone + use<> + 'static {
        let count = self.clone();
        move || count.add(1)
    }

    pub(super) fn reached(&self, number: u64) -> impl Future<Output = ()> + use<> + 'static {
        let count = self.clone();
        poll_fn(move |cx| {
            if count.get() >= number {
                return Poll::Ready(());
            }
            count.0.1.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
    }
}

/// Runs a peer with a socket of the standard library on a thread of its own.
pub(super) fn peer<R: Send + 'static>(
    address: SocketAddr,
    talk: impl FnOnce(TcpStream) -> R + Send + 'static,
) -> thread::JoinHandle<R> {
    thread::spawn(move || talk(dial(address)))
}

/// How long a peer waits for anything. It gives up sooner than the test does.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Connects with timeouts shorter than the test's.
pub(super) fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("an option");
    stream
}

pub(super) fn read_exactly(mut stream: impl Read, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn read_to_end(mut stream: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Blocks the thread.
pub(super) use super::sys::hold;

/// The median.
pub(super) fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

/// A pseudo-random generator with the same sequence in each run.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Self {
        Random(0x9E37_79B9_7F4A_7C15)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Bytes in which a loss or a repetition is visible.
pub(super) fn pattern(count: usize) -> Vec<u8> {
    let mut random = Random::new();
    (0..count).map(|_| random.below(256) as u8).collect()
}

type Plain = Box<dyn FnMut(&Connection)>;
type Data = Box<dyn FnMut(&Connection, &[u8])>;

/// A protocol made of closures.
pub(super) struct Scripted {
    made: Plain,
    data: Data,
    end: Box<dyn FnMut(&Connection) -> End>,
    pause: Plain,
    resume: Plain,
    lost: Box<dyn FnMut(&Lost)>,
}

impl Scripted {
    pub(super) fn new() -> Self {
        Scripted {
            made: Box::new(|_| {}),
            data: Box::new(|_, _| {}),
            end: Box::new(|_| End::Close),
            pause: Box::new(|_| {}),
            resume: Box::new(|_| {}),
            lost: Box::new(|_| {}),
        }
    }

    /// Makes a protocol that records everything in `log`.
    pub(super) fn noting(log: &Log) -> Self {
        let log = || log.clone();
        let (made, data, end, lost) = (log(), log(), log(), log());
        Scripted::new()
            .made(move |_| made.add("made"))
            .data(move |_, bytes| data.add(format!("data {}", String::from_utf8_lossy(bytes))))
            .end(move |_| {
                end.add("end");
                End::Close
            })
            .lost(move |why| lost.add(format!("lost: {why}")))
    }

    pub(super) fn made(mut self, callback: impl FnMut(&Connection) + 'static) -> Self {
        self.made = Box::new(callback);
        self
    }

    pub(super) fn data(mut self, callback: impl FnMut(&Connection, &[u8]) + 'static) -> Self {
        self.data = Box::new(callback);
        self
    }

    pub(super) fn end(mut self, callback: impl FnMut(&Connection) -> End + 'static) -> Self {
        self.end = Box::new(callback);
        self
    }

    pub(super) fn pause(mut self, callback: impl FnMut(&Connection) + 'static) -> Self {
        self.pause = Box::new(callback);
        self
    }

    pub(super) fn resume(mut self, callback: impl FnMut(&Connection) + 'static) -> Self {
        self.resume = Box::new(callback);
        self
    }

    pub(super) fn lost(mut self, callback: impl FnMut(&Lost) + 'static) -> Self {
        self.lost = Box::new(callback);
        self
    }
}

impl Protocol for Scripted {
    fn connection_made(&mut self, connection: &Connection) {
        (self.made)(connection);
    }

    fn data_received(&mut self, connection: &Connection, data: &[u8]) {
        (self.data)(connection, data);
    }

    fn end_received(&mut self, connection: &Connection) -> End {
        (self.end)(connection)
    }

    fn pause_writing(&mut self, connection: &Connection) {
        (self.pause)(connection);
    }

    fn resume_writing(&mut self, connection: &Connection) {
        (self.resume)(connection);
    }

    fn connection_lost(&mut self, why: &Lost) {
        (self.lost)(why);
    }
}
