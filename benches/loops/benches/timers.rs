//! Timers: what each operation costs while many others are pending, and how late they fire on an
//! idle loop.
//!
//! An argument sets the number of timers whose lateness is measured, 1,000 by default.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Wake, Waker},
    time::{Duration, Instant},
};

use calloop::{
    Dispatcher, EventLoop, RegistrationToken,
    timer::{TimeoutAction, Timer},
};
use entwined::{Handle, Standalone};
use glib::MainContext;
use loops::{Contestant, Host, amount, percentile, print_table};

/// Operations timed between two readings of the clock.
const BATCH: usize = 100;
const BATCHES: u32 = 1_000;
/// Stop with fewer batches after this time.
const ENOUGH: Duration = Duration::from_secs(2);
/// Timers that expire together, and how often.
const DUE: usize = 1_000;
const EXPIRIES: u32 = 20;

fn main() {
    operations();
    lateness(amount(1_000));
}

fn operations() {
    let contestants: [Contestant<usize, Option<Costs>>; 4] = [
        ("Entwined call_later", |pending| {
            Some(costs(&mut Calls::new(), pending))
        }),
        ("Entwined Sleep", |pending| {
            Some(costs(&mut Sleeps::new(), pending))
        }),
        ("tokio Sleep", |pending| {
            Some(costs(&mut Tokio::new(), pending))
        }),
        // Filling it with a million timers takes hours.
        ("calloop Timer", |pending| {
            (pending <= 1_000).then(|| costs(&mut Calloop::new(), pending))
        }),
    ];
    let mut rows = Vec::new();
    for pending in [1_000, 1_000_000] {
        for (name, measure) in contestants {
            let costs = measure(pending);
            let figures = (0..KINDS).map(|kind| {
                costs.map_or_else(|| "–".to_owned(), |costs| format!("{:.0}", costs[kind]))
            });
            rows.push(
                [name.to_owned(), pending.to_string()]
                    .into_iter()
                    .chain(figures)
                    .collect(),
            );
        }
    }
    println!(
        "Nanoseconds for each timer; due in 100 to 3,000 s but for those that expire. \
         A million is beyond calloop, which looks through all sources for a free place."
    );
    print_table(
        &[
            "timers",
            "pending",
            "schedule",
            "cancel",
            "reset later",
            "reset earlier",
            "expire",
        ],
        &rows,
    );
}

const KINDS: usize = 5;
const SCHEDULE: usize = 0;
const CANCEL: usize = 1;
const LATER: usize = 2;
const EARLIER: usize = 3;
const EXPIRE: usize = 4;

/// Nanoseconds for one operation of each kind.
type Costs = [f64; KINDS];

/// The timers of a loop.
trait Timers {
    type Timer;

    fn schedule(&mut self, delay: Duration) -> Self::Timer;
    fn cancel(&mut self, timer: Self::Timer);
    fn reset(&mut self, timer: &mut Self::Timer, delay: Duration);
    /// Lets the loop do what is due, without waiting. Timers that expire call [`expired`].
    fn turn(&mut self);
}

static EXPIRED: AtomicU64 = AtomicU64::new(0);

fn expired() {
    EXPIRED.store(EXPIRED.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

fn costs<T: Timers>(queue: &mut T, pending: usize) -> Costs {
    let mut random = Random(0x9E37_79B9);
    // The first timer stays where it is: moving the loop's own deadline would be a system call.
    let _first = queue.schedule(Duration::from_secs(50));
    let mut timers: Vec<_> = (0..pending)
        .map(|_| queue.schedule(random.seconds(1_000, 2_000)))
        .collect();
    queue.turn();
    let mut spent = [Duration::ZERO; KINDS];
    let (mut batches, start) = (0, Instant::now());
    while batches < BATCHES && start.elapsed() < ENOUGH {
        let mut chosen: Vec<_> = (0..BATCH)
            .map(|_| timers.swap_remove(random.below(timers.len() as u64) as usize))
            .collect();
        spent[EARLIER] += time(|| {
            chosen
                .iter_mut()
                .for_each(|timer| queue.reset(timer, random.seconds(100, 1_000)))
        });
        spent[LATER] += time(|| {
            chosen
                .iter_mut()
                .for_each(|timer| queue.reset(timer, random.seconds(2_000, 3_000)))
        });
        spent[CANCEL] += time(|| chosen.drain(..).for_each(|timer| queue.cancel(timer)));
        spent[SCHEDULE] += time(|| {
            chosen.extend((0..BATCH).map(|_| queue.schedule(random.seconds(1_000, 2_000))))
        });
        timers.append(&mut chosen);
        batches += 1;
    }
    for _ in 0..EXPIRIES {
        let due: Vec<_> = (0..DUE)
            .map(|_| queue.schedule(Duration::from_millis(1)))
            .collect();
        let scheduled = Instant::now();
        // Tokio rounds up to whole milliseconds.
        while scheduled.elapsed() < Duration::from_millis(4) {}
        EXPIRED.store(0, Ordering::Relaxed);
        spent[EXPIRE] += time(|| {
            while EXPIRED.load(Ordering::Relaxed) < DUE as u64 {
                queue.turn();
            }
        });
        drop(due);
    }
    let mut counts = [(BATCH as u32 * batches).into(); KINDS];
    counts[EXPIRE] = f64::from(DUE as u32 * EXPIRIES);
    std::array::from_fn(|kind| spent[kind].as_nanos() as f64 / counts[kind])
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Our timers that call a function.
struct Calls {
    reactor: Standalone,
    handle: Handle,
}

impl Calls {
    fn new() -> Self {
        let reactor = Standalone::new().expect("a reactor");
        Calls {
            handle: reactor.handle(),
            reactor,
        }
    }
}

impl Timers for Calls {
    type Timer = entwined::reactor::Timer;

    fn schedule(&mut self, delay: Duration) -> Self::Timer {
        self.handle.call_later(delay, expired)
    }

    fn cancel(&mut self, timer: Self::Timer) {
        timer.cancel().expect("it is pending");
    }

    fn reset(&mut self, timer: &mut Self::Timer, delay: Duration) {
        timer.reset(delay).expect("it is pending");
    }

    fn turn(&mut self) {
        self.reactor.turn(Some(Duration::ZERO)).expect("a turn");
    }
}

/// Stands in for the task that would wait for a future.
struct Count;

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        expired();
    }
}

/// Our timers that wake a task.
struct Sleeps {
    calls: Calls,
    waker: Waker,
}

impl Sleeps {
    fn new() -> Self {
        Sleeps {
            calls: Calls::new(),
            waker: Arc::new(Count).into(),
        }
    }
}

impl Timers for Sleeps {
    type Timer = entwined::task::Sleep;

    fn schedule(&mut self, delay: Duration) -> Self::Timer {
        let mut sleep = self.calls.handle.sleep(delay);
        assert!(
            Pin::new(&mut sleep)
                .poll(&mut Context::from_waker(&self.waker))
                .is_pending()
        );
        sleep
    }

    fn cancel(&mut self, timer: Self::Timer) {
        drop(timer);
    }

    fn reset(&mut self, timer: &mut Self::Timer, delay: Duration) {
        timer.reset(self.calls.handle.now() + delay);
    }

    fn turn(&mut self) {
        self.calls.turn();
    }
}

struct Tokio {
    runtime: &'static tokio::runtime::Runtime,
    _entered: tokio::runtime::EnterGuard<'static>,
    waker: Waker,
}

impl Tokio {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        // This runs twice per process. The runtime is entered once, because entering it for each
        // timer would cost as much as the timer.
        let runtime = Box::leak(Box::new(runtime));
        Tokio {
            runtime,
            _entered: runtime.enter(),
            waker: Arc::new(Count).into(),
        }
    }
}

impl Timers for Tokio {
    type Timer = Pin<Box<tokio::time::Sleep>>;

    fn schedule(&mut self, delay: Duration) -> Self::Timer {
        let mut sleep = Box::pin(tokio::time::sleep(delay));
        assert!(
            sleep
                .as_mut()
                .poll(&mut Context::from_waker(&self.waker))
                .is_pending()
        );
        sleep
    }

    fn cancel(&mut self, timer: Self::Timer) {
        drop(timer);
    }

    fn reset(&mut self, timer: &mut Self::Timer, delay: Duration) {
        timer.as_mut().reset(tokio::time::Instant::now() + delay);
    }

    fn turn(&mut self) {
        self.runtime.block_on(tokio::task::yield_now());
    }
}

struct Calloop {
    event_loop: EventLoop<'static, ()>,
}

impl Calloop {
    fn new() -> Self {
        Calloop {
            event_loop: EventLoop::try_new().expect("a loop"),
        }
    }
}

impl Timers for Calloop {
    type Timer = (Dispatcher<'static, Timer, ()>, RegistrationToken);

    fn schedule(&mut self, delay: Duration) -> Self::Timer {
        let source = Dispatcher::new(Timer::from_duration(delay), |_, _, _| {
            expired();
            TimeoutAction::Drop
        });
        let token = self
            .event_loop
            .handle()
            .register_dispatcher(source.clone())
            .expect("the loop takes it");
        (source, token)
    }

    fn cancel(&mut self, timer: Self::Timer) {
        self.event_loop.handle().remove(timer.1);
    }

    fn reset(&mut self, (source, token): &mut Self::Timer, delay: Duration) {
        source.as_source_mut().set_duration(delay);
        self.event_loop
            .handle()
            .update(token)
            .expect("it is pending");
    }

    fn turn(&mut self) {
        self.event_loop
            .dispatch(Some(Duration::ZERO), &mut ())
            .expect("an iteration");
    }
}

fn lateness(count: usize) {
    let contestants: [Contestant<Delays, Late>; 6] = [
        ("Entwined standalone", |delays| {
            ours(Host::standalone(), delays)
        }),
        ("Entwined on GLib", |delays| ours(Host::glib(), delays)),
        ("Entwined on calloop", |delays| {
            ours(Host::calloop(), delays)
        }),
        ("glib::timeout_add", glib_late),
        ("calloop Timer", calloop_late),
        ("tokio Sleep", tokio_late),
    ];
    println!(
        "\nLateness of {count} timers of 1 to 20 ms, one after the other, \
         on a loop with nothing else to do"
    );
    let rows: Vec<Vec<String>> = contestants
        .into_iter()
        .map(|(name, measure)| {
            let mut random = Random(0x9E37_79B9);
            let delays = (0..count)
                .map(|_| Duration::from_millis(1 + random.below(20)))
                .collect::<Vec<_>>();
            let mut late = measure(delays.into_iter());
            let figures =
                [0.5, 0.99, 1.0].map(|share| format!("{:.0}", percentile(&mut late, share)));
            [name.to_owned()].into_iter().chain(figures).collect()
        })
        .collect();
    print_table(
        &["timers", "late p50 µs", "late p99 µs", "late max µs"],
        &rows,
    );
}

/// Whole milliseconds, because some of the loops have no finer resolution.
type Delays = std::vec::IntoIter<Duration>;

/// Microseconds, for each timer.
type Late = Vec<f64>;

/// The timers of one measurement.
#[derive(Clone)]
struct Series(Rc<RefCell<Measured>>);

struct Measured {
    to_come: Delays,
    count: usize,
    late: Late,
}

impl Series {
    fn new(delays: Delays) -> Self {
        Series(Rc::new(RefCell::new(Measured {
            count: delays.len(),
            to_come: delays,
            late: Vec::new(),
        })))
    }

    fn next(&self) -> Option<Duration> {
        self.0.borrow_mut().to_come.next()
    }

    fn record(&self, due: Instant) {
        self.0
            .borrow_mut()
            .late
            .push(due.elapsed().as_nanos() as f64 / 1e3);
    }

    fn is_done(&self) -> bool {
        self.0.borrow().late.len() == self.0.borrow().count
    }

    fn take(&self) -> Late {
        std::mem::take(&mut self.0.borrow_mut().late)
    }
}

fn ours(host: Host, delays: Delays) -> Late {
    fn next(handle: &Handle, series: Series) {
        let Some(delay) = series.next() else { return };
        let due = Instant::now() + delay;
        let own = handle.clone();
        handle.call_at(due, move || {
            series.record(due);
            next(&own, series);
        });
    }
    let series = Series::new(delays);
    next(&host.handle, series.clone());
    host.run_until(|| series.is_done());
    series.take()
}

fn glib_late(delays: Delays) -> Late {
    fn next(series: Series) {
        let Some(delay) = series.next() else { return };
        let due = Instant::now() + delay;
        glib::timeout_add_local_once(delay, move || {
            series.record(due);
            next(series);
        });
    }
    let context = MainContext::default();
    let _owned = context.acquire().expect("nobody else has it");
    let series = Series::new(delays);
    next(series.clone());
    while !series.is_done() {
        context.iteration(true);
    }
    series.take()
}

fn calloop_late(mut delays: Delays) -> Late {
    let mut event_loop = EventLoop::<Late>::try_new().expect("a loop");
    let count = delays.len();
    let mut due = Instant::now() + delays.next().expect("one timer at least");
    let timer = event_loop
        .handle()
        .insert_source(Timer::from_deadline(due), move |_, _, late| {
            late.push(due.elapsed().as_nanos() as f64 / 1e3);
            match delays.next() {
                None => TimeoutAction::Drop,
                Some(delay) => {
                    due = Instant::now() + delay;
                    TimeoutAction::ToInstant(due)
                }
            }
        });
    timer.expect("the loop takes it");
    let mut late = Vec::new();
    while late.len() < count {
        event_loop.dispatch(None, &mut late).expect("an iteration");
    }
    late
}

fn tokio_late(delays: Delays) -> Late {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut late = Vec::new();
        for delay in delays {
            let due = Instant::now() + delay;
            tokio::time::sleep_until(due.into()).await;
            late.push(due.elapsed().as_nanos() as f64 / 1e3);
        }
        late
    })
}

/// Generates the same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn seconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from * 1_000_000 + self.below((to - from) * 1_000_000))
    }
}
