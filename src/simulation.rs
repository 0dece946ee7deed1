//! A reactor with simulated time, for tests that never sleep and always run the same way.
//!
//! ```
//! use std::{cell::RefCell, rc::Rc, time::Duration};
//! use entwined::simulation::Simulation;
//!
//! let simulation = Simulation::new();
//! let handle = simulation.handle();
//! let log = Rc::new(RefCell::new(Vec::new()));
//! handle.call_later(Duration::from_secs(3600), {
//!     let log = log.clone();
//!     move || log.borrow_mut().push("an hour")
//! });
//! handle.call_soon({
//!     let log = log.clone();
//!     move || log.borrow_mut().push("at once")
//! });
//!
//! simulation.drive();
//! assert_eq!(*log.borrow(), ["at once"]);
//! simulation.advance(Duration::from_secs(3600));
//! assert_eq!(*log.borrow(), ["at once", "an hour"]);
//! ```
//!
//! It does not watch file descriptors. Use [`memory`](crate::transport::memory) streams for
//! connections; their latency is in simulated time. How long callbacks take has no effect: turns,
//! tasks and protocols give way by what they do, and not by the time that it takes.

use std::{
    cell::Cell,
    fmt, io,
    rc::Rc,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    deferred::{ChainError, Deferred},
    reactor::{Driver, Event, Handle, Interest, Key, NextTurn, Notify, Reactor, Source},
    share::without_time,
};

/// A program that takes this many turns without time advancing will never become idle.
const MOST_TURNS: usize = 1_000_000;

/// A reactor in simulated time. It runs from the start; dropping it ends the run.
pub struct Simulation {
    driver: Driver,
    clock: Rc<Clock>,
}

impl Simulation {
    /// Creates a simulation that starts at the current instant.
    pub fn new() -> Self {
        let clock = Rc::new(Clock {
            now: Cell::new(Instant::now()),
            deadline: Cell::new(None),
        });
        let driver = Driver::new(Simulated(clock.clone()), ());
        driver.start().expect("a new reactor can be started");
        Simulation { driver, clock }
    }

    /// Returns the reactor's handle.
    pub fn handle(&self) -> Handle {
        self.driver.handle()
    }

    /// Runs one turn. Returns true if there is more to do at the current simulated time.
    pub fn step(&self) -> bool {
        without_time(|| self.driver.turn(Some(Duration::ZERO)))
            .expect("a simulation makes no system calls that could fail");
        self.driver.next_turn() == NextTurn::Now
    }

    /// Runs turns until there is nothing left to do at the current simulated time.
    ///
    /// # Panics
    /// After a million turns, because the program never becomes idle.
    pub fn drive(&self) {
        for _ in 0..MOST_TURNS {
            if !self.step() {
                return;
            }
        }
        panic!("after {MOST_TURNS} turns there is still something to do at the same instant");
    }

    /// Advances the time by `time`. Everything that becomes due in between runs at its own instant,
    /// in order. If a callback [waits](Handle::wait), the time goes on until it has what it waits
    /// for, also beyond this.
    ///
    /// # Panics
    /// See [`drive`](Simulation::drive).
    pub fn advance(&self, time: Duration) {
        let end = self.handle().after(time);
        self.drive();
        while let Some(next) = self.next_instant().filter(|&next| next <= end) {
            self.clock.now.set(next);
            self.drive();
        }
        // A callback that waited may have let more time pass.
        self.clock.now.set(end.max(self.clock.now.get()));
        self.drive();
    }

    /// Advances the time from one deadline to the next until `deferred` has fired, and returns its
    /// result.
    ///
    /// # Panics
    /// If nothing is left that could fire it; see also [`drive`](Simulation::drive).
    pub fn run_until<T: 'static, E: ChainError>(
        &self,
        mut deferred: Deferred<T, E>,
    ) -> Result<T, E> {
        loop {
            self.drive();
            match deferred.take() {
                Ok(result) => return result,
                Err(waiting) => deferred = waiting,
            }
            let next = self
                .next_instant()
                .expect("nothing is left that could fire the Deferred");
            self.clock.now.set(next);
        }
    }

    fn next_instant(&self) -> Option<Instant> {
        match self.driver.next_turn() {
            NextTurn::At(instant) => Some(instant),
            _ => None,
        }
    }
}

impl Default for Simulation {
    fn default() -> Self {
        Simulation::new()
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}

struct Clock {
    now: Cell<Instant>,
    /// Never later than the first timer.
    deadline: Cell<Option<Instant>>,
}

struct Simulated(Rc<Clock>);

impl Reactor for Simulated {
    fn watch(&self, _: Source<'_>, _: Key, _: Interest) -> io::Result<()> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a simulation cannot watch file descriptors; use streams in memory",
        ))
    }

    fn rearm(&self, _: Source<'_>, _: Key, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn unwatch(&self, _: Source<'_>, _: Key) -> io::Result<()> {
        Ok(())
    }

    /// Time advances only when the test says so; the simulation then asks [`Driver::next_turn`]. Or
    /// if a callback waits: nobody else could let the time pass.
    fn select(&self, wait: Option<Duration>, _: &mut Vec<Event>) -> io::Result<()> {
        if wait.is_none() {
            match self.0.deadline.get() {
                Some(deadline) => self.0.now.set(deadline.max(self.0.now.get())),
                // Another thread may have something.
                None => thread::yield_now(),
            }
        }
        Ok(())
    }

    fn set_deadline(&self, deadline: Option<Instant>) {
        self.0.deadline.set(deadline);
    }

    fn notifier(&self) -> Arc<dyn Notify> {
        Arc::new(NoLoop)
    }

    fn now(&self) -> Instant {
        self.0.now.get()
    }
}

/// There is no loop to wake, because the test runs the turns.
struct NoLoop;

impl Notify for NoLoop {
    fn notify(&self) {}
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::{
        protocol::{self, Connection, Echo, Lost, Protocol},
        transport::memory::{self, Link},
    };

    type Log = Rc<RefCell<Vec<(Duration, String)>>>;

    struct Client {
        log: Log,
        start: Instant,
    }

    impl Client {
        fn note(&self, time: Instant, text: String) {
            self.log.borrow_mut().push((time - self.start, text));
        }
    }

    impl Protocol for Client {
        fn connection_made(&mut self, connection: &Connection) {
            connection.write(b"hello");
        }
        fn data_received(&mut self, connection: &Connection, data: &[u8]) {
            self.note(
                connection.handle().now(),
                String::from_utf8(data.to_vec()).unwrap(),
            );
        }
        fn connection_lost(&mut self, why: &Lost) {
            self.log.borrow_mut().push((Duration::MAX, why.to_string()));
        }
    }

    fn link(latency: u64, fragment: usize) -> Link {
        Link {
            latency: Duration::from_millis(latency),
            fragment,
            ..Link::default()
        }
    }

    #[test]
    fn an_echo_takes_two_latencies_of_simulated_time_and_comes_in_fragments() {
        let simulation = Simulation::new();
        let handle = simulation.handle();
        let (here, there) = memory::pair_over(&handle, link(50, 3));
        let log = Log::default();
        let client = Client {
            log: log.clone(),
            start: handle.now(),
        };
        protocol::start(&handle, there, Echo);
        let connection = protocol::start(&handle, here, client);
        simulation.advance(Duration::from_millis(99));
        assert_eq!(*log.borrow(), []);
        simulation.advance(Duration::from_millis(1));
        let expected = [
            (Duration::from_millis(100), "hel".to_owned()),
            (Duration::from_millis(100), "lo".to_owned()),
        ];
        assert_eq!(*log.borrow(), expected);
        connection.close();
        simulation.drive();
        assert_eq!(log.borrow()[2].1, "the connection was closed");
    }

    #[test]
    fn a_wire_that_is_cut_is_an_error_at_both_ends() {
        let simulation = Simulation::new();
        let handle = simulation.handle();
        let (here, there) = memory::pair(&handle);
        there.cut(io::ErrorKind::ConnectionReset);
        let log = Log::default();
        protocol::start(
            &handle,
            here,
            Client {
                log: log.clone(),
                start: handle.now(),
            },
        );
        simulation.drive();
        assert!(
            log.borrow()[0].1.starts_with("the connection failed"),
            "{:?}",
            log.borrow()
        );
    }

    #[test]
    fn a_reader_that_rests_holds_the_writer_back() {
        let simulation = Simulation::new();
        let handle = simulation.handle();
        let (here, there) = memory::pair_over(
            &handle,
            Link {
                capacity: 10,
                ..Link::default()
            },
        );
        let reader = protocol::start(&handle, there, Echo);
        reader.pause_reading();
        let log = Log::default();
        let writer = protocol::start(
            &handle,
            here,
            Client {
                log: log.clone(),
                start: handle.now(),
            },
        );
        writer.write(&[b'x'; 100]);
        simulation.drive();
        assert_eq!(writer.unsent(), 95, "hello, five more, and no further");
        reader.resume_reading();
        simulation.drive();
        assert_eq!(writer.unsent(), 0);
        assert_eq!(
            log.borrow()
                .iter()
                .map(|entry| entry.1.len())
                .sum::<usize>(),
            105
        );
    }

    #[test]
    fn a_deferred_is_waited_for_in_simulated_time() {
        let simulation = Simulation::new();
        let handle = simulation.handle();
        let slow = handle.spawn(handle.sleep(Duration::from_secs(86_400)));
        assert_eq!(simulation.run_until(slow), Ok(()));
        let never = Deferred::<(), crate::deferred::Interrupted>::with_canceller(|| {});
        let limited = never.1.add_timeout(&handle, Duration::from_secs(10));
        assert_eq!(
            simulation.run_until(limited),
            Err(crate::deferred::Interrupted::TimedOut)
        );
    }

    #[test]
    #[should_panic(expected = "still something to do")]
    fn a_program_that_never_rests_is_told_so() {
        fn again(handle: &Handle) {
            let next = handle.clone();
            handle.call_soon(move || again(&next));
        }
        let simulation = Simulation::new();
        again(&simulation.handle());
        simulation.drive();
    }

    /// What callbacks of every kind do, each of which takes this long.
    fn order(time: Duration) -> Vec<String> {
        let (simulation, log) = (Simulation::new(), Rc::new(RefCell::new(Vec::new())));
        let handle = simulation.handle();
        let note = {
            let log = log.clone();
            move |kind: &str, number: u32| {
                std::thread::sleep(time);
                log.borrow_mut().push(format!("{kind} {number}"));
            }
        };
        for number in 0..16 {
            let (call, timer, task) = (note.clone(), note.clone(), note.clone());
            handle.call_soon(move || call("call", number));
            handle.call_later(Duration::ZERO, move || timer("timer", number));
            handle.spawn(async move { task("task", number) });
        }
        for number in 0..2 {
            let (step, received, ready) = (note.clone(), note.clone(), note.clone());
            let steps = (0..16).map(move |_| step("step", number));
            handle.cooperate(steps);
            let (here, there) = memory::pair_over(&handle, link(0, 1));
            let connection = protocol::start(
                &handle,
                here,
                Notes(Box::new(move || received("received", number))),
            );
            connection.write(b"x");
            protocol::start(&handle, there, Echo).write(&[0; 16]);
            let spender = handle.clone();
            handle.spawn(async move {
                for _ in 0..16 {
                    let spent = || spender.spend(1);
                    std::future::poll_fn(|cx| match spent() {
                        true => std::task::Poll::Ready(()),
                        false => {
                            cx.waker().wake_by_ref();
                            std::task::Poll::Pending
                        }
                    })
                    .await;
                    ready("ready", number);
                }
            });
        }
        simulation.advance(Duration::from_millis(1));
        log.take()
    }

    struct Notes(Box<dyn FnMut()>);

    impl Protocol for Notes {
        fn data_received(&mut self, _: &Connection, _: &[u8]) {
            (self.0)();
        }
    }

    /// Budgets were of real time, so a slow machine had another order.
    #[test]
    fn the_order_is_the_same_however_long_callbacks_take() {
        let quick = order(Duration::ZERO);
        assert_eq!(quick, order(Duration::from_millis(1)));
        assert_eq!(quick, order(Duration::from_micros(100)));
        assert!(quick.len() > 16 * 7, "{}", quick.len());
    }
}
