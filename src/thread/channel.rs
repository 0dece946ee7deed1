//! A channel from a job to the event loop.

use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread::{self, ThreadId},
};

use futures_core::Stream;

use crate::share;

/// What a sender does if the channel is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenFull {
    /// Waits until the receiver has taken a value. Nothing is lost, and a slow receiver slows the
    /// job down.
    Wait,
    /// Drops the oldest value. The job never waits, and the newest values arrive.
    DropOldest,
}

/// Creates a channel from any thread to this one. It holds at most `capacity` values at a time;
/// zero counts as one. With `channel(1, WhenFull::DropOldest)` the receiver sees only the newest
/// value, which is what a progress bar needs.
///
/// ```
/// use std::{error::Error, time::Duration};
///
/// use entwined::{Standalone, thread::{self, WhenFull}};
///
/// # fn main() -> Result<(), Box<dyn Error>> {
/// let reactor = Standalone::new()?;
/// let handle = reactor.handle();
///
/// let (report, mut progress) = thread::channel(1, WhenFull::DropOldest);
/// let counted = handle.defer_to_thread(move |job| {
///     for number in 0..1_000_u32 {
///         job.check()?;
///         report.send(f64::from(number) / 1_000.0).map_err(|error| error.to_string())?;
///     }
///     Ok::<_, String>("counted")
/// });
///
/// let bar = handle.spawn({
///     let handle = handle.clone();
///     async move {
///         while let Some(fraction) = progress.next().await {
///             println!("{:.0} %", fraction * 100.0);
///             // As often as one can see.
///             handle.sleep(Duration::from_millis(16)).await;
///         }
///     }
/// });
/// handle.spawn({
///     let handle = handle.clone();
///     async move {
///         println!("{:?}", counted.await);
///         let _ = bar.await;
///         handle.stop()
///     }
/// });
/// reactor.run()?;
/// # Ok(())
/// # }
/// ```
pub fn channel<T: Send>(capacity: usize, when_full: WhenFull) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            values: VecDeque::new(),
            waker: None,
            senders: 1,
            has_receiver: true,
        }),
        room: Condvar::new(),
        capacity: capacity.max(1),
        when_full,
        home: thread::current().id(),
    });
    (
        Sender {
            shared: shared.clone(),
        },
        Receiver {
            shared,
            _here: PhantomData,
        },
    )
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Notified when a value was taken, and when the receiver is dropped.
    room: Condvar,
    capacity: usize,
    when_full: WhenFull,
    /// The receiver's thread.
    home: ThreadId,
}

struct State<T> {
    values: VecDeque<T>,
    waker: Option<Waker>,
    senders: usize,
    has_receiver: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The job's end of a [`channel`]. Clones send to the same receiver.
pub struct Sender<T: Send> {
    shared: Arc<Shared<T>>,
}

impl<T: Send> Sender<T> {
    /// Sends a value. If the channel is full, this waits or drops the oldest value, as chosen when
    /// the channel was created.
    ///
    /// # Errors
    /// Both errors return the value. [`SendError::Closed`]: the receiver is gone, or went away
    /// during the wait. [`SendError::SameThread`]: this would have to wait on the receiver's own
    /// thread.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        let shared = &*self.shared;
        let mut state = shared.lock();
        let mut dropped = None;
        while state.has_receiver && state.values.len() >= shared.capacity {
            match shared.when_full {
                WhenFull::DropOldest => dropped = state.values.pop_front(),
                WhenFull::Wait if thread::current().id() == shared.home => {
                    return Err(SendError::SameThread(value));
                }
                WhenFull::Wait => {
                    state = shared
                        .room
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner)
                }
            }
        }
        if !state.has_receiver {
            return Err(SendError::Closed(value));
        }
        state.values.push_back(value);
        let waker = state.waker.take();
        drop(state);
        // These may run user code, so the lock is released first.
        drop(dropped);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Returns whether the receiver is gone.
    pub fn is_closed(&self) -> bool {
        !self.shared.lock().has_receiver
    }
}

impl<T: Send> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.lock().senders += 1;
        Sender {
            shared: self.shared.clone(),
        }
    }
}

impl<T: Send> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.senders -= 1;
        let waker = if state.senders == 0 {
            state.waker.take()
        } else {
            None
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T: Send> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("closed", &self.is_closed())
            .finish()
    }
}

/// The event loop's end of a [`channel`]: a stream that ends when the last sender is gone. It stays
/// on the thread that created the channel. Dropping it makes all sends fail, including those that
/// are waiting.
///
/// Each value costs a task a unit of its budget ([`Handle::spend`](crate::Handle::spend)), so that
/// one that reads from a faster sender in a loop gives way to others.
pub struct Receiver<T: Send> {
    shared: Arc<Shared<T>>,
    _here: PhantomData<Rc<()>>,
}

impl<T: Send> Receiver<T> {
    /// Waits for the next value. Returns `None` if the last sender is gone and all values were
    /// taken. Cancel-safe: dropping the future before it completes loses no value.
    pub async fn next(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Returns the next value if one is available.
    pub fn try_next(&mut self) -> Option<T> {
        let value = self.shared.lock().values.pop_front();
        if value.is_some() {
            self.shared.room.notify_one();
        }
        value
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if !share::spend(1) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // What another executor does when its waker is cloned is not done under a lock.
        let waker = cx.waker().clone();
        let mut state = self.shared.lock();
        if let Some(value) = state.values.pop_front() {
            drop(state);
            self.shared.room.notify_one();
            return Poll::Ready(Some(value));
        }
        if state.senders == 0 {
            return Poll::Ready(None);
        }
        let before = state.waker.replace(waker);
        drop(state);
        drop(before);
        Poll::Pending
    }
}

impl<T: Send> Stream for Receiver<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.get_mut().poll(cx)
    }
}

impl<T: Send> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.has_receiver = false;
        let left = (std::mem::take(&mut state.values), state.waker.take());
        drop(state);
        self.shared.room.notify_all();
        drop(left);
    }
}

impl<T: Send> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("waiting", &self.shared.lock().values.len())
            .finish()
    }
}

/// The value could not be sent.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The receiver is gone.
    Closed(T),
    /// The channel is full, and waiting on the receiver's own thread would block forever.
    SameThread(T),
}

impl<T> SendError<T> {
    /// Returns the value.
    pub fn into_inner(self) -> T {
        match self {
            SendError::Closed(value) | SendError::SameThread(value) => value,
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Closed(_) => "Closed",
            SendError::SameThread(_) => "SameThread",
        })
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Closed(_) => "the receiver is gone",
            SendError::SameThread(_) => "the channel is full, and its receiver is on this thread",
        })
    }
}

impl<T> Error for SendError<T> {}
