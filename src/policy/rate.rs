//! Limits the rate of bytes.

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
use crate::{forward_stream, reactor::Handle, task::Sleep, transport::ByteStream};

/// A [`TokenBucket`] that streams share. Clones refer to the same bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: u64,
    burst: u64,
    bucket: Rc<RefCell<Option<TokenBucket>>>,
}

impl Bucket {
    /// Allows `rate` bytes per second in total for all streams that share the bucket, in bursts of
    /// `burst` bytes.
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

/// A stream with limited read and write rates. Nothing is dropped: the peer sees backpressure, as
/// on a slow network.
///
/// A stream that finds the bucket empty waits until the debt at that moment is repaid. It may then
/// take a piece of up to 1 KiB, even if other streams have emptied the bucket meanwhile. This is
/// fair to all streams that share a bucket. Each of them can exceed the rate by one piece, and
/// later streams wait for that debt.
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

/// Minimum size of a piece, so that a slow stream does not transfer byte by byte.
const PIECE: u64 = 1_024;

impl<S: ByteStream> RateLimited<S> {
    /// Limits what is received with one bucket and what is sent with another. `None` leaves a
    /// direction unlimited.
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
    /// How many bytes may be transferred, at least one.
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

    forward_stream!(below: poll_flush, poll_close);
}

impl<S: ByteStream> ByteStream for RateLimited<S> {
    forward_stream!(below: local_address, peer_address, poll_established, abort, below);
}
