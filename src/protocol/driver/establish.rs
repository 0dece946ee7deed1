//! The beginning: a stream that becomes ready, the protocol for it, and wrappers that are added
//! later.

use std::{
    io,
    task::{Context, Poll},
};

use super::{Content, Driver, State, Step};
use crate::protocol::{
    Lost,
    connection::{Ending, Upgrade},
};

impl Driver {
    /// Waits until the stream is established. Then builds the protocol if necessary, and calls it.
    pub(super) fn establish(&mut self, cx: &mut Context<'_>) -> Result<Step, Lost> {
        let shared = self.connection.shared.clone();
        let established = match shared.stream.borrow_mut().as_mut() {
            Some(stream) => stream
                .poll_established(cx)
                .map_ok(|()| stream.peer_address()),
            None => return Ok(Step::Wait),
        };
        let peer = match established {
            Poll::Ready(result) => result.map_err(Lost::Failed)?,
            Poll::Pending => {
                let limit = shared.config.get().establish_timeout;
                return self.wait(cx, limit, not_established);
            }
        };
        self.patience = None;
        if peer != *self.connection.peer_address() {
            let _ = shared.true_peer.set(peer);
        }
        if std::mem::replace(&mut self.state, State::Made) == State::Upgrading {
            self.call(|protocol, connection| protocol.upgraded(connection))?;
        } else if self.build() {
            self.call(|protocol, connection| protocol.connection_made(connection))?;
        } else {
            self.connection.close();
        }
        Ok(Step::Again)
    }

    /// Asks the factory, if there is one, for a protocol. Returns false if it refuses or panics.
    pub(super) fn build(&mut self) -> bool {
        if let Content::Factory(factory) = &self.content {
            let handle = &self.connection.shared.handle;
            let built = handle.contain(self.origin, || factory(self.connection.peer_address()));
            self.content = built.flatten().map_or(Content::Nothing, Content::Protocol);
        }
        matches!(self.content, Content::Protocol(_))
    }

    /// Wraps the stream once everything written before it has been sent. The peer has as long as
    /// for a handshake to take that, and no longer for both together.
    pub(super) fn upgrade(&mut self, cx: &mut Context<'_>) -> Result<Step, Lost> {
        let shared = self.connection.shared.clone();
        let due = shared
            .upgrade
            .borrow()
            .as_ref()
            .is_some_and(|upgrade| upgrade.before == 0);
        if !due {
            if shared.ending.get() == Ending::Close {
                return self.linger(cx);
            }
            let limit = shared.config.get().establish_timeout;
            return self.wait(cx, limit, not_established);
        }
        let (upgrade, stream) = (shared.upgrade.take(), shared.stream.take());
        if let (Some(Upgrade { wrap, .. }), Some(stream)) = (upgrade, stream) {
            let handle = &shared.handle;
            if let Some(stream) = handle.contain(self.origin, || wrap(stream)) {
                *shared.stream.borrow_mut() = Some(stream);
            } else {
                self.connection.abort();
            }
        }
        self.state = State::Upgrading;
        Ok(Step::Again)
    }
}

fn not_established() -> Lost {
    let message = "the connection was not established in time";
    Lost::Failed(io::Error::new(io::ErrorKind::TimedOut, message))
}
