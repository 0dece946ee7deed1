//! Byte streams over file descriptors of any kind: pipes, terminals, serial lines, or any fd that
//! the program was given.
//!
//! ```
//! use std::{future::poll_fn, io::Write, os::unix::net::UnixStream, pin::Pin};
//! use entwined::{Standalone, transport::fd};
//! use futures_io::AsyncRead;
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let (ours, mut theirs) = UnixStream::pair()?;
//! let mut stream = fd::duplex(&handle, ours.into())?;
//! theirs.write_all(b"hello")?;
//!
//! handle.clone().spawn(async move {
//!     let mut buffer = [0; 64];
//!     let count = poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut buffer))
//!         .await
//!         .expect("bytes");
//!     assert_eq!(&buffer[..count], b"hello");
//!     handle.stop();
//! });
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Fds that cannot be polled
//!
//! Regular files and `/dev/null` are always ready, and epoll(7) refuses to watch them. Such an fd
//! is read and written at once, so a slow disk blocks the loop. For large files use
//! [threads](crate::thread).
//!
//! # Serial lines
//!
//! Open the device with `O_NOCTTY`, set its speed and raw mode (termios(3), for example with
//! `rustix::termios`), and pass it to [`duplex`].

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use futures_io::{AsyncRead, AsyncWrite};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
    io::Errno,
    net,
    termios::{Winsize, tcsetwinsize},
};

use super::{Address, ByteStream};
use crate::{
    reactor::{Direction, Handle, Interest, Readiness, Registration},
    sys,
};

/// A stream over one fd for both directions, or over one fd for each. Dropping it closes them.
///
/// Writing to a peer that no longer reads returns an error of kind
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe). The SIGPIPE that the system also sends does not reach
/// the program on Linux. Elsewhere, a program in another language than Rust must ignore it.
///
/// When the terminal side of a pseudo-terminal is no longer open anywhere, the other side reads the
/// end of input (the system reports `EIO`).
#[derive(Debug)]
pub struct FdStream {
    handle: Handle,
    input: Option<Rc<End>>,
    output: Option<Rc<End>>,
    /// Whether this side has closed its write direction.
    closed: bool,
}

/// Creates a stream over one fd that is both read and written: a terminal, a serial line, a device,
/// a socket.
///
/// The fd becomes non-blocking for everything that shares its open file description (see open(2)).
///
/// # Errors
/// Fails if there are no resources to watch the fd.
pub fn duplex(handle: &Handle, fd: OwnedFd) -> io::Result<FdStream> {
    let end = Rc::new(End::new(handle, fd, Interest::BOTH)?);
    Ok(FdStream {
        handle: handle.clone(),
        input: Some(end.clone()),
        output: Some(end),
        closed: false,
    })
}

/// Creates a stream that reads from one fd and writes to another: the ends of two pipes. Without
/// `output`, writing fails from the start. Without `input`, reading returns the end of input when
/// the reader of `output` is gone.
///
/// The fds become non-blocking for everything that shares their open file descriptions. The other
/// end of a pipe has its own description and is not affected.
///
/// # Errors
/// Fails if there are no resources to watch the fds.
pub fn pair(
    handle: &Handle,
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
) -> io::Result<FdStream> {
    let end = |fd: Option<OwnedFd>, interest| {
        fd.map(|fd| End::new(handle, fd, interest).map(Rc::new))
            .transpose()
    };
    let (input, output) = (
        end(input, Interest::READABLE)?,
        end(output, Interest::WRITABLE)?,
    );
    Ok(FdStream {
        handle: handle.clone(),
        input,
        output,
        closed: false,
    })
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Usually 80.
    pub columns: u16,
    /// Usually 24.
    pub rows: u16,
}

impl Default for TerminalSize {
    fn default() -> Self {
        TerminalSize {
            columns: 80,
            rows: 24,
        }
    }
}

impl FdStream {
    /// The fd that is read from.
    pub fn input(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().map(|end| end.fd().as_fd())
    }

    /// The fd that is written to, or `None` once the stream is closed.
    pub fn output(&self) -> Option<BorrowedFd<'_>> {
        self.output.as_ref().map(|end| end.fd().as_fd())
    }

    /// Sets the size of a terminal. The programs on it get SIGWINCH.
    ///
    /// # Errors
    /// Fails if this is not a terminal.
    pub fn set_terminal_size(&self, size: TerminalSize) -> io::Result<()> {
        let fd = self
            .input()
            .or(self.output())
            .ok_or(io::ErrorKind::NotConnected)?;
        let size = Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(tcsetwinsize(fd, size)?)
    }

    /// For a stream that is only written to: ready when the reader is gone.
    fn poll_deserted(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(end) = &self.output else {
            return Poll::Ready(());
        };
        // A file always counts as having a reader.
        let Source::Registration(watched) = &end.source else {
            return Poll::Pending;
        };
        loop {
            ready!(watched.poll_ready(cx, Direction::Read));
            let mut deserted = [PollFd::new(watched.object(), PollFlags::empty())];
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            if poll(&mut deserted, Some(&now)).is_ok_and(|events| events > 0) {
                return Poll::Ready(());
            }
            watched.clear(Direction::Read);
        }
    }

    /// Tries an operation on an end: at once, or when it becomes ready.
    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        end: &End,
        direction: Direction,
        attempt: impl FnMut(&OwnedFd) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let mut attempt = attempt;
        match &end.source {
            Source::Registration(watched) => watched.poll_io(cx, direction, attempt),
            Source::Ready(fd) => {
                // This fd is always ready, so only the task's share can hold it back.
                if !self.handle.spend(1) {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(attempt(fd))
            }
        }
    }
}

impl AsyncRead for FdStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Some(end) = &self.input else {
            return self.poll_deserted(cx).map(|()| Ok(0));
        };
        let count = ready!(self.poll(cx, end, Direction::Read, |fd| {
            match rustix::io::read(fd, &mut *buffer) {
                Err(Errno::IO) if rustix::termios::isatty(fd) => Ok(0),
                result => Ok(result?),
            }
        }))?;
        end.moved(Direction::Read, count);
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for FdStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(end) = self.output.as_ref().filter(|_| !self.closed) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let count = ready!(self.poll(cx, end, Direction::Write, |fd| {
            sys::without_sigpipe(|| Ok(rustix::io::write(fd, buffer)?))
        }))?;
        end.moved(Direction::Write, count);
        Poll::Ready(Ok(count))
    }

    /// Nothing is buffered here.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Closes the fd that is written to. If one fd serves both directions, a socket's write
    /// direction is shut down instead; a terminal has no half-close.
    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closed = true;
        if let Some(end) = self.output.take() {
            let shared = Rc::strong_count(&end) > 1;
            if shared {
                let _ = net::shutdown(end.fd(), net::Shutdown::Write);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl ByteStream for FdStream {
    fn local_address(&self) -> Address {
        Address::Unknown
    }

    fn peer_address(&self) -> Address {
        Address::Unknown
    }

    /// Pipes and terminals have no reset: the peer sees the end of input.
    fn abort(&mut self) {}
}

/// One fd.
#[derive(Debug)]
struct End {
    source: Source,
    /// Set if others share the open file description.
    original: Option<Rc<Original>>,
}

/// The original flags of this process's standard input and output, to be restored when the last end
/// that has changed them is dropped: both may share one open file description.
#[derive(Debug)]
struct Original([(OwnedFd, OFlags); 2]);

impl Original {
    fn new() -> io::Result<Self> {
        let flags = |fd: BorrowedFd<'_>| {
            let flags = rustix::fs::fcntl_getfl(fd)?;
            Ok::<_, io::Error>((fd.try_clone_to_owned()?, flags))
        };
        Ok(Original([
            flags(io::stdin().as_fd())?,
            flags(io::stdout().as_fd())?,
        ]))
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        for (fd, flags) in &self.0 {
            let _ = rustix::fs::fcntl_setfl(fd, *flags);
        }
    }
}

#[derive(Debug)]
enum Source {
    Registration(Registration<OwnedFd>),
    /// The system cannot watch this fd, because it is always ready.
    Ready(OwnedFd),
}

impl End {
    fn new(handle: &Handle, fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        super::sys::pass_fds(&fd, false);
        super::sys::close_at_once(&fd);
        let source = match Registration::new(handle, fd, interest) {
            Ok(watched) if interest == Interest::READABLE => Source::Registration(watched),
            // An fd that is not full can be written to at once.
            Ok(watched) => Source::Registration(watched.assume_ready(Readiness::WRITABLE)),
            Err(refused) if Errno::from_io_error(&refused.error) == Some(Errno::PERM) => {
                Source::Ready(refused.object)
            }
            Err(refused) => return Err(refused.error),
        };
        Ok(End {
            source,
            original: None,
        })
    }

    fn fd(&self) -> &OwnedFd {
        match &self.source {
            Source::Registration(watched) => watched.object(),
            Source::Ready(fd) => fd,
        }
    }

    fn moved(&self, direction: Direction, count: usize) {
        if let Source::Registration(watched) = &self.source {
            watched.moved(direction, count);
        }
    }
}

/// Uses an fd of this process's standard input or output as one end of a stream, without changing
/// it for other processes that share it.
///
/// Terminals and pipes can be reopened by their name in /proc, which creates a separate open file
/// description. Sockets cannot; they get their flags back on drop.
fn standard(
    handle: &Handle,
    fd: BorrowedFd<'_>,
    interest: Interest,
    access: OFlags,
    original: &Rc<Original>,
) -> io::Result<Rc<End>> {
    use rustix::fs::{FileType, Mode, fstat, open};
    use std::os::fd::AsRawFd;

    let kind = FileType::from_raw_mode(fstat(fd)?.st_mode);
    if matches!(kind, FileType::CharacterDevice | FileType::Fifo) {
        let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        if let Ok(own) = open(name, flags, Mode::empty()) {
            return Ok(Rc::new(End::new(handle, own, interest)?));
        }
    }
    let mut end = End::new(handle, fd.try_clone_to_owned()?, interest)?;
    end.original = Some(original.clone());
    Ok(Rc::new(end))
}

/// The standard input and output of this process as one stream.
///
/// It works on terminals, pipes, sockets, files and `/dev/null`, and leaves them unchanged for
/// other processes. Do not read or print through [`std::io`] meanwhile. Input that std has already
/// buffered is not seen here.
///
/// # Errors
/// Fails if one of the two is closed, or there are no resources to watch them.
pub fn stdio(handle: &Handle) -> io::Result<FdStream> {
    // Both are asked before one is changed.
    let original = Rc::new(Original::new()?);
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let input = standard(
        handle,
        stdin.as_fd(),
        Interest::READABLE,
        OFlags::RDONLY,
        &original,
    )?;
    let output = standard(
        handle,
        stdout.as_fd(),
        Interest::WRITABLE,
        OFlags::WRONLY,
        &original,
    )?;
    Ok(FdStream {
        handle: handle.clone(),
        input: Some(input),
        output: Some(output),
        closed: false,
    })
}
