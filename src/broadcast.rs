//! One sender, many readers, each at its own pace, in bounded memory.
//!
//! ```
//! use entwined::{Standalone, broadcast::{Broadcast, Received}};
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let news = Broadcast::new(2);
//! let mut reader = news.subscribe();
//! for text in ["one", "two", "three"] {
//!     news.send(text);
//! }
//! handle.clone().spawn(async move {
//!     // Two messages are kept, so the reader has missed the first of three.
//!     assert!(matches!(reader.next().await, Some(Received::Missed(1))));
//!     assert!(matches!(
//!         reader.next().await,
//!         Some(Received::Message { id: 2, message }) if *message == "two"
//!     ));
//!     handle.stop();
//! });
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The latest messages are stored once for all readers. A reader that falls too far behind is
//! [told](Received::Missed) how many messages it has missed, and continues with the oldest one that
//! is left. A slow reader therefore neither costs memory nor delays the others. With one message
//! kept, the channel carries a state: each reader gets the newest message and skips those in
//! between.
//!
//! If the messages come from peers, or their sizes differ much, bound their bytes too:
//! [`Broadcast::with_max_bytes`].

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::{SystemTime, UNIX_EPOCH},
};

use futures_core::Stream;
use slotmap::{DefaultKey, SlotMap};

use crate::{share::spend_message, wake::wake};

/// The sending side of a channel. Cheap to clone. When the last clone is dropped, readers get the
/// messages that are kept, and then the end.
pub struct Broadcast<T> {
    sender: Rc<Sender<T>>,
}

struct Sender<T>(Rc<Shared<T>>);

/// How many bytes a message counts for.
type Size<T> = Box<dyn Fn(&T) -> usize>;

struct Shared<T> {
    size: Size<T>,
    /// Distinguishes the message numbers of this channel from those of another, for example the one
    /// in the program's previous run.
    epoch: u64,
    state: RefCell<State<T>>,
}

struct State<T> {
    /// The messages, each with its size.
    kept: VecDeque<(Rc<T>, usize)>,
    limit: usize,
    /// The sum of the sizes.
    bytes: usize,
    max_bytes: usize,
    /// The number of the newest message; the first is 1.
    newest: u64,
    readers: SlotMap<DefaultKey, Option<Waker>>,
    over: bool,
}

/// What a reader receives.
#[derive(Debug)]
pub enum Received<T> {
    /// A message with its number. The first message has the number 1; the numbers have no gaps.
    Message {
        /// The number.
        id: u64,
        /// The message, shared by all readers.
        message: Rc<T>,
    },
    /// This many messages were sent but are no longer kept.
    Missed(u64),
}

impl<T> Broadcast<T> {
    /// Creates a channel that keeps this many messages, at least one, for slow readers and for
    /// those that subscribe later. It does not know how large they are: this is for messages that
    /// the program makes, and whose size it knows.
    pub fn new(kept: usize) -> Self {
        Broadcast::with_max_bytes(kept, usize::MAX, |_| 0)
    }

    /// Creates a channel that keeps at most this many messages, and at most `max_bytes` of them, as
    /// `size` counts them. The newest message is kept in any case, so that readers get it. A
    /// message that a reader has [received](Received::Message) lives for as long as the reader
    /// keeps it, and no longer counts.
    ///
    /// `size` is called once for each message, inside [`send`](Broadcast::send).
    ///
    /// ```
    /// # use entwined::broadcast::Broadcast;
    /// let chat = Broadcast::with_max_bytes(100, 256 * 1024, String::len);
    /// chat.send("hello".to_owned());
    /// assert_eq!(chat.kept_bytes(), 5);
    /// ```
    pub fn with_max_bytes(
        kept: usize,
        max_bytes: usize,
        size: impl Fn(&T) -> usize + 'static,
    ) -> Self {
        let state = State {
            kept: VecDeque::new(),
            limit: kept.max(1),
            bytes: 0,
            max_bytes,
            newest: 0,
            readers: SlotMap::new(),
            over: false,
        };
        Broadcast {
            sender: Rc::new(Sender(Rc::new(Shared {
                size: Box::new(size),
                epoch: new_epoch(),
                state: RefCell::new(state),
            }))),
        }
    }

    /// Sends a message to all readers and returns its number. The readers receive it later, each in
    /// its own task.
    pub fn send(&self, message: T) -> u64 {
        let size = (self.sender.0.size)(&message);
        let mut state = self.sender.0.state.borrow_mut();
        // These may be the last references, so the drop runs user code.
        let mut dropped = Vec::new();
        while state.kept.len() == state.limit
            || (!state.kept.is_empty() && state.bytes.saturating_add(size) > state.max_bytes)
        {
            let (oldest, size) = state.kept.pop_front().expect("there is one");
            state.bytes -= size;
            dropped.push(oldest);
        }
        state.bytes += size;
        state.kept.push_back((Rc::new(message), size));
        state.newest += 1;
        let number = state.newest;
        let wakers: Vec<_> = state
            .readers
            .values_mut()
            .filter_map(Option::take)
            .collect();
        drop(state);
        wakers.into_iter().for_each(wake);
        drop(dropped);
        number
    }

    /// Returns the bytes of the kept messages, as the channel counts them.
    pub fn kept_bytes(&self) -> usize {
        self.sender.0.state.borrow().bytes
    }

    /// Returns a reader of the messages sent from now on.
    pub fn subscribe(&self) -> Subscriber<T> {
        self.subscribe_after(self.newest())
    }

    /// Returns a reader that first gets the kept messages. In a state channel, that is the current
    /// state.
    pub fn subscribe_to_kept(&self) -> Subscriber<T> {
        let state = self.sender.0.state.borrow();
        let before = state.newest - state.kept.len() as u64;
        drop(state);
        self.subscribe_after(before)
    }

    /// Returns a reader of all messages after the one with this number. A number above the newest
    /// counts as the newest.
    pub fn subscribe_after(&self, id: u64) -> Subscriber<T> {
        let shared = self.sender.0.clone();
        let mut state = shared.state.borrow_mut();
        let (key, read) = (state.readers.insert(None), id.min(state.newest));
        drop(state);
        Subscriber { shared, key, read }
    }

    /// Returns the number of the newest message, or 0 if there is none yet.
    pub fn newest(&self) -> u64 {
        self.sender.0.state.borrow().newest
    }

    /// Returns the number of readers.
    pub fn subscribers(&self) -> usize {
        self.sender.0.state.borrow().readers.len()
    }

    /// Returns a number that distinguishes this channel from every other one, such as the one in
    /// the program's previous run.
    pub fn epoch(&self) -> u64 {
        self.sender.0.epoch
    }
}

/// The time, in microseconds: it differs from those of the program's previous run. Each is used
/// once.
fn new_epoch() -> u64 {
    static LAST: Mutex<u64> = Mutex::new(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_micros() as u64);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    *last = now.max(*last + 1);
    *last
}

/// A reader. It is also a [`Stream`]. Dropping it unsubscribes.
pub struct Subscriber<T> {
    shared: Rc<Shared<T>>,
    key: DefaultKey,
    /// The number of the last message that was read.
    read: u64,
}

impl<T> Subscriber<T> {
    /// Waits for the next message. Returns `None` at the end of the channel.
    pub async fn next(&mut self) -> Option<Received<T>> {
        poll_fn(|cx| self.poll_received(cx)).await
    }

    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received<T>>> {
        let state = self.shared.state.borrow();
        let before = state.newest - state.kept.len() as u64;
        // A reader that is far behind does not hold up others while it catches up.
        if self.read < state.newest && !spend_message() {
            drop(state);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.read < before {
            let missed = before - self.read;
            self.read = before;
            return Poll::Ready(Some(Received::Missed(missed)));
        }
        if let Some((message, _)) = state.kept.get((self.read - before) as usize) {
            self.read += 1;
            return Poll::Ready(Some(Received::Message {
                id: self.read,
                message: message.clone(),
            }));
        }
        if state.over {
            return Poll::Ready(None);
        }
        drop(state);
        // The waker of another executor may do anything when it is cloned or dropped.
        let waker = cx.waker().clone();
        let mut state = self.shared.state.borrow_mut();
        let old = state
            .readers
            .get_mut(self.key)
            .and_then(|place| place.replace(waker));
        let missed = self.read < state.newest || state.over;
        drop(state);
        drop(old);
        if missed {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<T> Stream for Subscriber<T> {
    type Item = Received<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Received<T>>> {
        self.poll_received(cx)
    }
}

impl<T> Drop for Subscriber<T> {
    fn drop(&mut self) {
        let waker = self.shared.state.borrow_mut().readers.remove(self.key);
        drop(waker);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.borrow_mut();
        state.over = true;
        let wakers: Vec<_> = state
            .readers
            .values_mut()
            .filter_map(Option::take)
            .collect();
        drop(state);
        wakers.into_iter().for_each(wake);
    }
}

impl<T> Clone for Broadcast<T> {
    fn clone(&self) -> Self {
        Broadcast {
            sender: self.sender.clone(),
        }
    }
}

impl<T> fmt::Debug for Broadcast<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast")
            .field("newest", &self.newest())
            .field("subscribers", &self.subscribers())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Subscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber")
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Those of one microsecond had one number.
    #[test]
    fn every_channel_has_a_number_of_its_own() {
        let epochs: std::collections::BTreeSet<_> =
            (0..1000).map(|_| Broadcast::<()>::new(1).epoch()).collect();
        assert_eq!(epochs.len(), 1000);
    }

    /// Everything available without waiting: message numbers, and negative counts of missed
    /// messages.
    fn all<T>(reader: &mut Subscriber<T>) -> (Vec<i64>, bool) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut got = Vec::new();
        loop {
            match reader.poll_received(&mut cx) {
                Poll::Ready(Some(Received::Message { id, .. })) => got.push(id as i64),
                Poll::Ready(Some(Received::Missed(count))) => got.push(-(count as i64)),
                Poll::Ready(None) => return (got, true),
                Poll::Pending => return (got, false),
            }
        }
    }

    #[test]
    fn each_reader_goes_at_its_own_pace_and_hears_what_it_has_missed() {
        let channel = Broadcast::new(3);
        let mut early = channel.subscribe();
        channel.send("a");
        assert_eq!(all(&mut early).0, [1]);
        for text in ["b", "c", "d", "e", "f"] {
            channel.send(text);
        }
        let (mut late, mut new, mut again) = (
            channel.subscribe_to_kept(),
            channel.subscribe(),
            channel.subscribe_after(5),
        );
        assert_eq!(all(&mut early).0, [-2, 4, 5, 6]);
        assert_eq!(all(&mut late).0, [4, 5, 6]);
        assert_eq!(all(&mut new).0, [0_i64; 0]);
        assert_eq!(all(&mut again).0, [6]);
        assert_eq!((channel.send("g"), channel.subscribers()), (7, 4));
        drop((late, again));
        assert_eq!(channel.subscribers(), 2);
        drop(channel);
        assert_eq!(all(&mut new), (vec![7], true));
    }

    #[test]
    fn those_who_wait_are_woken_once_by_a_message_and_by_the_end() {
        let channel = Broadcast::new(1);
        let mut reader = channel.subscribe();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        for _ in 0..100 {
            assert!(reader.poll_received(&mut cx).is_pending());
        }
        channel.send(());
        channel.send(());
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        while reader.poll_received(&mut cx).is_ready() {}
        drop(channel.clone());
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        drop(channel);
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        assert!(matches!(reader.poll_received(&mut cx), Poll::Ready(None)));
    }

    #[test]
    fn large_messages_push_older_ones_out_and_the_newest_stays() {
        let channel = Broadcast::with_max_bytes(4, 10, |text: &String| text.len());
        let mut slow = channel.subscribe();
        for size in [3, 3, 4] {
            channel.send("x".repeat(size));
        }
        assert_eq!(channel.kept_bytes(), 10);
        channel.send("x".repeat(4));
        assert_eq!(channel.kept_bytes(), 8);
        channel.send("x".repeat(1_000_000));
        assert_eq!(channel.kept_bytes(), 1_000_000);
        assert_eq!(all(&mut slow).0, [-4, 5]);
        channel.send("x".repeat(2));
        assert_eq!(channel.kept_bytes(), 2);
        // Messages without bytes are bounded by their number.
        for _ in 0..10 {
            channel.send(String::new());
        }
        assert_eq!(all(&mut slow).0, [-7, 13, 14, 15, 16]);
    }

    /// Dropping a message may send another one.
    #[test]
    fn what_is_dropped_may_use_the_channel() {
        struct Again(Option<Broadcast<Again>>);
        impl Drop for Again {
            fn drop(&mut self) {
                if let Some(channel) = self.0.take() {
                    channel.send(Again(None));
                }
            }
        }
        let channel = Broadcast::new(1);
        channel.send(Again(Some(channel.clone())));
        channel.send(Again(None));
        assert_eq!(channel.newest(), 3);
    }

    /// The waker of another executor may run what it wakes at once.
    #[test]
    fn a_waker_may_use_the_channel() {
        thread_local! {
            static CHANNEL: RefCell<Option<Broadcast<u32>>> = const { RefCell::new(None) };
        }

        struct Sends;

        impl Wake for Sends {
            fn wake(self: Arc<Self>) {
                let channel = CHANNEL.with_borrow(Clone::clone);
                channel.expect("there is one").send(0);
            }
        }

        let channel = Broadcast::new(1_000);
        CHANNEL.set(Some(channel.clone()));
        let mut reader = channel.subscribe();
        for number in 0..200 {
            channel.send(number);
        }
        let reactor = crate::Standalone::new().expect("a reactor");
        let read = reactor.block_on(async move {
            let mut read = 0;
            poll_fn(move |cx| {
                let waker = Arc::new(Sends).into();
                let mut foreign = Context::from_waker(&waker);
                // Beyond its share it wakes itself.
                while reader.poll_received(&mut foreign).is_ready() {
                    read += 1;
                }
                if read >= 200 {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            Ok::<_, crate::reactor::RunError>(())
        });
        read.expect("a run without a panic");
        CHANNEL.set(None);
    }
}
