//! The streams of an HTTP/2 connection.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
    time::Instant,
};

use bytes::Bytes;

#[cfg(feature = "http2")]
use {
    crate::{rate::Least, times::later},
    std::time::Duration,
};

/// The most bytes of a response that h2 has and has not sent when the body is at its end.
pub(super) const UNSENT: u64 = 64 * 1024 + PIECE as u64;

/// The most bytes that an HTTP/2 stream is given at a time, which is a frame. The peer has
/// [`Config::write_timeout`] for each.
pub(super) const PIECE: usize = 16 * 1024;

/// State of a connection with several streams.
pub(super) struct Multiplexed {
    /// Requests, and streams that were handed over.
    pub(super) open: Cell<u32>,
    /// Streams that were handed over.
    pub(super) taken: Cell<u32>,
    pub(super) latest: RefCell<Option<Rc<StreamPace>>>,
    /// The tasks of bodies that have no end of their own, by the number of their request.
    pub(super) live: RefCell<HashMap<u64, Waker>>,
    /// When bytes were last written.
    pub(super) written: Cell<Instant>,
    /// The pieces of bodies that h2 has and has not sent. The count is shared with the pieces, and
    /// they must be `Send`.
    pub(super) unsent: Arc<AtomicUsize>,
}

/// A piece of a body, until h2 has sent it.
pub(super) struct Unsent {
    pub(super) bytes: Bytes,
    pub(super) all: Arc<AtomicUsize>,
}

/// Shorter pieces are not counted: the kernel takes them at once, or nearly.
pub(super) const MIN_COUNTED: usize = 1024;

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The progress of one HTTP/2 stream.
#[derive(Default)]
pub(crate) struct StreamPace {
    /// When the latest piece was given; `None` while the peer has all that is ready for it.
    given: Cell<Option<Instant>>,
    /// The bytes of that piece.
    piece: Cell<u64>,
    /// Since when the peer has read more slowly than we write, and how many bytes it has taken
    /// since then.
    behind: Cell<Option<(Instant, u64)>>,
}

impl StreamPace {
    /// The peer is ready for a piece of the body and gets it, so it has taken the one before.
    pub(super) fn give(&self, now: Instant, bytes: usize) {
        let before = self.piece.replace(bytes as u64);
        if let Some((since, moved)) = self.behind.get() {
            self.behind.set(Some((since, moved + before)));
        }
        self.given.set(Some(now));
    }

    /// The peer has taken everything so far.
    pub(super) fn caught_up(&self) {
        self.given.set(None);
        self.piece.set(0);
        self.behind.set(None);
    }

    #[cfg(feature = "http2")]
    /// Returns until when the stream may go on without progress; `None` if it does not wait for its
    /// peer.
    pub(crate) fn due(
        &self,
        now: Instant,
        write_timeout: Duration,
        least: Least,
    ) -> Option<Instant> {
        let stuck = later(self.given.get()?, write_timeout);
        let (since, moved) = self.behind.get().unwrap_or((now, 0));
        self.behind.set(Some((since, moved)));
        Some(
            least
                .due(since, moved)
                .map_or(stuck, |slow| slow.min(stuck)),
        )
    }
}

#[cfg(all(test, feature = "http2"))]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_stream_is_due_by_what_its_peer_takes() {
        let (least, timeout) = (Least::of(&Config::default()), Duration::from_secs(30));
        let (stream, start) = (StreamPace::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(stream.due(start, timeout, least), None, "nothing is ready");
        stream.give(start, PIECE);
        assert_eq!(
            stream.due(start, timeout, least),
            Some(at(5)),
            "240 bytes/s, after 5 s"
        );
        // It has taken 16 KiB, which is enough for more than a minute, but not for so long a pause.
        stream.give(at(4), PIECE);
        assert_eq!(stream.due(at(4), timeout, least), Some(at(34)));
        stream.caught_up();
        assert_eq!(stream.due(at(4), timeout, least), None);
    }
}
