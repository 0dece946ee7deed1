//! Programs with more than one stream, followed by callbacks.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt, io,
    os::fd::RawFd,
    panic::Location,
    process::ExitStatus,
    rc::Rc,
};

use rustix::process::Signal;

use super::{ExitError, Process, command::TERMINAL};
use crate::{
    protocol::{self, Flow, Lost, Protocol, Transport},
    reactor::{Handle, Label, Origin},
};

/// Follows a child process: what it writes to each of its fds, and its end.
///
/// `fd` is the number that the child has for it; its [terminal](super::Command::terminal) is 0.
/// `started` comes first, `exited` once, and `ended` once and last. No callback is entered while
/// another is on the stack, even if that one spins the host's loop. A panic ends the protocol as if
/// the [`ProcessTransport`] had been dropped with it: its fds are closed, and the process is killed
/// if that was [asked for](super::Command::kill_on_drop).
pub trait ProcessProtocol {
    /// The program runs. Nothing was received yet.
    fn started(&mut self, process: &ProcessTransport) {
        let _ = process;
    }

    /// The child has written to this fd. How it is cut says nothing.
    fn data_received(&mut self, process: &ProcessTransport, fd: RawFd, data: &[u8]);

    /// Nothing will come from this fd any more, and nothing can be written to it: the child, and
    /// all that it has started, have closed it, or this side has.
    fn closed(&mut self, process: &ProcessTransport, fd: RawFd) {
        let _ = (process, fd);
    }

    /// More was written to this fd than [`Limits::high`](protocol::Limits::high), and the child
    /// does not read it at once.
    fn pause_writing(&mut self, process: &ProcessTransport, fd: RawFd) {
        let _ = (process, fd);
    }

    /// What waits to be read by the child has fallen to [`Limits::low`](protocol::Limits::low).
    fn resume_writing(&mut self, process: &ProcessTransport, fd: RawFd) {
        let _ = (process, fd);
    }

    /// The program has exited. What it has written may still come, and so may more of what others
    /// write who have its fds.
    fn exited(&mut self, process: &ProcessTransport, status: Result<ExitStatus, ExitError>) {
        let _ = (process, status);
    }

    /// It has exited and all its fds are closed; the last callback.
    fn ended(&mut self, status: Result<ExitStatus, ExitError>) {
        let _ = status;
    }
}

/// The protocol's handle on its process: cheap to clone, and harmless after the end. Nothing here
/// blocks or calls back into the protocol.
///
/// It does not hold the process: that is dropped after `ended`.
#[derive(Clone)]
pub struct ProcessTransport {
    shared: Rc<Shared>,
}

struct Shared {
    pid: u32,
    handle: Handle,
    origin: Origin,
    /// There until the end.
    process: RefCell<Option<Process>>,
    fds: RefCell<BTreeMap<RawFd, Transport>>,
    /// Not there while one of its callbacks is on the stack, and after the end.
    protocol: RefCell<Option<Box<dyn ProcessProtocol>>>,
    over: Cell<bool>,
    exit: Cell<Option<Result<ExitStatus, ExitError>>>,
    /// What happened while a callback was on the stack, or was held back since its fd is paused.
    waiting: RefCell<VecDeque<Event>>,
    /// Which are paused by the user, and which wait for their turn to be read again.
    paused: RefCell<BTreeSet<RawFd>>,
    held: RefCell<BTreeSet<RawFd>>,
}

enum Event {
    Started,
    Data(RawFd, Vec<u8>),
    Closed(RawFd),
    PauseWriting(RawFd),
    ResumeWriting(RawFd),
    Exited,
}

/// Follows `process` by `protocol`, which is given all of its streams that were not taken.
/// `started` comes in the next turn.
///
/// ```
/// use std::{os::fd::RawFd, process::ExitStatus};
/// use entwined::{Handle, Standalone, process::{self, Command, ExitError, Io, ProcessProtocol, ProcessTransport}};
///
/// struct Compiler(Handle);
///
/// impl ProcessProtocol for Compiler {
///     fn data_received(&mut self, _: &ProcessTransport, fd: RawFd, data: &[u8]) {
///         let name = if fd == 2 { "it complains" } else { "it says" };
///         println!("{name}: {}", String::from_utf8_lossy(data).trim_end());
///     }
///
///     fn ended(&mut self, status: Result<ExitStatus, ExitError>) {
///         assert_eq!(status.expect("its status").code(), Some(3));
///         self.0.stop().expect("the reactor runs");
///     }
/// }
///
/// let reactor = Standalone::new()?;
/// let handle = reactor.handle();
/// let command = Command::new("sh").args(["-c", "echo fine; echo but >&2; exit 3"]);
/// let process = command.stdout(Io::Stream).stderr(Io::Stream).spawn(&handle)?;
/// process::start(process, Compiler(handle.clone()));
/// reactor.run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn start(mut process: Process, protocol: impl ProcessProtocol + 'static) -> ProcessTransport {
    let location = Location::caller();
    let handle = process.handle.clone();
    let exited = process.exited();
    let numbers: Vec<_> = process.ends.keys().copied().collect();
    let streams: Vec<_> = numbers
        .iter()
        .filter_map(|&number| Some((number, process.take_fd(number)?)))
        .collect();
    let shared = Rc::new(Shared {
        pid: process.id(),
        handle: handle.clone(),
        origin: Origin {
            label: Label::CONNECTION,
            location,
        },
        process: RefCell::new(Some(process)),
        fds: RefCell::default(),
        protocol: RefCell::new(Some(Box::new(protocol))),
        over: Cell::new(false),
        exit: Cell::new(None),
        waiting: RefCell::default(),
        paused: RefCell::default(),
        held: RefCell::default(),
    });
    // First, so that `started` comes before anything else.
    let following = Following(shared.clone());
    let follow = async move {
        following.0.happened(Event::Started);
        let status = exited.await;
        following.0.exited(status);
    };
    let label = Label::TASK;
    handle.spawn_detached(Origin { label, location }, follow);
    for (number, stream) in streams {
        let fd = if number == TERMINAL { 0 } else { number };
        let pipe = Box::new(Pipe {
            shared: shared.clone(),
            fd,
        });
        let transport = protocol::start_boxed(&handle, Box::new(stream), pipe, location);
        shared.fds.borrow_mut().insert(fd, transport);
    }
    ProcessTransport { shared }
}

/// Waits for the exit; dropped before that when the reactor's run is over.
struct Following(Rc<Shared>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.exited(Err(ExitError::Stopped));
    }
}

impl ProcessTransport {
    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.shared.pid
    }

    /// The reactor that it runs on.
    pub fn handle(&self) -> &Handle {
        &self.shared.handle
    }

    /// Writes to an fd of the child; see [`Transport::write`]. [`Flow::Closed`] when there is none
    /// of this number, or it is closed.
    pub fn write(&self, fd: RawFd, data: &[u8]) -> Flow {
        self.fd(fd)
            .map_or(Flow::Closed, |transport| transport.write(data))
    }

    /// Closes an fd after what was written is sent: the child reads the end of its input, and what
    /// it writes there fails.
    pub fn close(&self, fd: RawFd) {
        if let Some(transport) = self.fd(fd) {
            transport.close();
        }
    }

    /// Takes nothing from this fd for now: the child, once the pipe is full, has to wait.
    pub fn pause_reading(&self, fd: RawFd) {
        if let Some(transport) = self.fd(fd) {
            self.shared.paused.borrow_mut().insert(fd);
            transport.pause_reading();
        }
    }

    /// Takes from it again.
    pub fn resume_reading(&self, fd: RawFd) {
        if !self.shared.paused.borrow_mut().remove(&fd) {
            return;
        }
        self.shared.held.borrow_mut().insert(fd);
        if self.shared.waiting.borrow().is_empty() {
            self.shared.let_go();
        } else {
            // What waits comes first, and not from inside this call.
            let shared = self.shared.clone();
            self.shared.handle.call_soon(move || shared.run());
        }
    }

    /// The transport of an fd, as long as that is open: for its limits, and what else a
    /// [`Transport`] has.
    pub fn fd(&self, fd: RawFd) -> Option<Transport> {
        self.shared.fds.borrow().get(&fd).cloned()
    }

    /// Asks the process something, or sends it a [signal](Process::signal). None after the end.
    pub fn ask<R>(&self, question: impl FnOnce(&Process) -> R) -> Option<R> {
        let process = self.shared.process.borrow();
        process.as_ref().map(question)
    }

    /// Sends it a signal; see [`Process::signal`].
    ///
    /// # Errors
    /// As there.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let gone = || {
            Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the process has exited",
            ))
        };
        self.ask(|process| process.signal(signal))
            .unwrap_or_else(gone)
    }

    /// Kills it; see [`Process::kill`].
    ///
    /// # Errors
    /// As there.
    pub fn kill(&self) -> io::Result<()> {
        self.ask(Process::kill).unwrap_or(Ok(()))
    }

    /// Whether it has exited and all its fds are closed.
    pub fn is_over(&self) -> bool {
        self.shared.over.get()
    }
}

impl fmt::Debug for ProcessTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open: Vec<_> = self.shared.fds.borrow().keys().copied().collect();
        f.debug_struct("ProcessTransport")
            .field("pid", &self.shared.pid)
            .field("open", &open)
            .field("exit", &self.shared.exit.get())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn exited(self: &Rc<Self>, status: Result<ExitStatus, ExitError>) {
        if self.exit.get().is_none() {
            self.exit.set(Some(status));
            self.happened(Event::Exited);
        }
    }

    fn happened(self: &Rc<Self>, event: Event) {
        if !self.over.get() {
            self.waiting.borrow_mut().push_back(event);
            self.run();
        }
    }

    /// Hands on what came from an fd; without a copy, when it need not wait.
    fn received(self: &Rc<Self>, transport: &Transport, fd: RawFd, data: &[u8]) {
        if self.over.get() {
            return;
        }
        let protocol = self.protocol.take();
        match protocol {
            Some(protocol) if self.waiting.borrow().is_empty() => {
                self.call(protocol, |protocol, process| {
                    protocol.data_received(process, fd, data)
                });
            }
            protocol => {
                self.protocol.replace(protocol);
                self.waiting
                    .borrow_mut()
                    .push_back(Event::Data(fd, data.to_vec()));
                // So that no more than this waits.
                self.held.borrow_mut().insert(fd);
                transport.pause_reading();
            }
        }
        self.run();
    }

    /// Hands on what waits, unless a callback is on the stack: then that is done when it has
    /// returned.
    fn run(self: &Rc<Self>) {
        while let Some(protocol) = self.protocol.take() {
            let Some(event) = self.next() else {
                if self.exit.get().is_some()
                    && self.fds.borrow().is_empty()
                    && self.waiting.borrow().is_empty()
                {
                    return self.end(protocol);
                }
                self.protocol.replace(Some(protocol));
                return self.let_go();
            };
            self.call(protocol, |protocol, process| match event {
                Event::Started => protocol.started(process),
                Event::Data(fd, data) => protocol.data_received(process, fd, &data),
                Event::Closed(fd) => protocol.closed(process, fd),
                Event::PauseWriting(fd) => protocol.pause_writing(process, fd),
                Event::ResumeWriting(fd) => protocol.resume_writing(process, fd),
                Event::Exited => {
                    if let Some(status) = self.exit.get() {
                        protocol.exited(process, status);
                    }
                }
            });
        }
    }

    /// The next event that need not wait for its fd to be resumed.
    fn next(&self) -> Option<Event> {
        let (mut waiting, paused) = (self.waiting.borrow_mut(), self.paused.borrow());
        let mut behind = BTreeSet::new();
        let place = waiting.iter().position(|event| match event {
            Event::Data(fd, _) if paused.contains(fd) => {
                behind.insert(*fd);
                false
            }
            Event::Closed(fd) => !behind.contains(fd),
            _ => true,
        })?;
        waiting.remove(place)
    }

    /// Reads again from where nothing waits any more.
    fn let_go(&self) {
        let (waiting, paused) = (self.waiting.borrow(), self.paused.borrow());
        let waits = |fd: &RawFd| {
            waiting
                .iter()
                .any(|event| matches!(event, Event::Data(other, _) if other == fd))
        };
        let free = |fd: &RawFd| !paused.contains(fd) && !waits(fd);
        let mut held = self.held.borrow_mut();
        for fd in held.iter().filter(|fd| free(fd)) {
            if let Some(transport) = self.fds.borrow().get(fd) {
                transport.resume_reading();
            }
        }
        held.retain(|fd| !free(fd));
    }

    /// Calls the protocol, contained, and puts it back.
    fn call(
        self: &Rc<Self>,
        mut protocol: Box<dyn ProcessProtocol>,
        callback: impl FnOnce(&mut dyn ProcessProtocol, &ProcessTransport),
    ) {
        let transport = ProcessTransport {
            shared: self.clone(),
        };
        let done = self
            .handle.contain(self.origin, || callback(&mut *protocol, &transport));
        if done.is_some() {
            self.protocol.replace(Some(protocol));
            return;
        }
        self.over.set(true);
        let (fds, process, waiting) = (self.fds.take(), self.process.take(), self.waiting.take());
        for transport in fds.values() {
            transport.abort();
        }
        drop((protocol, process, waiting));
    }

    fn end(self: &Rc<Self>, mut protocol: Box<dyn ProcessProtocol>) {
        self.over.set(true);
        let process = self.process.take();
        let status = self.exit.get().unwrap_or(Err(ExitError::Stopped));
        // A panic in it was reported; there is nothing left to end.
        let _ = self
            .handle.contain(self.origin, || protocol.ended(status));
        drop((protocol, process));
    }
}

/// What one fd says, on its way to the protocol of all.
struct Pipe {
    shared: Rc<Shared>,
    fd: RawFd,
}

impl Protocol for Pipe {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.shared.received(transport, self.fd, data);
    }

    fn pause_writing(&mut self, _: &Transport) {
        self.shared.happened(Event::PauseWriting(self.fd));
    }

    fn resume_writing(&mut self, _: &Transport) {
        self.shared.happened(Event::ResumeWriting(self.fd));
    }

    fn connection_lost(&mut self, why: &Lost) {
        tracing::trace!(pid = self.shared.pid, fd = self.fd, %why, "an fd of a process is closed");
        self.shared.fds.borrow_mut().remove(&self.fd);
        self.shared.happened(Event::Closed(self.fd));
    }
}
