//! The kind process.

use std::{io, rc::Rc};

use super::super::{Client, Connecting, Kinds, kinds::boxed};
use crate::{
    process::{Command, Io},
    reactor::Handle,
};

/// Adds `process:`.
pub(in crate::endpoint) fn add_process(kinds: &mut Kinds) {
    kinds.add_client("process", |arguments| {
        let program = arguments.required("program", "a program")?;
        let arguments = std::iter::from_fn(|| arguments.rest()).collect();
        Ok(Rc::new(Program { program, arguments }))
    });
}

/// A program that is run for each connection and killed when the connection ends.
struct Program {
    program: String,
    arguments: Vec<String>,
}

impl Client for Program {
    fn connect(&self, handle: &Handle) -> Connecting {
        let command = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Io::Stream)
            .stdout(Io::Stream);
        let command = command.stderr(Io::Inherit).kill_on_drop(true);
        let process = command.spawn(handle);
        Box::pin(async move {
            let stream = process.map_err(io::Error::other)?.into_stream();
            Ok(boxed(stream.map_err(|_| {
                io::Error::other("there are no file descriptors left")
            })?))
        })
    }
}
