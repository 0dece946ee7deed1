//! Sends messages from elsewhere in the program.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    error, fmt,
    rc::Rc,
    task::{Context, Waker},
};

use super::Message;

/// What a queued message takes besides its own bytes: its place in the queue, and what an allocator
/// adds to it.
const OVERHEAD: usize = 64;

fn cost(message: &Message) -> usize {
    message.len() + OVERHEAD
}

/// The queue that senders share with the WebSocket.
pub(super) struct Queue {
    messages: RefCell<VecDeque<Message>>,
    bytes: Cell<usize>,
    max_bytes: usize,
    /// Wakes the task that polls the WebSocket.
    waker: RefCell<Option<Waker>>,
    closed: Cell<bool>,
}

impl Queue {
    pub(super) fn new(max_bytes: usize) -> Self {
        Queue {
            messages: RefCell::default(),
            bytes: Cell::new(0),
            max_bytes,
            waker: RefCell::default(),
            closed: Cell::new(false),
        }
    }

    /// Takes the oldest message.
    pub(super) fn pop(&self) -> Option<Message> {
        let message = self.messages.borrow_mut().pop_front()?;
        self.bytes.set(self.bytes.get() - cost(&message));
        Some(message)
    }

    /// Wakes this task when there is a message.
    pub(super) fn keep(&self, cx: &Context<'_>) {
        drop(self.waker.replace(Some(cx.waker().clone())));
    }

    /// Takes all messages.
    pub(super) fn take(&self) -> VecDeque<Message> {
        self.bytes.set(0);
        self.messages.take()
    }

    /// Drops all messages and refuses further ones.
    pub(super) fn close(&self) {
        self.closed.set(true);
        drop(self.take());
    }
}

/// Sends messages over a WebSocket from elsewhere in the program. Cheap to clone.
#[derive(Clone)]
pub struct Sender {
    queue: Rc<Queue>,
}

/// Why a [`Sender`] did not queue a message. It gives the message back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    /// More than [`Config::max_queued`](super::Config::max_queued) bytes would wait to be sent,
    /// because the peer is slow.
    Full(Message),
    /// The WebSocket has ended.
    Closed(Message),
}

impl SendError {
    /// Returns the message that was not sent.
    pub fn into_message(self) -> Message {
        match self {
            SendError::Full(message) | SendError::Closed(message) => message,
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Full(_) => "too much waits to be sent to the peer",
            SendError::Closed(_) => "the WebSocket has ended",
        })
    }
}

impl error::Error for SendError {}

impl Sender {
    pub(super) fn new(queue: Rc<Queue>) -> Self {
        Sender { queue }
    }

    /// Queues a message. It is sent as soon as the peer can take it, never within this call. A
    /// message that is larger than the queue is taken if nothing else waits.
    ///
    /// # Errors
    /// [`SendError`], with the message.
    pub fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        let (queue, message) = (&self.queue, message.into());
        if queue.closed.get() {
            return Err(SendError::Closed(message));
        }
        let bytes = queue.bytes.get() + cost(&message);
        if bytes > queue.max_bytes && queue.bytes.get() > 0 {
            return Err(SendError::Full(message));
        }
        queue.bytes.set(bytes);
        queue.messages.borrow_mut().push_back(message);
        // Not while it is borrowed: the waker of another executor may do anything.
        let waker = queue.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// The number of bytes that wait to be sent, with 64 more for each message.
    pub fn queued(&self) -> usize {
        self.queue.bytes.get()
    }

    /// Whether the WebSocket has ended.
    pub fn is_closed(&self) -> bool {
        self.queue.closed.get()
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("queued", &self.queued())
            .field("closed", &self.is_closed())
            .finish()
    }
}
