//! What the streams of a child are connected to.

use std::{io, process::Stdio};

use super::{
    pipes::{self, Pipe},
    stream::ChildStream,
};
use crate::reactor::Handle;

/// What a standard stream of a child is connected to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Io {
    /// `NUL`. This is the default.
    Null,
    /// This process's stream of the same number.
    Inherit,
    /// A stream on this side: a pipe.
    Stream,
}

/// This side's end of a child's stream.
#[derive(Debug)]
pub(in crate::process) struct OtherEnd {
    pipe: Pipe,
    /// Whether the child reads from it.
    input: bool,
}

impl Io {
    /// Opens the child's end, and this side's end if there is a stream.
    pub(super) fn open(self, number: i32) -> io::Result<(Stdio, Option<OtherEnd>)> {
        match self {
            Io::Null => Ok((Stdio::null(), None)),
            Io::Inherit => Ok((Stdio::inherit(), None)),
            Io::Stream => {
                let input = number == 0;
                let (theirs, pipe) = pipes::open(input)?;
                Ok((theirs.into(), Some(OtherEnd { pipe, input })))
            }
        }
    }
}

/// Makes a stream of one end.
pub(in crate::process) fn stream(_: &Handle, end: OtherEnd) -> io::Result<ChildStream> {
    Ok(match end.input {
        true => ChildStream::new(None, Some(end.pipe)),
        false => ChildStream::new(Some(end.pipe), None),
    })
}

/// Makes a stream of the end of the child's output, to read, and that of its input, to write to.
pub(in crate::process) fn pair(
    _: &Handle,
    output: OtherEnd,
    input: OtherEnd,
) -> io::Result<ChildStream> {
    Ok(ChildStream::new(Some(output.pipe), Some(input.pipe)))
}
