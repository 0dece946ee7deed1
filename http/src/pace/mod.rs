//! What a connection is waiting for, and how long it may wait.

pub(super) mod streams;
mod watch;

use std::{
    cell::{Cell, OnceCell, RefCell},
    io,
    rc::Rc,
    sync::atomic::Ordering,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use entwined::transport::ByteStream;

use super::{
    config::Config,
    rate::Least,
    state::Shared,
    times::{MIN_LOOK, later},
    unread::Unread,
};

use streams::{Multiplexed, StreamPace, UNSENT};

#[cfg(feature = "http2")]
pub(super) use watch::Held;
pub(super) use watch::Watch;

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
    /// Whether hyper keeps bytes that the stream has not taken.
    kept: Cell<bool>,
    requests: Cell<u64>,
    /// The task to wake when the end of input no longer has to be hidden from hyper.
    withheld: RefCell<Option<Waker>>,
    /// Takes the connection over when the response is sent.
    upgrade: RefCell<Option<Upgrade>>,
    /// Only set for HTTP/2, which has several requests in flight.
    streams: OnceCell<Box<Multiplexed>>,
    unread: Rc<Unread>,
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
            kept: Cell::new(false),
            requests: Cell::new(0),
            withheld: RefCell::default(),
            upgrade: RefCell::default(),
            streams: OnceCell::new(),
            unread: Rc::default(),
            server,
        })
    }

    /// What the peer has sent and nobody has read.
    pub(super) fn unread(&self) -> &Rc<Unread> {
        &self.unread
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
        head_timeout
            .min(idle_timeout)
            .min(write_timeout)
            .max(MIN_LOOK)
    }

    #[cfg(feature = "http2")]
    /// Marks the connection as HTTP/2, with several streams.
    pub(super) fn multiplex(&self) {
        let streams = Multiplexed {
            open: Cell::new(0),
            taken: Cell::new(0),
            latest: RefCell::default(),
            live: RefCell::default(),
            written: Cell::new(self.server.time()),
            unsent: Default::default(),
        };
        let _ = self.streams.set(Box::new(streams));
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
            number: self.requests.get(),
            stream,
        }
    }

    #[cfg(feature = "http2")]
    /// Keeps the connection for a stream that goes on when its response has been sent.
    pub(super) fn hold(self: &Rc<Self>) -> Held {
        if let Some(streams) = self.streams.get() {
            streams.open.set(streams.open.get() + 1);
            streams.taken.set(streams.taken.get() + 1);
        }
        Held(self.clone())
    }

    /// A request, or a stream of HTTP/2, has ended.
    fn ends(&self) {
        if let Some(streams) = self.streams.get() {
            let open = streams.open.get() - 1;
            streams.open.set(open);
            if open > 0 {
                return;
            }
        }
        self.enter(Stage::Idle(self.server.time()));
    }

    /// Whether all that is left of the connection are streams that were handed over. As with those
    /// of HTTP/1.1, no shutdown waits for them.
    pub(super) fn is_taken(&self) -> bool {
        self.streams
            .get()
            .is_some_and(|streams| streams.taken.get() > 0 && streams.taken == streams.open)
    }

    /// Whether the connection has reached its maximum number of requests.
    pub(super) fn has_had_enough(&self) -> bool {
        self.requests.get() >= self.server.config.max_requests.max(1)
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
        for (_, waker) in streams.live.take() {
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
        let next = later(now, self.look_interval());
        if let Some(since) = self.blocked.get() {
            // The rest of a response comes before the next request.
            let slow = self
                .behind
                .get()
                .and_then(|(since, moved)| Least::of(&self.server.config).due(since, moved));
            let end = later(since, write_timeout).min(slow.unwrap_or(next));
            return if now >= end {
                Verdict::Stuck
            } else {
                Verdict::Wait(end.min(next))
            };
        }
        let (end, verdict) = match self.stage.get() {
            Stage::Idle(since) => (self.end_of_idle(since, idle_timeout), Verdict::Idle),
            Stage::Head(since) => (later(since, head_timeout), Verdict::SlowHead),
            Stage::Busy(_) => return Verdict::Wait(next),
        };
        if now < end {
            self.seen.set(true);
            return Verdict::Wait(next.min(end));
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

    /// When a connection that has been idle since then is closed. A response of HTTP/2 is handed to
    /// h2 before its last bytes are sent, so the connection is not idle while they go, for as long
    /// as the slowest peer may take.
    fn end_of_idle(&self, since: Instant, idle_timeout: Duration) -> Instant {
        let end = later(since, idle_timeout);
        match self.streams.get() {
            Some(streams) if streams.unsent.load(Ordering::Relaxed) > 0 => {
                let last = Least::of(&self.server.config).due(end, UNSENT);
                let going = later(streams.written.get(), idle_timeout);
                end.max(last.map_or(going, |last| last.min(going)))
            }
            _ => end,
        }
    }

    fn enter(&self, stage: Stage) {
        self.stage.set(stage);
        self.seen.set(false);
        self.wake_reader();
    }

    fn wake_reader(&self) {
        let withheld = self.withheld.borrow_mut().take();
        if let Some(waker) = withheld {
            waker.wake();
        }
    }

    pub(super) fn is_multiplexed(&self) -> bool {
        self.streams.get().is_some()
    }

    /// Whether to hide the end of input from hyper for now. Hyper would drop the response in
    /// progress, but a peer may half-close and still wait for its response.
    pub(super) fn withholds_end(&self, cx: &Context<'_>) -> bool {
        let answering = matches!(self.stage.get(), Stage::Busy(Work::Called | Work::Sending));
        let sending = self.blocked.get().is_some() || self.kept.get();
        let withholds = !self.is_multiplexed() && (answering || sending);
        if withholds {
            drop(self.withheld.replace(Some(cx.waker().clone())));
        }
        withholds
    }

    /// hyper has written, or flushed, as far as that was possible. HTTP/2 has its own end.
    pub(super) fn keeps(&self, kept: bool) {
        if self.is_multiplexed() {
            return;
        }
        if self.kept.replace(kept) && !kept {
            self.wake_reader();
        }
    }

    /// Whether hyper has not sent all that it has.
    pub(super) fn has_kept(&self) -> bool {
        self.kept.get()
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
                match self.streams.get() {
                    Some(streams) => streams.written.set(self.server.time()),
                    None => self.begin_again(self.server.time()),
                }
            }
        }
        result
    }
}

#[cfg(all(test, feature = "http2"))]
mod tests {
    use std::{sync::Arc, task::Wake};

    use entwined::Standalone;

    use super::*;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }

    fn server() -> (Standalone, Rc<Shared>) {
        let reactor = Standalone::new().expect("a reactor");
        let shared = Shared {
            handle: reactor.handle(),
            config: Config::default(),
            closing: Cell::new(false),
            connections: crate::state::Connections::default(),
            requests: Cell::new(0),
            left: RefCell::default(),
        };
        (reactor, Rc::new(shared))
    }

    #[test]
    fn a_live_body_that_has_ended_leaves_no_waker_though_others_go_on() {
        let (_reactor, server) = server();
        let pace = Pace::new(server);
        pace.multiplex();
        let wakes = |watch: &Watch| {
            let waker = Waker::from(Arc::new(Nobody));
            assert!(!watch.is_closing(&Context::from_waker(&waker)));
        };
        let stays = pace.request_begins();
        wakes(&stays);
        for _ in 0..1_000 {
            let goes = pace.request_begins();
            // Once more, with the waker of another task.
            wakes(&goes);
            wakes(&goes);
        }
        let live = |pace: &Pace| pace.streams.get().expect("HTTP/2").live.borrow().len();
        assert_eq!(live(&pace), 1);
        drop(stays);
        assert_eq!(live(&pace), 0);
    }
}
