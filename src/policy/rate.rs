//! How fast bytes may go.

use std::{
    cell::RefCell,
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

use futures_io::{AsyncRead, AsyncWrite};

use super::TokenBucket;
use crate::{
    reactor::Handle,
    task::Sleep,
    transport::{Address, ByteStream},
};

/// A [`TokenBucket`] that streams share: clones are the same.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: u64,
    burst: u64,
    bucket: Rc<RefCell<Option<TokenBucket>>>,
}

impl Bucket {
    /// `rate` bytes a second for all who share it, `burst` bytes at once.
    pub fn new(rate: u64, burst: u64) -> Self {
        Bucket {
            rate,
            burst,
            bucket: Rc::default(),
        }
    }

    fn with<T>(&self, now: Instant, ask: impl FnOnce(&mut TokenBucket) -> T) -> T {
        let mut bucket = self.bucket.borrow_mut();
        ask(bucket.get_or_insert_with(|| TokenBucket::new(self.rate, self.burst, now)))
    }
}

/// A stream that is read and written no faster than it may. Nothing is dropped: a peer is held back
/// as by a slow network.
///
/// Who finds the bucket empty waits until what was owed then is repaid, and then takes a piece of
/// up to 1 KiB even if others were faster. So all who share a bucket get on alike, and each may be
/// ahead of the rate by one piece, which those who come later wait for.
#[derive(Debug)]
pub struct RateLimited<S> {
    below: S,
    handle: Handle,
    input: Option<Limit>,
    output: Option<Limit>,
}

#[derive(Debug)]
struct Limit {
    bucket: Bucket,
    sleep: Option<Sleep>,
}

/// So many bytes may go at least when any may, so that a slow stream does not go byte by byte.
const PIECE: u64 = 1_024;

impl<S: ByteStream> RateLimited<S> {
    /// Limits what is received by one bucket and what is sent by another; a direction without one
    /// is not limited.
    pub fn new(handle: &Handle, stream: S, input: Option<Bucket>, output: Option<Bucket>) -> Self {
        let limit = |bucket: Option<Bucket>| {
            bucket.map(|bucket| Limit {
                bucket,
                sleep: None,
            })
        };
        RateLimited {
            below: stream,
            handle: handle.clone(),
            input: limit(input),
            output: limit(output),
        }
    }
}

impl Limit {
    /// How many bytes may go, at least one.
    fn poll_room(&mut self, cx: &mut Context<'_>, handle: &Handle) -> Poll<usize> {
        let now = handle.now();
        let room = self.bucket.with(now, |bucket| bucket.available(now));
        if room == 0 || self.sleep.is_some() {
            let due = || self.bucket.with(now, |bucket| bucket.when(1, now));
            let sleep = self.sleep.get_or_insert_with(|| handle.sleep_until(due()));
            ready!(Pin::new(sleep).poll(cx));
            self.sleep = None;
        }
        let room = room.max(PIECE.min(self.bucket.burst)).max(1);
        Poll::Ready(usize::try_from(room).unwrap_or(usize::MAX))
    }

    fn take(&self, count: usize, handle: &Handle) {
        let now = handle.now();
        self.bucket
            .with(now, |bucket| bucket.take(count as u64, now));
    }
}

impl<S: ByteStream> AsyncRead for RateLimited<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let Some(limit) = &mut this.input else {
            return Pin::new(&mut this.below).poll_read(cx, buffer);
        };
        let room = ready!(limit.poll_room(cx, &this.handle)).min(buffer.len());
        let count = ready!(Pin::new(&mut this.below).poll_read(cx, &mut buffer[..room]))?;
        limit.take(count, &this.handle);
        Poll::Ready(Ok(count))
    }
}

impl<S: ByteStream> AsyncWrite for RateLimited<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let Some(limit) = &mut this.output else {
            return Pin::new(&mut this.below).poll_write(cx, buffer);
        };
        let room = ready!(limit.poll_room(cx, &this.handle)).min(buffer.len());
        let count = ready!(Pin::new(&mut this.below).poll_write(cx, &buffer[..room]))?;
        limit.take(count, &this.handle);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.output.is_none() {
            return Pin::new(&mut self.below).poll_write_vectored(cx, buffers);
        }
        let first = buffers.iter().find(|buffer| !buffer.is_empty());
        self.poll_write(cx, first.map_or(&[], |buffer| &**buffer))
    }

    forward!(end);
}

impl<S: ByteStream> ByteStream for RateLimited<S> {
    forward!(stream);
    forward!(established);
}
