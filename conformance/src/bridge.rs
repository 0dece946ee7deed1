//! Connects an in-memory stream, which never leaves its thread, to a peer on another thread.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    io::{self, Read, Write},
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_io::{AsyncRead, AsyncWrite};

use super::rig::PATIENCE;
use entwined::{
    forward_stream,
    transport::{ByteStream, memory::MemoryStream},
};

/// The most bytes buffered in each direction: more than one receive takes.
const ROOM: usize = 256 * 1024;

#[derive(Default)]
pub(super) struct Bridge {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    to_peer: VecDeque<u8>,
    /// The stream has sent its last byte.
    ended: bool,
    from_peer: VecDeque<u8>,
    peer_ended: bool,
    peer_gone: bool,
    /// One side has reset the connection.
    reset: bool,
    /// Our stream is gone.
    gone: bool,
    /// The waker of the task that carries bytes.
    waker: Option<Waker>,
}

impl Bridge {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes both sides.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let waker = state.waker.take();
        drop(state);
        self.changed.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Blocks the peer's thread until the condition holds.
    fn wait(&self, until: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self
            .changed
            .wait_timeout_while(self.state(), PATIENCE, |state| !until(state));
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "nothing arrived within {PATIENCE:?}");
        state
    }

    /// Carries bytes between the peer and `stream`, the other end of the stream under test, until
    /// one of them is gone.
    pub(super) fn carry(
        self: &Arc<Self>,
        mut stream: MemoryStream,
    ) -> impl Future<Output = ()> + use<> {
        let bridge = self.clone();
        async move {
            let result = poll_fn(|cx| bridge.poll_carry(&mut stream, cx)).await;
            bridge.change(|state| {
                state.ended = true;
                state.reset |= result.is_err();
            });
        }
    }

    fn poll_carry(&self, stream: &mut MemoryStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        state.waker = Some(cx.waker().clone());
        if state.reset {
            stream.cut(io::ErrorKind::ConnectionReset);
            return Poll::Ready(Ok(()));
        }
        let mut moved = false;
        while !state.from_peer.is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, state.from_peer.as_slices().0) {
                Poll::Ready(Ok(count)) => drop(state.from_peer.drain(..count)),
                // Nobody reads any more, but data that was written can still arrive.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                    state.from_peer.clear()
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
            moved = true;
        }
        if state.from_peer.is_empty() && (state.peer_ended || state.peer_gone) {
            let _ = Pin::new(&mut *stream).poll_close(cx)?;
            if state.peer_gone {
                return Poll::Ready(Ok(()));
            }
        }
        let mut buffer = [0; 16 * 1024];
        while !state.ended && state.to_peer.len() < ROOM {
            let Poll::Ready(count) = Pin::new(&mut *stream).poll_read(cx, &mut buffer)? else {
                break;
            };
            state.to_peer.extend(&buffer[..count]);
            state.ended = count == 0;
            moved = true;
        }
        drop(state);
        if moved {
            self.changed.notify_all();
        }
        Poll::Pending
    }

    /// Wraps the stream under test in a layer that tells the peer of its end at once, even if the
    /// peer does not read.
    pub(super) fn watch(self: &Arc<Self>, below: MemoryStream) -> WatchedEnd {
        WatchedEnd {
            below,
            aborting: false,
            bridge: self.clone(),
        }
    }
}

/// The peer's end.
pub(super) struct BridgeEnd(pub(super) Arc<Bridge>);

impl BridgeEnd {
    pub(super) fn end(&self) {
        self.0.change(|state| state.peer_ended = true);
    }

    pub(super) fn reset(&self) {
        self.0.change(|state| state.reset = true);
    }

    pub(super) fn wait_for_end(&self) {
        drop(self.0.wait(|state| state.gone || state.reset));
    }
}

impl Read for BridgeEnd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self
            .0
            .wait(|state| !state.to_peer.is_empty() || state.ended || state.reset);
        if state.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let count = state.to_peer.read(buffer)?;
        drop(state);
        self.0.change(|_| {});
        Ok(count)
    }
}

impl Write for BridgeEnd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self
            .0
            .wait(|state| state.from_peer.len() < ROOM || state.gone || state.reset);
        if state.gone || state.reset {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(ROOM - state.from_peer.len());
        state.from_peer.extend(&bytes[..count]);
        drop(state);
        self.0.change(|_| {});
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BridgeEnd {
    fn drop(&mut self) {
        self.0.change(|state| state.peer_gone = true);
    }
}

/// See [`Bridge::watch`].
pub(super) struct WatchedEnd {
    below: MemoryStream,
    aborting: bool,
    bridge: Arc<Bridge>,
}

impl Drop for WatchedEnd {
    fn drop(&mut self) {
        let aborting = self.aborting;
        self.bridge.change(|state| {
            state.gone = true;
            state.reset |= aborting;
        });
    }
}

impl AsyncRead for WatchedEnd {
    forward_stream!(below: poll_read);
}

impl AsyncWrite for WatchedEnd {
    forward_stream!(below: poll_write, poll_write_vectored, poll_flush, poll_close);
}

impl ByteStream for WatchedEnd {
    forward_stream!(below: local_address, peer_address);

    fn abort(&mut self) {
        self.aborting = true;
        self.below.abort();
    }

    forward_stream!(below: below);
}
