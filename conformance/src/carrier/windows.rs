//! Windows: no other transports than those of every system.

use std::io::{self, Read, Write};

use entwined::protocol::Connection;

/// There is nothing that TCP lacks.
pub(super) fn ask_tcp(_: &Connection) {}

/// The other end of a connection: there are none.
pub(crate) enum OsPeer {}

impl OsPeer {
    pub(super) fn end(&mut self) {
        match *self {}
    }

    pub(super) fn reset(&self) {
        match *self {}
    }

    pub(super) fn hold(&self) {
        match *self {}
    }
}

impl Read for OsPeer {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }
}

impl Write for OsPeer {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match *self {}
    }
}
