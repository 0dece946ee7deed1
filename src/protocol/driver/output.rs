//! What is sent.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures_io::AsyncWrite;

use super::{Driver, Step};
use crate::protocol::{
    Lost,
    connection::{Ending, Told},
};

impl Driver {
    /// Sends the queued bytes as far as the peer takes them. Returns true when all are sent.
    pub(super) fn send(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let shared = &self.connection.shared;
        let mut stream = shared.stream.borrow_mut();
        let mut outbound = shared.outbound.borrow_mut();
        let mut upgrade = shared.upgrade.borrow_mut();
        let Some(stream) = stream.as_mut() else {
            return Ok(true);
        };
        loop {
            // Bytes written after a call of `upgrade` wait for the wrapper.
            let before = upgrade
                .as_ref()
                .map_or(outbound.len(), |upgrade| upgrade.before);
            if before == 0 {
                break;
            }
            match Pin::new(&mut *stream).poll_write(cx, &outbound.bytes()[..before]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    outbound.consume(count);
                    shared.moved.set(shared.handle.turn_time());
                    if let Some(upgrade) = upgrade.as_mut() {
                        upgrade.before -= count;
                    }
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(false),
            }
        }
        match Pin::new(&mut *stream).poll_flush(cx) {
            Poll::Ready(result) => result.map(|()| true),
            Poll::Pending => Ok(false),
        }
    }

    /// Tells the protocol when the queue passes a watermark. If it was told that the queue is full,
    /// it is also told when there is room again.
    pub(super) fn tell_producer(&mut self) -> Result<Step, Lost> {
        let shared = &self.connection.shared;
        let waiting = shared.outbound.borrow().len();
        let config = shared.config.get();
        let told = shared.told.get();
        if shared.ending.get() != Ending::Not || told == Told::Open {
            return Ok(Step::Wait);
        }
        if waiting <= config.low_water {
            shared.told.set(Told::Open);
            self.call(|protocol, connection| protocol.resume_writing(connection))?;
        } else if told == Told::Full {
            shared.told.set(Told::Pause);
            self.call(|protocol, connection| protocol.pause_writing(connection))?;
        } else {
            return Ok(Step::Wait);
        }
        Ok(Step::Again)
    }

    pub(super) fn half_close(&mut self, cx: &mut Context<'_>) -> Result<(), Lost> {
        if self.half_closed {
            return Ok(());
        }
        let mut stream = self.connection.shared.stream.borrow_mut();
        let Some(stream) = stream.as_mut() else {
            return Ok(());
        };
        match Pin::new(stream).poll_close(cx) {
            Poll::Ready(result) => {
                self.half_closed = true;
                result.map_err(Lost::Failed)
            }
            Poll::Pending => Ok(()),
        }
    }
}
