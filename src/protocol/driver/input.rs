//! What is received.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_io::AsyncRead;

use super::{Driver, Input, Step};
use crate::{
    protocol::{End, Lost, connection::Ending},
    scratch::Scratch,
};

impl Driver {
    pub(super) fn receive(&mut self, cx: &mut Context<'_>) -> Result<Step, Lost> {
        // The buffer is shared by all connections of the thread. If a callback spins the loop,
        // other connections use another one meanwhile.
        let mut buffer = Scratch::take();
        match self.read(cx, &mut buffer) {
            Poll::Pending => Ok(Step::Wait),
            Poll::Ready(Err(error)) => Err(Lost::Failed(error)),
            Poll::Ready(Ok(0)) => self.end_of_input(),
            Poll::Ready(Ok(count)) => {
                self.moved();
                self.call(|protocol, connection| {
                    protocol.data_received(connection, &buffer[..count])
                })
                .map(|()| Step::Again)
            }
        }
    }

    pub(super) fn read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut stream = self.connection.shared.stream.borrow_mut();
        let Some(stream) = stream.as_mut() else {
            return Poll::Pending;
        };
        Poll::Ready(ready!(Pin::new(stream).poll_read(cx, buffer)))
    }

    pub(super) fn end_of_input(&mut self) -> Result<Step, Lost> {
        self.input = Input::Ended;
        let mut answer = End::Close;
        self.call(|protocol, connection| answer = protocol.end_received(connection))?;
        if answer == End::Close {
            self.connection.close();
        }
        Ok(Step::Again)
    }

    /// Tells the protocol that it may go on with what it has received.
    pub(super) fn resume(&mut self, cx: &mut Context<'_>) -> Result<Step, Lost> {
        let shared = &self.connection.shared;
        if !shared.handle.spend(1) {
            cx.waker().wake_by_ref();
            return Ok(Step::Wait);
        }
        shared.reading_resumed.set(false);
        self.moved();
        self.call(|protocol, connection| protocol.reading_resumed(connection))?;
        Ok(Step::Again)
    }

    /// Hears a peer that takes no more, until it has ended too: it may have said why, and the rest
    /// of the output of a program that has read enough is still to come.
    pub(super) fn last_words(&mut self, cx: &mut Context<'_>) -> Result<Step, Lost> {
        let shared = &self.connection.shared;
        let over = shared.ending.get() == Ending::Close
            || self.input == Input::Ended
            || shared.upgrade.borrow().is_some();
        if over {
            return Err(self.failure());
        }
        if shared.reading_resumed.get() {
            self.patience = None;
            return self.resume(cx);
        }
        let mut limit = shared.config.get().close_timeout;
        let heard = match shared.reading_paused.get() {
            true => {
                limit = limit.min(PAUSED_TIME);
                Ok(Step::Wait)
            }
            false => self.receive(cx),
        };
        match heard {
            Ok(Step::Again) => Ok(Step::Again),
            Ok(Step::Wait) => self
                .wait(cx, limit, || Lost::Stuck)
                .map_err(|_| self.failure()),
            Err(Lost::Failed(_)) => Err(self.failure()),
            Err(why) => Err(why),
        }
    }

    pub(super) fn failure(&mut self) -> Lost {
        let broken = || io::ErrorKind::BrokenPipe.into();
        Lost::Failed(self.failed.take().unwrap_or_else(broken))
    }

    /// Reads and discards bytes that have already arrived, before the stream is closed. If a socket
    /// is closed with unread bytes, the kernel sends a reset, which may overtake the last bytes
    /// sent (RFC 1122, 4.2.2.13).
    pub(super) fn discard(&mut self, cx: &mut Context<'_>) {
        // Bytes for which the task has no share left would count as none.
        let _share = self.connection.shared.handle.core().begin_share();
        let mut buffer = Scratch::take();
        for _ in 0..DISCARDS {
            match self.read(cx, &mut buffer) {
                Poll::Ready(Ok(1..)) => {}
                _ => break,
            }
        }
    }
}

/// How long a protocol that has paused reading may take to hear the last words of a peer that takes
/// no more.
const PAUSED_TIME: Duration = Duration::from_secs(1);

/// How many buffers of unread bytes are discarded at most when the stream is closed.
const DISCARDS: usize = 4;
