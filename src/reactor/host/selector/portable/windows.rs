//! Windows: mio polls a socket (with the driver AFD) until it reports a direction, and goes on with
//! that direction only when it is registered again.
//!
//! mio keeps the state of its poll in an object of its own, so each source has one here, with a
//! copy of the socket's handle. Nothing is read or written with it, so its type does not matter.

use std::{
    collections::HashMap,
    io,
    net::TcpStream,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use mio::Registry;

use super::super::{interests, token};
use crate::reactor::backend::{Event, Interest, Key, Source};

pub(super) struct Sources(Mutex<HashMap<Key, Watched>>);

struct Watched {
    socket: mio::net::TcpStream,
    /// The directions that were asked for and have not been reported since.
    armed: Interest,
}

impl Sources {
    pub(super) fn new() -> io::Result<Self> {
        start_winsock()?;
        Ok(Sources(Mutex::default()))
    }

    pub(super) fn watch(
        &self,
        registry: &Registry,
        source: Source<'_>,
        key: Key,
        interest: Interest,
    ) -> io::Result<()> {
        let copy = TcpStream::from(source.try_clone_to_owned()?);
        let mut socket = mio::net::TcpStream::from_std(copy);
        // Before it is registered: a waiter may report it at once.
        let mut all = self.lock();
        registry.register(&mut socket, token(key), interests(interest))?;
        all.insert(
            key,
            Watched {
                socket,
                armed: interest,
            },
        );
        Ok(())
    }

    pub(super) fn rearm(
        &self,
        registry: &Registry,
        _: Source<'_>,
        key: Key,
        interest: Interest,
    ) -> io::Result<()> {
        let mut all = self.lock();
        let watched = all.get_mut(&key).ok_or(io::ErrorKind::NotFound)?;
        // It replaces what was asked for before.
        watched.armed = watched.armed | interest;
        registry.reregister(&mut watched.socket, token(key), interests(watched.armed))
    }

    pub(super) fn unwatch(&self, registry: &Registry, _: Source<'_>, key: Key) -> io::Result<()> {
        let watched = self.lock().remove(&key);
        let mut watched = watched.ok_or(io::ErrorKind::NotFound)?;
        registry.deregister(&mut watched.socket)
    }

    /// If a waiter reports a direction while the loop's thread arms it again, it is polled for but
    /// counts as not armed. Then the report is about to be delivered, and it will be armed again.
    pub(super) fn reported(&self, event: &Event) {
        if let Some(watched) = self.lock().get_mut(&event.key) {
            let mut reported = Interest::EMPTY;
            if event.readiness.is_readable() {
                reported = reported | Interest::READABLE;
            }
            if event.readiness.is_writable() {
                reported = reported | Interest::WRITABLE;
            }
            watched.armed = watched.armed.without(reported);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Watched>> {
        // Nothing under the lock can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Winsock has to be started once in a process: WSAStartup.
fn start_winsock() -> io::Result<()> {
    static STARTED: OnceLock<rustix::io::Result<()>> = OnceLock::new();
    let started = STARTED.get_or_init(|| rustix::net::wsa_startup().map(drop));
    Ok((*started)?)
}
