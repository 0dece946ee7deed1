//! What a connection is waiting for, and how long it may wait.

use std::{
    cell::{Cell, OnceCell, RefCell},
    io,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use entwined::transport::ByteStream;

use super::{config::Config, rate::Least, state::Shared};

/// Takes over a connection, with what was read of it already.
pub(super) type Upgrade = Box<dyn FnOnce(Box<dyn ByteStream>)>;

/// Tracks the state of a connection from what it reads and what hyper does with it. Recording a
/// change is nearly free: one timer per connection checks the state now and then, so a request does
/// not reset a timer.
pub(super) struct Pace {
    stage: Cell<Stage>,
    /// Whether the timer has already checked this stage.
    seen: Cell<bool>,
    /// Since when the peer has accepted none of our output.
    blocked: Cell<Option<Instant>>,
    /// Since when the peer has read more slowly than we write, and how many bytes it has taken
    /// since then.
    behind: Cell<Option<(Instant, u64)>>,
    requests: Cell<u64>,
    /// The task to wake when the end of input no longer has to be hidden from hyper.
    withheld: RefCell<Option<Waker>>,
    /// Takes the connection over when the response is sent.
    upgrade: RefCell<Option<Upgrade>>,
    /// Only set for HTTP/2, which has several requests in flight.
    streams: OnceCell<Box<Multiplexed>>,
    server: Rc<Shared>,
}

#[derive(Clone, Copy)]
enum Stage {
    /// Nothing of the next request has arrived.
    Idle(Instant),
    /// A part of the head has arrived.
    Head(Instant),
    /// A request is being answered.
    Busy(Work),
}

/// How far a response is. It decides what the end of the peer's input means.
#[derive(Clone, Copy)]
enum Work {
    /// The handler has not returned `Pending` yet.
    Called,
    /// The handler is waiting, or the response has no end. If the peer is gone, there is no need to
    /// wait.
    Waiting,
    /// The response has an end. If the peer is gone, a write fails.
    Sending,
}

/// What to do with a connection.
pub(super) enum Verdict {
    /// Nothing. Check again at this time.
    Wait(Instant),
    /// The next request did not begin in time: close.
    Idle,
    /// The head did not arrive in time: answer 408 and close.
    SlowHead,
    /// The peer does not read: abort.
    Stuck,
}

impl Pace {
    /// For a connection that was just accepted. Its first request has the deadline of a head, not
    /// of an idle connection.
    pub(super) fn new(server: Rc<Shared>) -> Rc<Self> {
        let now = server.time();
        Rc::new(Pace {
            stage: Cell::new(Stage::Head(now)),
            seen: Cell::new(true),
            blocked: Cell::new(None),
            behind: Cell::new(None),
            requests: Cell::new(0),
            withheld: RefCell::default(),
            upgrade: RefCell::default(),
            streams: OnceCell::new(),
            server,
        })
    }

    /// How often to check. Every stage must be checked before its deadline, no matter how soon
    /// after a check it begins.
    pub(super) fn look_interval(&self) -> Duration {
        let Config {
            head_timeout,
            idle_timeout,
            write_timeout,
            ..
        } = self.server.config;
        head_timeout.min(idle_timeout).min(write_timeout)
    }

    #[cfg(feature = "http2")]
    /// Marks the connection as HTTP/2, with several streams.
    pub(super) fn multiplex(&self) {
        let _ = self.streams.set(Box::default());
    }

    pub(super) fn request_begins(self: &Rc<Self>) -> Watch {
        self.requests.set(self.requests.get() + 1);
        self.behind.set(None);
        self.enter(Stage::Busy(Work::Called));
        let stream = self.streams.get().map(|streams| {
            streams.open.set(streams.open.get() + 1);
            let stream = Rc::new(StreamPace::default());
            *streams.latest.borrow_mut() = Some(stream.clone());
            stream
        });
        Watch {
            pace: self.clone(),
            stream,
        }
    }

    /// Whether the connection has reached its maximum number of requests.
    pub(super) fn has_had_enough(&self) -> bool {
        self.requests.get() >= self.server.config.max_requests
    }

    /// Takes the upgrade, once the last response is sent.
    pub(super) fn take_upgrade(&self) -> Option<Upgrade> {
        self.upgrade.borrow_mut().take()
    }

    #[cfg(feature = "http2")]
    /// Takes the stream that began last. Returns it only once.
    pub(super) fn latest_stream(&self) -> Option<Rc<StreamPace>> {
        self.streams.get()?.latest.borrow_mut().take()
    }

    /// Wakes the bodies that have no end of their own, so that they end during shutdown.
    pub(super) fn wake_live(&self) {
        let Some(streams) = self.streams.get() else {
            return;
        };
        for waker in streams.live.take() {
            waker.wake();
        }
    }

    /// Whether we owe the peer nothing: there is no request to answer, and no blocked output.
    pub(super) fn is_at_rest(&self) -> bool {
        !matches!(self.stage.get(), Stage::Busy(_)) && self.blocked.get().is_none()
    }

    pub(super) fn verdict(&self, now: Instant) -> Verdict {
        let Config {
            head_timeout,
            idle_timeout,
            write_timeout,
            ..
        } = self.server.config;
        let next = now + self.look_interval();
        if let Some(since) = self.blocked.get() {
            // The rest of a response comes before the next request.
            let slow = self
                .behind
                .get()
                .and_then(|(since, moved)| Least::of(&self.server.config).due(since, moved));
            let end = (since + write_timeout).min(slow.unwrap_or(next));
            return if now >= end {
                Verdict::Stuck
            } else {
                Verdict::Wait(end.min(next))
            };
        }
        let (since, deadline, verdict) = match self.stage.get() {
            Stage::Idle(since) => (since, idle_timeout, Verdict::Idle),
            Stage::Head(since) => (since, head_timeout, Verdict::SlowHead),
            Stage::Busy(_) => return Verdict::Wait(next),
        };
        if now < since + deadline {
            self.seen.set(true);
            return Verdict::Wait(next.min(since + deadline));
        }
        if self.seen.get() {
            return verdict;
        }
        // The deadline had already passed at the first check, so the thread was blocked, which is
        // not the peer's fault. The time starts again now.
        self.begin_again(now);
        self.seen.set(true);
        Verdict::Wait(next)
    }

    fn enter(&self, stage: Stage) {
        self.stage.set(stage);
        self.seen.set(false);
        let withheld = self.withheld.borrow_mut().take();
        if let Some(waker) = withheld {
            waker.wake();
        }
    }

    fn is_multiplexed(&self) -> bool {
        self.streams.get().is_some()
    }

    /// Whether to hide the end of input from hyper for now. Hyper would drop the response in
    /// progress, but a peer may half-close and still wait for its response.
    pub(super) fn withholds_end(&self, cx: &Context<'_>) -> bool {
        let answering = matches!(self.stage.get(), Stage::Busy(Work::Called | Work::Sending));
        let withholds = !self.is_multiplexed() && (answering || self.blocked.get().is_some());
        if withholds {
            *self.withheld.borrow_mut() = Some(cx.waker().clone());
        }
        withholds
    }

    fn begin_again(&self, now: Instant) {
        match self.stage.get() {
            Stage::Idle(_) => self.enter(Stage::Idle(now)),
            Stage::Head(_) => self.enter(Stage::Head(now)),
            Stage::Busy(_) => {}
        }
    }

    pub(super) fn received(&self) {
        if matches!(self.stage.get(), Stage::Idle(_)) && !self.is_multiplexed() {
            self.enter(Stage::Head(self.server.time()));
        }
    }

    /// The peer, or the kernel's send buffer, has taken this many bytes.
    pub(super) fn moved(&self, bytes: usize) {
        if let Some((since, before)) = self.behind.get() {
            self.behind.set(Some((since, before + bytes as u64)));
        }
    }

    pub(super) fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &result {
            Poll::Pending if self.blocked.get().is_none() => {
                let now = self.server.time();
                self.blocked.set(Some(now));
                if self.behind.get().is_none() && !self.is_multiplexed() {
                    self.behind.set(Some((now, 0)));
                }
            }
            Poll::Pending => {}
            Poll::Ready(moved) => {
                self.blocked.set(None);
                self.moved(*moved.as_ref().unwrap_or(&0));
                // A response ends when its last byte is sent, not when its body ends. HTTP/2 also
                // sends frames that belong to no response.
                if !self.is_multiplexed() {
                    self.begin_again(self.server.time());
                }
            }
        }
        result
    }
}

/// State of a connection with several streams.
#[derive(Default)]
struct Multiplexed {
    open: Cell<u32>,
    latest: RefCell<Option<Rc<StreamPace>>>,
    /// The tasks of bodies that have no end of their own.
    live: RefCell<Vec<Waker>>,
}

/// The progress of one HTTP/2 stream.
#[derive(Default)]
pub(super) struct StreamPace(Cell<Option<Instant>>);

impl StreamPace {
    #[cfg(feature = "http2")]
    /// Since when the peer has not taken the data that is ready for it.
    pub(super) fn stuck_since(&self) -> Option<Instant> {
        self.0.get()
    }
}

/// One request, until its whole response is sent.
pub(super) struct Watch {
    pace: Rc<Pace>,
    stream: Option<Rc<StreamPace>>,
}

impl Watch {
    /// The handler cannot answer yet.
    pub(super) fn handler_waits(&self) {
        self.pace.enter(Stage::Busy(Work::Waiting));
    }

    /// The handler has answered. `live` is true if the body has no end of its own.
    pub(super) fn response_begins(&self, live: bool) {
        self.pace.enter(Stage::Busy(if live {
            Work::Waiting
        } else {
            Work::Sending
        }));
        self.body_polled(true);
    }

    /// Hands the connection to `take_over` when this response is sent.
    pub(super) fn upgrade(&self, take_over: Upgrade) {
        *self.pace.upgrade.borrow_mut() = Some(take_over);
    }

    /// The peer is ready for a part of the body. `ready` is true if there was one.
    pub(super) fn body_polled(&self, ready: bool) {
        match &self.stream {
            Some(stream) => stream.0.set(ready.then(|| self.pace.server.time())),
            // The peer has taken everything so far.
            None if !ready => self.pace.behind.set(None),
            None => {}
        }
    }

    /// Whether the server is shutting down. If not, the task is woken when it does.
    pub(super) fn is_closing(&self, cx: &Context<'_>) -> bool {
        if self.pace.server.closing.get() {
            return true;
        }
        if let Some(streams) = self.pace.streams.get() {
            let mut live = streams.live.borrow_mut();
            if !live.iter().any(|waker| waker.will_wake(cx.waker())) {
                live.push(cx.waker().clone());
            }
        }
        false
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(streams) = self.pace.streams.get() {
            let open = streams.open.get() - 1;
            streams.open.set(open);
            if open > 0 {
                return;
            }
            // This also drops the wakers of bodies that have ended.
            streams.live.borrow_mut().clear();
        }
        self.pace.enter(Stage::Idle(self.pace.server.time()));
    }
}
