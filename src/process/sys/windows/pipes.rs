//! Pipes to children. An anonymous pipe of Windows can only be waited for by a thread that blocks
//! in it. So these are named pipes, which one thread of the program watches for all children. It
//! starts with the first and ends with the program.
//!
//! Nobody can guess a name, and the child's end is opened at once. If somebody else were faster,
//! that would fail: this end has one client. Other users can make no other end of the same name.
//!
//! Each direction holds 64 KiB in the system's pipe, and one operation's bytes, which are copied:
//! at most 64 KiB that are being written, or were read ahead. A stream that is dropped leaves what
//! is being written to the system until the child has read it, or is gone.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{self, Read, Write},
    process,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    thread,
    time::Duration,
};

use mio::{Events, Interest, Registry, Token, windows::NamedPipe};

use crate::{notice::Notice, share};

/// The most bytes of one write. They are copied, and the pipe itself holds as many.
const WRITE: usize = 64 * 1024;

/// One poll's share is counted in pieces of this size.
const PIECE: usize = 16 * 1024;

/// This side of a pipe.
pub(super) struct Pipe {
    pipe: NamedPipe,
    token: Token,
    notices: Arc<Notices>,
    watcher: Arc<Watcher>,
    /// The other side is gone, and everything was read.
    over: bool,
}

#[derive(Default)]
struct Notices {
    readable: Notice,
    writable: Notice,
}

/// Opens a pipe: the child's end, and this side's. The child reads from it (`input`) or writes to
/// it.
pub(super) fn open(input: bool) -> io::Result<(File, Pipe)> {
    let watcher = Watcher::of_this_program()?;
    let token = Token(watcher.next.fetch_add(1, Ordering::Relaxed));
    let [first, second] = [(); 2].map(|()| RandomState::new().hash_one(token.0));
    let name = format!(
        r"\\.\pipe\entwined-{}-{}-{first:016x}{second:016x}",
        process::id(),
        token.0
    );
    // It fails if there is such a pipe.
    let mut pipe = NamedPipe::new(&name)?;
    let theirs = File::options().read(input).write(!input).open(&name)?;
    let notices = Arc::<Notices>::default();
    watcher.pipes().insert(token, notices.clone());
    let interest = Interest::READABLE | Interest::WRITABLE;
    let registered = watcher.registry.register(&mut pipe, token, interest);
    let pipe = Pipe {
        pipe,
        token,
        notices,
        watcher,
        over: false,
    };
    registered?;
    Ok((theirs, pipe))
}

impl Pipe {
    /// Reads bytes: none at the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if buffer.is_empty() || self.over {
            return Poll::Ready(Ok(0));
        }
        loop {
            if !share::spend(1) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.notices.readable.poll(cx));
                }
                result => {
                    let count = result?;
                    self.over = count == 0;
                    let _ = share::spend((count / PIECE) as u32);
                    return Poll::Ready(Ok(count));
                }
            }
        }
    }

    /// A child that writes no bytes at all makes a read of no bytes, as the end does. After the end
    /// the next reads fail at once; otherwise they have to wait.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for _ in 0..3 {
            match self.pipe.read(buffer) {
                Ok(0) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                result => return result,
            }
        }
        Ok(0)
    }

    /// Writes some of the bytes.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let buffer = &buffer[..buffer.len().min(WRITE)];
        // The child would take a write of no bytes for the end.
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            if !share::spend(1) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.pipe.write(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.notices.writable.poll(cx));
                }
                result => {
                    let _ = share::spend((buffer.len() / PIECE) as u32);
                    return Poll::Ready(result);
                }
            }
        }
    }
}

impl Drop for Pipe {
    /// What was written still goes to the child, and then the end of its input.
    fn drop(&mut self) {
        self.watcher.pipes().remove(&self.token);
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pipe").field(&self.pipe).finish()
    }
}

/// The thread that watches all pipes.
struct Watcher {
    registry: Registry,
    pipes: Mutex<HashMap<Token, Arc<Notices>>>,
    next: AtomicUsize,
}

impl Watcher {
    /// Starts the thread with the first pipe.
    fn of_this_program() -> io::Result<Arc<Self>> {
        static WATCHER: Mutex<Option<Arc<Watcher>>> = Mutex::new(None);
        let mut present = WATCHER.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = &*present {
            return Ok(watcher.clone());
        }
        let poll = mio::Poll::new()?;
        let watcher = Arc::new(Watcher {
            registry: poll.registry().try_clone()?,
            pipes: Mutex::default(),
            next: AtomicUsize::new(0),
        });
        let theirs = watcher.clone();
        thread::Builder::new()
            .name("entwined-pipes".to_owned())
            .spawn(move || theirs.run(poll))?;
        *present = Some(watcher.clone());
        Ok(watcher)
    }

    fn run(&self, mut poll: mio::Poll) {
        let mut events = Events::with_capacity(256);
        loop {
            match poll.poll(&mut events, None) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "cannot watch the pipes to child processes");
                    thread::sleep(Duration::from_secs(1));
                }
            }
            for event in &events {
                let notices = self.pipes().get(&event.token()).cloned();
                let Some(notices) = notices else { continue };
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    notices.readable.tell();
                }
                if event.is_writable() || event.is_write_closed() || event.is_error() {
                    notices.writable.tell();
                }
            }
        }
    }

    fn pipes(&self) -> MutexGuard<'_, HashMap<Token, Arc<Notices>>> {
        // Nothing under this lock can panic.
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
