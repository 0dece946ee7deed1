//! What the fds of a child are connected to.

use std::{
    fs::File,
    io,
    os::{
        fd::{OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

pub use crate::transport::fd::FdStream as ChildStream;
use crate::{reactor::Handle, transport::fd};

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
pub(in crate::process) struct OtherEnd {
    fd: OwnedFd,
    /// Whether the child writes to it (`output`) and reads from it (`input`).
    output: bool,
    input: bool,
}

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
    let (reader, writer) = entwined_spawn::pipe()?;
    let (theirs, fd) = match output {
        true => (writer, reader),
        false => (reader, writer),
    };
    let input = !output;
    Ok((theirs, Some(OtherEnd { fd, output, input })))
}

/// Makes a stream of one end.
pub(in crate::process) fn stream(handle: &Handle, end: OtherEnd) -> io::Result<ChildStream> {
    match (end.output, end.input) {
        (true, true) => fd::duplex(handle, end.fd),
        (true, false) => fd::pair(handle, Some(end.fd), None),
        (false, _) => fd::pair(handle, None, Some(end.fd)),
    }
}

/// Makes a stream of the end of the child's output, to read, and that of its input, to write to.
pub(in crate::process) fn pair(
    handle: &Handle,
    output: OtherEnd,
    input: OtherEnd,
) -> io::Result<ChildStream> {
    fd::pair(handle, Some(output.fd), Some(input.fd))
}

fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    entwined_spawn::duplicate(number).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot inherit file descriptor {number} of this process: {error}"),
        )
    })
}
