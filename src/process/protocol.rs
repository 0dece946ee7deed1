//! Callbacks for programs with several streams.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt, io,
    panic::Location,
    process::ExitStatus,
    rc::Rc,
};

use super::{ExitError, Process, exit::gone, sys::TERMINAL};
use crate::{
    protocol::{self, Connection, Flow, Lost, Protocol},
    reactor::{Handle, Label, Origin},
    table::Table,
};

/// Follows a child process: its output on each fd, and its end.
///
/// `fd` is the number of a stream in the child, on Unix that of its fd: 0 is its standard input, 1
/// its output, 2 its errors. A terminal has the first of these numbers that is not a stream of its
/// own, which is 0 unless the standard input is one; it has the number -1 if all three are.
///
/// `started` is called first, `exited` once, and `ended` once, as the last. Callbacks are never
/// nested, even if one spins the host's event loop. A panic ends the protocol as if the
/// [`ProcessTransport`] had been dropped with it: its streams are closed, and the process is killed
/// if [`kill_on_drop`](super::Command::kill_on_drop) was set.
pub trait ProcessProtocol {
    /// The program runs. Nothing has been received yet.
    fn started(&mut self, process: &ProcessTransport) {
        let _ = process;
    }

    /// The child has written to this fd. The boundaries between the pieces have no meaning.
    fn data_received(&mut self, process: &ProcessTransport, fd: i32, data: &[u8]);

    /// This fd is closed: nothing more can be read from it or written to it. Either the child and
    /// everything that it started have closed it, or this side has.
    fn closed(&mut self, process: &ProcessTransport, fd: i32) {
        let _ = (process, fd);
    }

    /// More data than [`Config::high_water`](protocol::Config::high_water) is buffered for this fd,
    /// because the child does not read fast enough.
    fn pause_writing(&mut self, process: &ProcessTransport, fd: i32) {
        let _ = (process, fd);
    }

    /// The data buffered for this fd has fallen to
    /// [`Config::low_water`](protocol::Config::low_water).
    fn resume_writing(&mut self, process: &ProcessTransport, fd: i32) {
        let _ = (process, fd);
    }

    /// The program has exited. Its remaining output may still arrive, and so may output of other
    /// processes that hold its fds.
    fn exited(&mut self, process: &ProcessTransport, status: Result<ExitStatus, ExitError>) {
        let _ = (process, status);
    }

    /// The program has exited and all its fds are closed. This is the last callback.
    fn ended(&mut self, status: Result<ExitStatus, ExitError>) {
        let _ = status;
    }
}

/// A protocol's handle to its process. Cheap to clone, and harmless after the end. No method blocks
/// or calls back into the protocol.
///
/// It does not keep the process alive: the process is dropped after `ended`.
#[derive(Clone)]
pub struct ProcessTransport {
    shared: Rc<Shared>,
}

struct Shared {
    pid: u32,
    handle: Handle,
    origin: Origin,
    /// `None` after the end.
    process: RefCell<Option<Rc<Process>>>,
    fds: RefCell<Table<i32, Connection>>,
    /// `None` while a callback is on the stack, and after the end.
    protocol: RefCell<Option<Box<dyn ProcessProtocol>>>,
    over: Cell<bool>,
    /// Whether the reactor's run is over. Nothing is resumed any more.
    stopped: Cell<bool>,
    exit: Cell<Option<Result<ExitStatus, ExitError>>>,
    /// Events that arrived while a callback was on the stack, or that are held back because their
    /// fd is paused.
    waiting: RefCell<VecDeque<Event>>,
    /// The fds that the user has paused (`paused`), and those whose reading is yet to be resumed
    /// (`held`).
    paused: RefCell<Table<i32, ()>>,
    held: RefCell<Table<i32, ()>>,
}

enum Event {
    Started,
    Data(i32, Vec<u8>),
    Closed(i32),
    PauseWriting(i32),
    ResumeWriting(i32),
    Exited,
}

/// Runs `protocol` on `process`. It gets all of the process's streams that were not taken.
/// `started` is called in the next turn.
///
/// ```
/// use std::process::ExitStatus;
/// use entwined::{
///     Handle, Standalone,
///     process::{self, Command, ExitError, Io, ProcessProtocol, ProcessTransport},
/// };
///
/// struct Compiler(Handle);
///
/// impl ProcessProtocol for Compiler {
///     fn data_received(&mut self, _: &ProcessTransport, fd: i32, data: &[u8]) {
///         let name = if fd == 2 { "it complains" } else { "it says" };
///         println!("{name}: {}", String::from_utf8_lossy(data).trim_end());
///     }
///
///     fn ended(&mut self, status: Result<ExitStatus, ExitError>) {
///         assert_eq!(status.expect("its status").code(), Some(3));
///         self.0.stop();
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
    let terminal = (0..3).find(|number| !numbers.contains(number));
    let streams: Vec<_> = numbers
        .iter()
        .map(|&number| {
            let fd = match number {
                TERMINAL => terminal.unwrap_or(TERMINAL),
                number => number,
            };
            (fd, process.take(number))
        })
        .collect();
    // Those that cannot be watched.
    let lost: Vec<_> = streams
        .iter()
        .filter_map(|(fd, stream)| stream.is_none().then_some(*fd))
        .collect();
    let shared = Rc::new(Shared {
        pid: process.id(),
        handle: handle.clone(),
        origin: Origin {
            label: Label::CONNECTION,
            location,
        },
        process: RefCell::new(Some(Rc::new(process))),
        fds: RefCell::default(),
        protocol: RefCell::new(Some(Box::new(protocol))),
        over: Cell::new(false),
        stopped: Cell::new(false),
        exit: Cell::new(None),
        waiting: RefCell::default(),
        paused: RefCell::default(),
        held: RefCell::default(),
    });
    // Spawned first, so that `started` comes before anything else.
    let mut following = Following {
        shared: shared.clone(),
        started: false,
    };
    let follow = async move {
        following.start();
        for fd in lost {
            following.shared.happened(Event::Closed(fd));
        }
        let status = exited.await;
        following.shared.exited(status);
    };
    let label = Label::TASK;
    handle.spawn_detached(Origin { label, location }, follow);
    let streams = streams.into_iter();
    for (fd, stream) in streams.filter_map(|(fd, stream)| Some((fd, stream?))) {
        let pipe = Box::new(Pipe {
            shared: shared.clone(),
            fd,
        });
        let transport = protocol::start_boxed(&handle, Box::new(stream), pipe, None, location);
        shared.fds.borrow_mut().insert(fd, transport);
    }
    ProcessTransport { shared }
}

/// Waits for the exit. Dropped earlier if the reactor's run ends.
struct Following {
    shared: Rc<Shared>,
    /// Whether the protocol was told that the process has started.
    started: bool,
}

impl Following {
    fn start(&mut self) {
        if !std::mem::replace(&mut self.started, true) {
            self.shared.happened(Event::Started);
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        if self.shared.exit.get().is_none() {
            // The run may have ended before its first turn.
            self.start();
            self.shared.stopped.set(true);
            self.shared.exited(Err(ExitError::Stopped));
        }
    }
}

impl ProcessTransport {
    /// Returns the process ID.
    pub fn id(&self) -> u32 {
        self.shared.pid
    }

    /// Returns the reactor that the process belongs to.
    pub fn handle(&self) -> &Handle {
        &self.shared.handle
    }

    /// Writes to an fd of the child; see [`Connection::write`]. Returns [`Flow::Closed`] if there
    /// is no such fd or it is closed.
    pub fn write(&self, fd: i32, data: &[u8]) -> Flow {
        self.fd(fd)
            .map_or(Flow::Closed, |transport| transport.write(data))
    }

    /// Closes an fd after all buffered data is sent. The child then reads the end of its input, and
    /// its writes to this fd fail.
    pub fn close(&self, fd: i32) {
        if let Some(transport) = self.fd(fd) {
            transport.close();
        }
    }

    /// Stops reading from this fd. Once the pipe is full, the child's writes block.
    pub fn pause_reading(&self, fd: i32) {
        if let Some(transport) = self.fd(fd) {
            self.shared.paused.borrow_mut().insert(fd, ());
            transport.pause_reading();
        }
    }

    /// Resumes reading from this fd.
    pub fn resume_reading(&self, fd: i32) {
        if self.shared.paused.borrow_mut().remove(&fd).is_none() {
            return;
        }
        self.shared.held.borrow_mut().insert(fd, ());
        if self.shared.waiting.borrow().is_empty() {
            self.shared.let_go();
        } else {
            // The events that wait come first, and are not delivered from inside this call.
            let shared = self.shared.clone();
            self.shared.handle.call_soon(move || shared.run());
        }
    }

    /// Returns the transport of an fd while it is open, for its limits and the other methods of
    /// [`Connection`].
    pub fn fd(&self, fd: i32) -> Option<Connection> {
        self.shared.fds.borrow().get(&fd).cloned()
    }

    /// Calls `question` with the process. Returns `None` after the end.
    pub fn ask<R>(&self, question: impl FnOnce(&Process) -> R) -> Option<R> {
        // Not borrowed while it is asked: the process may end meanwhile.
        let process = self.shared.process.borrow().clone()?;
        Some(question(&process))
    }

    /// Kills the process; see [`Process::kill`].
    ///
    /// # Errors
    /// See [`Process::kill`].
    pub fn kill(&self) -> io::Result<()> {
        self.ask(Process::kill).unwrap_or(Ok(()))
    }

    /// Kills the process and everything that it started; see [`Process::kill_group`].
    ///
    /// # Errors
    /// See [`Process::kill_group`].
    pub fn kill_group(&self) -> io::Result<()> {
        self.ask(Process::kill_group).unwrap_or_else(|| Err(gone()))
    }

    /// Returns whether the process has exited and all its fds are closed.
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

    /// Delivers data from an fd. It is only copied if it has to wait.
    fn received(self: &Rc<Self>, transport: &Connection, fd: i32, data: &[u8]) {
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
                // So that no more than this is buffered.
                self.held.borrow_mut().insert(fd, ());
                transport.pause_reading();
            }
        }
        self.run();
    }

    /// Delivers the waiting events. If a callback is on the stack, this is done when it has
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

    /// Returns the next event that does not have to wait until its fd is resumed.
    fn next(&self) -> Option<Event> {
        let (mut waiting, paused) = (self.waiting.borrow_mut(), self.paused.borrow());
        if self.stopped.get() {
            // Nobody will take this data.
            waiting.retain(|event| !matches!(event, Event::Data(fd, _) if paused.contains(fd)));
        }
        let mut behind = Vec::new();
        let place = waiting.iter().position(|event| match event {
            Event::Data(fd, _) if paused.contains(fd) => {
                behind.push(*fd);
                false
            }
            Event::Closed(fd) => !behind.contains(fd),
            _ => true,
        })?;
        waiting.remove(place)
    }

    /// Drops the data of an fd that is paused: it will not be resumed.
    fn forget(&self, fd: i32) {
        if self.paused.borrow_mut().remove(&fd).is_some() {
            let mut waiting = self.waiting.borrow_mut();
            waiting.retain(|event| !matches!(event, Event::Data(other, _) if *other == fd));
        }
    }

    /// Resumes reading from the fds for which no data waits any more.
    fn let_go(&self) {
        let (waiting, paused) = (self.waiting.borrow(), self.paused.borrow());
        let waits = |fd: &i32| {
            waiting
                .iter()
                .any(|event| matches!(event, Event::Data(other, _) if other == fd))
        };
        let free = |fd: &i32| !paused.contains(fd) && !waits(fd);
        let mut held = self.held.borrow_mut();
        for fd in held.keys().filter(|fd| free(fd)) {
            if let Some(transport) = self.fds.borrow().get(fd) {
                transport.resume_reading();
            }
        }
        held.retain(|fd| !free(fd));
    }

    /// Calls the protocol, contains its panics, and puts it back.
    fn call(
        self: &Rc<Self>,
        mut protocol: Box<dyn ProcessProtocol>,
        callback: impl FnOnce(&mut dyn ProcessProtocol, &ProcessTransport),
    ) {
        let transport = ProcessTransport {
            shared: self.clone(),
        };
        let done = self
            .handle
            .contain(self.origin, || callback(&mut *protocol, &transport));
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
        // A panic was already reported, and there is nothing left to end.
        let _ = self.handle.contain(self.origin, || protocol.ended(status));
        drop((protocol, process));
    }
}

/// Forwards the events of one fd to the process protocol.
struct Pipe {
    shared: Rc<Shared>,
    fd: i32,
}

impl Protocol for Pipe {
    fn data_received(&mut self, transport: &Connection, data: &[u8]) {
        self.shared.received(transport, self.fd, data);
    }

    fn pause_writing(&mut self, _: &Connection) {
        self.shared.happened(Event::PauseWriting(self.fd));
    }

    fn resume_writing(&mut self, _: &Connection) {
        self.shared.happened(Event::ResumeWriting(self.fd));
    }

    fn connection_lost(&mut self, why: &Lost) {
        tracing::trace!(pid = self.shared.pid, fd = self.fd, %why, "a process's fd was closed");
        match why {
            Lost::Stopped => self.shared.stopped.set(true),
            // This side has closed it: while data waits, nothing is read, and no end is seen.
            Lost::Closed | Lost::Aborted => self.shared.forget(self.fd),
            _ => {}
        }
        self.shared.fds.borrow_mut().remove(&self.fd);
        self.shared.happened(Event::Closed(self.fd));
    }

    fn connection_failed(&mut self, why: &Lost) {
        self.connection_lost(why);
    }
}
