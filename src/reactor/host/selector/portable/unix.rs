//! Unix: mio takes a file descriptor by its number, and reports edges.

use std::{io, os::fd::AsRawFd};

use mio::{Registry, unix::SourceFd};

use super::super::{interests, token};
use crate::reactor::backend::{Event, Interest, Key, Source};

pub(super) struct Sources;

impl Sources {
    // It is fallible on Windows.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Sources)
    }

    pub(super) fn watch(
        &self,
        registry: &Registry,
        source: Source<'_>,
        key: Key,
        interest: Interest,
    ) -> io::Result<()> {
        registry.register(
            &mut SourceFd(&source.as_raw_fd()),
            token(key),
            interests(interest),
        )
    }

    /// The next edge is reported anyway.
    // It is fallible on Windows.
    pub(super) fn rearm(&self, _: &Registry, _: Source<'_>, _: Key, _: Interest) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn unwatch(
        &self,
        registry: &Registry,
        source: Source<'_>,
        _: Key,
    ) -> io::Result<()> {
        registry.deregister(&mut SourceFd(&source.as_raw_fd()))
    }

    pub(super) fn reported(&self, _: &Event) {}
}
