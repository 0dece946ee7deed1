//! Posting to a loop from other threads: how long one message takes to reach a sleeping loop, and
//! how many messages get through from eight threads.
//!
//! All take their turn in each round, so that a temporary slowdown of the machine affects all
//! alike. The floor is an eventfd in an epoll set, with no queue behind it and a system call for
//! each message. Most of the time goes into waking the processor, which varies much from one moment
//! to the next on a machine that is not quiet. An argument sets the number of posts that are timed,
//! 20,000 by default.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use entwined::reactor::Remote;
use glib::MainContext;
use loops::{Contestant, Host, amount, percentile, print_table};
use rustix::{
    buffer::spare_capacity,
    event::{EventfdFlags, epoll, eventfd},
};
use tokio::sync::mpsc;

const ROUNDS: usize = 5;
const SENDERS: usize = 8;

/// How long a loop is left alone before the next post, so that it is asleep by then.
const PAUSE: Duration = Duration::from_micros(50);

/// Messages that have arrived in this measurement; only the loop's thread counts them.
static ARRIVED: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds that the last message took.
static LATENCY: AtomicU64 = AtomicU64::new(0);
/// Whether the loop must end.
static DONE: AtomicBool = AtomicBool::new(false);

fn main() {
    let posts = amount(20_000);
    let contestants: [Contestant<Work, Vec<f64>>; 7] = [
        ("eventfd and epoll alone", bare),
        ("Entwined standalone", |work| ours(Host::standalone(), work)),
        ("Entwined on GLib", |work| ours(Host::glib(), work)),
        ("Entwined on calloop", |work| ours(Host::calloop(), work)),
        ("glib::MainContext::invoke", glib_invoke),
        ("calloop channel", calloop_channel),
        ("tokio mpsc, current_thread", tokio_mpsc),
    ];
    let mut latencies = vec![Vec::new(); contestants.len()];
    let mut rates = latencies.clone();
    for _ in 0..ROUNDS {
        for (place, (_, measure)) in contestants.iter().enumerate() {
            latencies[place].extend(measure(Work::OneByOne(posts.div_ceil(ROUNDS))));
            rates[place].extend(measure(Work::Flood(posts * 5)));
        }
    }
    println!(
        "{posts} posts from one thread to a sleeping loop; \
         {SENDERS} threads with {} posts each, median of {ROUNDS}",
        posts * 5
    );
    let floor = [0.5, 0.99].map(|share| percentile(&mut latencies[0], share));
    let rows: Vec<Vec<String>> = (contestants.iter().zip(&mut latencies).zip(&mut rates))
        .map(|(((name, _), latencies), rates)| {
            let [p50, p99] = [0.5, 0.99].map(|share| percentile(latencies, share));
            vec![
                (*name).to_owned(),
                format!("{p50:.2}"),
                format!("{p99:.2}"),
                format!("{:.2}", p50 / floor[0]),
                format!("{:.2}", p99 / floor[1]),
                format!("{:.2}", percentile(rates, 0.5)),
            ]
        })
        .collect();
    print_table(
        &[
            "post",
            "p50 µs",
            "p99 µs",
            "p50 of bare",
            "p99 of bare",
            "8 senders, million/s",
        ],
        &rows,
    );
}

#[derive(Clone, Copy)]
struct Message {
    /// `None` if only the number of messages counts.
    sent: Option<Instant>,
}

impl Message {
    /// What the loop does with each message.
    fn arrive(self) {
        if let Some(sent) = self.sent {
            LATENCY.store(sent.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
        ARRIVED.store(ARRIVED.load(Ordering::Relaxed) + 1, Ordering::Release);
    }
}

/// The sending end of a channel to a loop.
trait Post: Clone + Send + 'static {
    fn post(&self, message: Message);
}

#[derive(Clone, Copy)]
enum Work {
    /// This many messages, each after the one before has arrived and the loop has gone to sleep.
    /// The result is in microseconds per message.
    OneByOne(usize),
    /// This many messages from each of several threads. The result is in millions per second.
    Flood(usize),
}

impl Work {
    /// Starts the work on another thread. The caller then runs the loop until `done`.
    fn start(self, post: impl Post) -> JoinHandle<Vec<f64>> {
        ARRIVED.store(0, Ordering::Release);
        DONE.store(false, Ordering::Release);
        thread::spawn(move || {
            let figures = match self {
                Work::OneByOne(count) => (0..count).map(|_| one(&post)).collect(),
                Work::Flood(each) => vec![flood(&post, each)],
            };
            DONE.store(true, Ordering::Release);
            post.post(Message { sent: None });
            figures
        })
    }
}

fn done() -> bool {
    DONE.load(Ordering::Acquire)
}

/// Busy-waits: waking up would take as long as what is measured.
fn one(post: &impl Post) -> f64 {
    let pause = Instant::now();
    while pause.elapsed() < PAUSE {
        std::hint::spin_loop();
    }
    let before = ARRIVED.load(Ordering::Relaxed);
    post.post(Message {
        sent: Some(Instant::now()),
    });
    while ARRIVED.load(Ordering::Acquire) == before {
        std::hint::spin_loop();
    }
    LATENCY.load(Ordering::Relaxed) as f64 / 1e3
}

fn flood(post: &impl Post, each: usize) -> f64 {
    let barrier = Arc::new(Barrier::new(SENDERS + 1));
    for _ in 0..SENDERS {
        let (post, barrier) = (post.clone(), barrier.clone());
        thread::spawn(move || {
            barrier.wait();
            (0..each).for_each(|_| post.post(Message { sent: None }));
        });
    }
    barrier.wait();
    let start = Instant::now();
    while ARRIVED.load(Ordering::Acquire) < (SENDERS * each) as u64 {
        thread::sleep(PAUSE);
    }
    (SENDERS * each) as f64 / start.elapsed().as_micros() as f64
}

impl Post for Remote {
    fn post(&self, message: Message) {
        Remote::post(self, move |_| message.arrive()).expect("the reactor is there");
    }
}

fn ours(host: Host, work: Work) -> Vec<f64> {
    let worker = work.start(host.handle.remote());
    host.run_until(done);
    worker.join().expect("it does not panic")
}

/// An edge-triggered eventfd in an epoll set: one call to write, one to wait. A counter takes the
/// place of a queue.
struct Bare {
    event: OwnedFd,
    posted: AtomicU64,
    sent: Mutex<Option<Instant>>,
}

impl Post for Arc<Bare> {
    fn post(&self, message: Message) {
        if message.sent.is_some() {
            *self.sent.lock().expect("nothing panics") = message.sent;
        }
        self.posted.fetch_add(1, Ordering::Release);
        rustix::io::write(&self.event, &1_u64.to_ne_bytes()).expect("its sum is far from full");
    }
}

fn bare(work: Work) -> Vec<f64> {
    let event = eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd");
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll set");
    epoll::add(
        &set,
        &event,
        epoll::EventData::new_u64(0),
        epoll::EventFlags::IN | epoll::EventFlags::ET,
    )
    .expect("it can be watched");
    let bare = Arc::new(Bare {
        event,
        posted: AtomicU64::new(0),
        sent: Mutex::new(None),
    });
    let worker = work.start(bare.clone());
    let mut events = Vec::with_capacity(1);
    while !done() {
        events.clear();
        epoll::wait(&set, spare_capacity(&mut events), None).expect("a wait");
        for _ in 0..bare.posted.swap(0, Ordering::Acquire) {
            Message {
                sent: *bare.sent.lock().expect("nothing panics"),
            }
            .arrive();
        }
    }
    worker.join().expect("it does not panic")
}

impl Post for MainContext {
    fn post(&self, message: Message) {
        self.invoke(move || message.arrive());
    }
}

fn glib_invoke(work: Work) -> Vec<f64> {
    let context = MainContext::new();
    // If the context had no owner, invoke would run its function on the caller's thread.
    let _owned = context.acquire().expect("nobody else has it");
    let worker = work.start(context.clone());
    while !done() {
        context.iteration(true);
    }
    worker.join().expect("it does not panic")
}

/// What the channels carry, because a loop's calls differ: as much as `Remote` carries.
type Call = Box<dyn FnOnce() + Send>;

impl Post for calloop::channel::Sender<Call> {
    fn post(&self, message: Message) {
        assert!(
            self.send(Box::new(move || message.arrive())).is_ok(),
            "the loop is there"
        );
    }
}

fn calloop_channel(work: Work) -> Vec<f64> {
    let mut event_loop = calloop::EventLoop::<()>::try_new().expect("a loop");
    let (sender, channel) = calloop::channel::channel::<Call>();
    let source = event_loop.handle().insert_source(channel, |event, _, _| {
        if let calloop::channel::Event::Msg(call) = event {
            call();
        }
    });
    assert!(source.is_ok(), "the loop takes the channel");
    let worker = work.start(sender);
    while !done() {
        event_loop.dispatch(None, &mut ()).expect("an iteration");
    }
    worker.join().expect("it does not panic")
}

impl Post for mpsc::UnboundedSender<Call> {
    fn post(&self, message: Message) {
        assert!(
            self.send(Box::new(move || message.arrive())).is_ok(),
            "the loop is there"
        );
    }
}

fn tokio_mpsc(work: Work) -> Vec<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (sender, mut receiver) = mpsc::unbounded_channel::<Call>();
    let worker = work.start(sender);
    runtime.block_on(async {
        while !done() {
            let Some(call) = receiver.recv().await else {
                break;
            };
            call();
        }
    });
    worker.join().expect("it does not panic")
}
