//! What the fds of a child are connected to.

use std::{
    fs::File,
    io,
    os::{
        fd::{OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

use rustix::pipe::{PipeFlags, pipe_with};

/// What an fd of a child is connected to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Io {
    /// `/dev/null`. This is the default of the three standard fds.
    Null,
    /// This process's fd of the same number.
    Inherit,
    /// A stream on this side. The standard fds get a pipe in their usual direction; other fds get a
    /// socket for both directions.
    Stream,
    /// A pipe that the child reads. This side writes to it through a stream.
    PipeIn,
    /// A pipe that the child writes to. This side reads it through a stream.
    PipeOut,
    /// This fd: a file, a socket or a terminal.
    Fd(OwnedFd),
}

/// This side's end of a child's fd.
#[derive(Debug)]
pub(super) struct OtherEnd {
    pub(super) fd: OwnedFd,
    /// Whether the child writes to it (`output`) and reads from it (`input`).
    pub(super) output: bool,
    pub(super) input: bool,
}

/// The key of a child's terminal among the ends. It is not an fd number.
pub(super) const TERMINAL: RawFd = -1;

impl OtherEnd {
    /// An end for both directions.
    pub(super) fn both(fd: OwnedFd) -> Self {
        OtherEnd {
            fd,
            output: true,
            input: true,
        }
    }
}

impl Io {
    /// Opens the child's end, and this side's end if there is a stream.
    pub(super) fn open(self, number: RawFd) -> io::Result<(OwnedFd, Option<OtherEnd>)> {
        match (self, number) {
            (Io::Stream, 0) | (Io::PipeIn, _) => pipe(false),
            (Io::Stream, 1 | 2) | (Io::PipeOut, _) => pipe(true),
            (Io::Stream, _) => {
                let (theirs, ours) = UnixStream::pair()?;
                Ok((theirs.into(), Some(OtherEnd::both(ours.into()))))
            }
            (Io::Null, _) => {
                let null = File::options().read(true).write(true).open("/dev/null")?;
                Ok((null.into(), None))
            }
            (Io::Inherit, number) => Ok((inherited(number)?, None)),
            (Io::Fd(fd), _) => Ok((fd, None)),
        }
    }
}

/// Opens a pipe that the child writes to (`output`) or reads.
fn pipe(output: bool) -> io::Result<(OwnedFd, Option<OtherEnd>)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let (theirs, fd) = match output {
        true => (writer, reader),
        false => (reader, writer),
    };
    let input = !output;
    Ok((theirs, Some(OtherEnd { fd, output, input })))
}

fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    entwined_spawn::duplicate(number).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot inherit file descriptor {number} of this process: {error}"),
        )
    })
}
