//! Services: their order, and clients that reconnect, in simulated time.

use std::{
    cell::{Cell, RefCell},
    future::ready,
    io,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use entwined::{
    Handle, Standalone,
    deferred::Interrupted,
    endpoint::{Client, ClientEndpoint, Connecting, EndpointError, Kinds},
    forward_stream,
    protocol::{Connection, Lost, Protocol},
    service::{Backoff, ClientService, Service, Services, Starting, Stopping},
    simulation::Simulation,
    transport::{
        AsyncRead, AsyncWrite, ByteStream,
        memory::{self, MemoryStream},
    },
};

type Log = Rc<RefCell<Vec<String>>>;

fn note(log: &Log, what: impl Into<String>) {
    log.borrow_mut().push(what.into());
}

/// A service that logs what it is asked to do.
struct Noting {
    name: &'static str,
    log: Log,
    fails: bool,
    /// How long it takes to stop. `None` means forever.
    stopping: Option<Duration>,
    handle: Handle,
}

impl Service for Noting {
    fn name(&self) -> &str {
        self.name
    }

    fn start(&self, _: &Handle) -> Starting {
        note(&self.log, format!("start {}", self.name));
        let result = if self.fails {
            Err("there is no more paper".into())
        } else {
            Ok(())
        };
        Box::pin(ready(result))
    }

    fn stop(&self) -> Stopping {
        note(&self.log, format!("stop {}", self.name));
        let (log, name, time, handle) = (
            self.log.clone(),
            self.name,
            self.stopping,
            self.handle.clone(),
        );
        Box::pin(async move {
            match time {
                Some(time) => handle.sleep(time).await,
                None => std::future::pending().await,
            }
            note(&log, format!("stopped {name}"));
        })
    }
}

fn noting(handle: &Handle, log: &Log, name: &'static str) -> Noting {
    let stopping = Some(Duration::from_secs(1));
    Noting {
        name,
        log: log.clone(),
        fails: false,
        stopping,
        handle: handle.clone(),
    }
}

/// The time for stopping ran out with the fourth, and the others were never asked.
#[test]
fn a_service_is_stopped_though_all_before_it_do_not_stop() {
    for nested in [false, true] {
        let (simulation, log) = (Simulation::new(), Log::default());
        let handle = simulation.handle();
        let services = Services::new("app", &handle);
        services.add(noting(&handle, &log, "first"));
        for name in ["a", "b", "c", "d", "e"] {
            let mut stuck = noting(&handle, &log, name);
            stuck.stopping = None;
            services.add(stuck);
        }
        let outer = Services::new("outer", &handle);
        outer.add(noting(&handle, &log, "outermost"));
        outer.add(services.clone());
        let started = if nested { outer.run() } else { services.run() };
        simulation.run_until(started).expect("all start");
        log.take();
        handle.stop();
        simulation.advance(Duration::from_secs(120));
        let log = log.take();
        for name in ["a", "b", "c", "d", "e", "first"] {
            let stop = format!("stop {name}");
            assert_eq!(
                log.iter().filter(|line| **line == stop).count(),
                1,
                "{log:?}"
            );
        }
        assert_eq!(log.contains(&"stop outermost".to_owned()), nested);
    }
}

#[test]
fn services_start_in_order_and_stop_in_the_reverse_order() {
    let (simulation, log) = (Simulation::new(), Log::default());
    let handle = simulation.handle();
    let (outer, inner) = (
        Services::new("outer", &handle),
        Services::new("inner", &handle),
    );
    outer.add(noting(&handle, &log, "a"));
    inner.add(noting(&handle, &log, "b"));
    inner.add(noting(&handle, &log, "c"));
    outer.add(inner);
    outer.add(noting(&handle, &log, "d"));
    simulation.run_until(outer.run()).expect("all start");
    assert_eq!(log.take(), ["start a", "start b", "start c", "start d"]);
    handle.stop();
    simulation.advance(Duration::from_secs(10));
    let stopped = [
        "stop d",
        "stopped d",
        "stop c",
        "stopped c",
        "stop b",
        "stopped b",
        "stop a",
        "stopped a",
    ];
    assert_eq!(log.take(), stopped);
}

#[test]
fn a_service_that_fails_has_those_before_it_stopped() {
    let (simulation, log) = (Simulation::new(), Log::default());
    let handle = simulation.handle();
    let services = Services::new("services", &handle);
    services.add(noting(&handle, &log, "a"));
    services.add(Noting {
        fails: true,
        ..noting(&handle, &log, "printer")
    });
    services.add(noting(&handle, &log, "c"));
    let error = simulation
        .run_until(services.run())
        .expect_err("the second");
    assert_eq!(
        error.to_string(),
        "printer cannot be started: there is no more paper"
    );
    assert_eq!(
        log.take(),
        ["start a", "start printer", "stop a", "stopped a"]
    );
}

/// A program may try again for days, each time with services of their own.
#[test]
fn services_that_did_not_start_or_have_stopped_are_let_go() {
    let (simulation, log) = (Simulation::new(), Log::default());
    let handle = simulation.handle();
    for fails in [true, false] {
        let services = Services::new("app", &handle);
        services.add(noting(&handle, &log, "a"));
        let last = Noting {
            fails,
            ..noting(&handle, &log, "b")
        };
        services.add(last);
        let started = simulation.run_until(services.run());
        assert_eq!(started.is_err(), fails);
        simulation
            .run_until(handle.spawn(services.stop()))
            .expect("stopped");
        drop(services);
        assert_eq!(Rc::strong_count(&log), 1, "fails: {fails}");
    }
    handle.stop();
    simulation.advance(Duration::from_secs(1));
}

#[test]
fn a_service_that_does_not_stop_is_given_up() {
    let (simulation, log) = (Simulation::new(), Log::default());
    let handle = simulation.handle();
    let services = Services::new("services", &handle);
    services.add(noting(&handle, &log, "a"));
    services.add(Noting {
        stopping: None,
        ..noting(&handle, &log, "b")
    });
    simulation.run_until(services.run()).expect("all start");
    log.take();
    handle.stop();
    simulation.advance(Duration::from_secs(9));
    assert_eq!(log.take(), ["stop b"]);
    simulation.advance(Duration::from_secs(2));
    assert_eq!(log.take(), ["stop a", "stopped a"]);
}

/// The peer of a client: the times of the attempts, and how they end.
#[derive(Default)]
struct World {
    tries: RefCell<Vec<u64>>,
    /// Whether somebody listens.
    open: Cell<bool>,
    /// Whether an attempt takes forever.
    silent: Cell<bool>,
    /// Whether whoever listens is a stranger, and every handshake fails.
    strange: Cell<bool>,
    peers: RefCell<Vec<MemoryStream>>,
}

struct ToWorld(Rc<World>, std::time::Instant);

impl Client for ToWorld {
    fn connect(&self, handle: &Handle) -> Connecting {
        let world = &self.0;
        world
            .tries
            .borrow_mut()
            .push((handle.now() - self.1).as_secs());
        if world.silent.get() {
            return Box::pin(std::future::pending());
        }
        if !world.open.get() {
            let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            return Box::pin(ready(Err(EndpointError::Io(refused))));
        }
        let (near, far) = memory::pair(handle);
        world.peers.borrow_mut().push(far);
        let strange = world.strange.get();
        let stream: Box<dyn ByteStream> = Box::new(Handshake { near, strange });
        Box::pin(ready(Ok(stream)))
    }
}

/// A stream whose handshake fails, or is none.
struct Handshake {
    near: MemoryStream,
    strange: bool,
}

impl AsyncRead for Handshake {
    forward_stream!(near: poll_read);
}

impl AsyncWrite for Handshake {
    forward_stream!(near: poll_write, poll_flush, poll_close);
}

impl ByteStream for Handshake {
    forward_stream!(near: local_address, peer_address, abort, below);

    fn poll_established(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self.strange {
            true => Err(io::Error::other("a stranger")),
            false => Ok(()),
        })
    }
}

fn world(handle: &Handle) -> (Rc<World>, ClientEndpoint) {
    let world = Rc::new(World::default());
    let (given, now) = (world.clone(), handle.now());
    let mut kinds = Kinds::new();
    kinds.add_client("world", move |_| Ok(Rc::new(ToWorld(given.clone(), now))));
    (world, kinds.client("world:").expect("an endpoint"))
}

fn steady() -> Backoff {
    let mut backoff = Backoff::default();
    (backoff.jitter, backoff.factor, backoff.max) = (0.0, 2.0, Duration::from_secs(8));
    backoff
}

struct Told(Log);

impl Protocol for Told {
    fn connection_made(&mut self, _: &Connection) {
        note(&self.0, "made");
    }

    fn data_received(&mut self, _: &Connection, _: &[u8]) {}

    fn connection_lost(&mut self, why: &Lost) {
        note(&self.0, why.to_string());
    }
}

fn client(simulation: &Simulation) -> (Rc<World>, Log, ClientService) {
    let (handle, log) = (simulation.handle(), Log::default());
    let (world, endpoint) = world(&handle);
    let told = log.clone();
    (
        world,
        log,
        ClientService::with_backoff("client", endpoint, steady(), move || Told(told.clone())),
    )
}

fn start(simulation: &Simulation, service: &impl Service) {
    let handle = simulation.handle();
    let starting = service.start(&handle);
    simulation
        .run_until(handle.spawn(starting))
        .expect("no panic")
        .expect("it starts");
}

#[test]
fn a_client_connects_again_and_waits_longer_each_time() {
    let simulation = Simulation::new();
    let (world, log, service) = client(&simulation);
    start(&simulation, &service);
    let connected = service.when_connected();
    simulation.advance(Duration::from_secs(40));
    assert_eq!(world.tries.take(), [0, 1, 3, 7, 15, 23, 31, 39]);
    assert!(service.connection().is_none() && !connected.is_ready());
    world.open.set(true);
    simulation.advance(Duration::from_secs(8));
    assert_eq!(world.tries.take(), [47]);
    assert!(connected.is_ready() && service.connection().is_some());
    assert!(service.when_connected().is_ready());
    // A lost connection is made again after the shortest delay.
    drop(world.peers.take());
    simulation.advance(Duration::from_secs(1));
    assert_eq!(world.tries.take(), [49]);
    assert_eq!(log.take(), ["made", "the connection was closed", "made"]);
}

#[test]
fn a_handshake_that_fails_is_a_failed_attempt_without_a_protocol() {
    let simulation = Simulation::new();
    let (world, log, service) = client(&simulation);
    world.open.set(true);
    world.strange.set(true);
    start(&simulation, &service);
    let connected = service.when_connected();
    simulation.advance(Duration::from_secs(20));
    assert_eq!(world.tries.take(), [0, 1, 3, 7, 15]);
    assert!(log.take().is_empty() && !connected.is_ready());
    world.strange.set(false);
    simulation.advance(Duration::from_secs(10));
    assert_eq!(world.tries.take(), [23]);
    assert!(connected.is_ready());
    // The delays start anew once it has been connected.
    drop(world.peers.take());
    simulation.advance(Duration::from_secs(1));
    assert_eq!(log.take(), ["made", "the connection was closed", "made"]);
}

#[test]
fn a_client_stops_whatever_it_is_at() {
    // Connected, waiting, connecting.
    for (open, silent) in [(true, false), (false, false), (false, true)] {
        let simulation = Simulation::new();
        let (world, log, service) = client(&simulation);
        world.open.set(open);
        world.silent.set(silent);
        start(&simulation, &service);
        simulation.drive();
        let waiting = (!open).then(|| service.when_connected());
        let stopping = simulation.handle().spawn(service.stop());
        simulation.run_until(stopping).expect("no panic");
        assert!(service.connection().is_none());
        if let Some(waiting) = waiting {
            assert!(matches!(waiting.take(), Ok(Err(Interrupted::Abandoned))));
        }
        simulation.advance(Duration::from_secs(100));
        assert_eq!(world.tries.take(), [0]);
        assert_eq!(log.take().len(), if open { 2 } else { 0 });
        // It can start again.
        world.open.set(true);
        world.silent.set(false);
        start(&simulation, &service);
        simulation.drive();
        assert!(service.connection().is_some());
    }
}

#[test]
fn the_end_of_the_reactor_ends_a_client() {
    let simulation = Simulation::new();
    let (world, log, service) = client(&simulation);
    world.open.set(true);
    let services = Services::new("services", &simulation.handle());
    services.add(service.clone());
    simulation.run_until(services.run()).expect("it starts");
    simulation.drive();
    simulation.handle().stop();
    simulation.drive();
    assert_eq!(log.take(), ["made", "the connection was closed"]);
    drop(simulation);
    assert_eq!(
        Rc::strong_count(&world),
        2,
        "something keeps the service besides us"
    );
}

/// A service that does as it is told in each of its steps.
struct Odd {
    name: &'static str,
    log: Log,
    handle: Handle,
    /// How long it takes to start.
    time: Duration,
    panics: &'static str,
}

fn odd(handle: &Handle, log: &Log, name: &'static str, panics: &'static str) -> Odd {
    Odd {
        name,
        log: log.clone(),
        handle: handle.clone(),
        time: Duration::from_secs(1),
        panics,
    }
}

impl Odd {
    fn reach(&self, step: &'static str) {
        note(&self.log, format!("{step} {}", self.name));
        assert_ne!(self.panics, step);
    }
}

impl Service for Odd {
    fn name(&self) -> &str {
        self.name
    }

    fn start(&self, _: &Handle) -> Starting {
        self.reach("start");
        let (log, name, panics) = (self.log.clone(), self.name, self.panics);
        let sleep = self.handle.sleep(self.time);
        Box::pin(async move {
            sleep.await;
            assert_ne!(panics, "starting");
            note(&log, format!("started {name}"));
            Ok(())
        })
    }

    fn stop(&self) -> Stopping {
        self.reach("stop");
        let (panics, sleep) = (self.panics, self.handle.sleep(self.time));
        Box::pin(async move {
            sleep.await;
            assert_ne!(panics, "stopping");
        })
    }
}

/// Two services, of which each takes a second for each step.
fn two(simulation: &Simulation, panics: [&'static str; 2]) -> (Services, Log) {
    let (handle, log) = (simulation.handle(), Log::default());
    let services = Services::new("app", &handle);
    services.add(odd(&handle, &log, "a", panics[0]));
    services.add(odd(&handle, &log, "b", panics[1]));
    (services, log)
}

type Ended = Rc<RefCell<Option<Result<(), String>>>>;

/// Runs a start or a stop; the result is there when it has ended.
fn watch(handle: &Handle, future: Starting) -> Ended {
    let ended = Ended::default();
    let slot = ended.clone();
    handle.spawn(async move {
        let result = future.await.map_err(|error| error.to_string());
        *slot.borrow_mut() = Some(result);
    });
    ended
}

fn stopping(services: &impl Service) -> Starting {
    let stop = services.stop();
    Box::pin(async move {
        stop.await;
        Ok(())
    })
}

#[test]
fn b66_a_stop_while_services_start_starts_no_other_one() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (services, log) = two(&simulation, ["", ""]);
    let started = watch(&handle, services.start(&handle));
    simulation.drive();
    let stopped = watch(&handle, stopping(&services));
    let again = watch(&handle, services.start(&handle));
    simulation.advance(Duration::from_secs(1));
    assert_eq!(log.take(), ["start a", "started a", "stop a"]);
    let text = "it was stopped before it had started".to_owned();
    assert_eq!(started.take(), Some(Err(text.clone())));
    assert_eq!(stopped.take(), None);
    simulation.advance(Duration::from_secs(1));
    assert_eq!(stopped.take(), Some(Ok(())));
    // What was asked for last is done last.
    simulation.advance(Duration::from_secs(2));
    assert_eq!(log.take(), ["start a", "started a", "start b", "started b"]);
    assert_eq!(again.take(), Some(Ok(())));
    // A start and a stop that wait: the start is refused.
    let stopped = watch(&handle, stopping(&services));
    let started = watch(&handle, services.start(&handle));
    let last = watch(&handle, stopping(&services));
    simulation.advance(Duration::from_secs(5));
    assert_eq!(log.take(), ["stop b", "stop a"]);
    assert_eq!(started.take(), Some(Err(text)));
    assert_eq!((stopped.take(), last.take()), (Some(Ok(())), Some(Ok(()))));
}

#[test]
fn b66_a_run_that_ends_while_services_start_leaves_the_next_run_as_new() {
    let reactor = Standalone::new().expect("a reactor");
    let (handle, log) = (reactor.handle(), Log::default());
    let services = Services::new("app", &handle);
    for (name, seconds) in [("a", 0), ("b", 1_000)] {
        services.add(Odd {
            time: Duration::from_secs(seconds),
            ..odd(&handle, &log, name, "")
        });
    }
    let turns_until = |last: &str| {
        while log.borrow().last().is_none_or(|line| line != last) {
            reactor.turn(Some(Duration::ZERO)).expect("a turn");
        }
        log.take()
    };
    let started = watch(&handle, services.start(&handle));
    assert_eq!(turns_until("start b"), ["start a", "started a", "start b"]);
    handle.stop();
    while handle.is_running() {
        reactor.turn(Some(Duration::ZERO)).expect("a turn");
    }
    assert_eq!(started.take(), None);
    let _started = watch(&handle, services.start(&handle));
    let expected = ["stop a", "start a", "started a", "start b"];
    assert_eq!(turns_until("start b"), expected);
}

#[test]
fn b66_a_service_that_never_starts_does_not_hold_up_the_stop() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (services, log) = (Services::new("app", &handle), Log::default());
    services.add(Odd {
        time: Duration::from_secs(1_000_000),
        ..odd(&handle, &log, "slow", "")
    });
    let started = watch(&handle, services.start(&handle));
    simulation.drive();
    let stopped = watch(&handle, stopping(&services));
    simulation.advance(Duration::from_secs(9));
    assert_eq!(stopped.take(), None);
    simulation.advance(Duration::from_secs(2));
    assert_eq!(stopped.take(), Some(Ok(())));
    assert!(started.take().is_some_and(|result| result.is_err()));
    assert_eq!(log.take(), ["start slow"]);
}

#[test]
fn b65_a_service_that_panics_has_failed_and_leaves_the_others() {
    for step in ["start", "starting"] {
        let simulation = Simulation::new();
        let handle = simulation.handle();
        let (services, log) = two(&simulation, ["", step]);
        for _ in 0..2 {
            let started = watch(&handle, services.start(&handle));
            simulation.advance(Duration::from_secs(5));
            let error = started
                .take()
                .expect("it has ended")
                .expect_err("it panics");
            assert!(
                error.starts_with("b cannot be started: it panicked: "),
                "{error}"
            );
            assert_eq!(log.take(), ["start a", "started a", "start b", "stop a"]);
        }
    }
    for step in ["stop", "stopping"] {
        let simulation = Simulation::new();
        let handle = simulation.handle();
        let (services, log) = two(&simulation, ["", step]);
        for _ in 0..2 {
            let started = watch(&handle, services.start(&handle));
            simulation.advance(Duration::from_secs(5));
            assert_eq!(started.take(), Some(Ok(())));
            let stopped = watch(&handle, stopping(&services));
            simulation.advance(Duration::from_secs(5));
            assert_eq!(stopped.take(), Some(Ok(())));
            assert_eq!(
                log.take(),
                [
                    "start a",
                    "started a",
                    "start b",
                    "started b",
                    "stop b",
                    "stop a"
                ]
            );
        }
    }
}

#[test]
fn b66_a_client_that_is_started_while_it_stops_starts_when_it_has_stopped() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (world, log, service) = client(&simulation);
    world.open.set(true);
    start(&simulation, &service);
    simulation.drive();
    let stopped = watch(&handle, stopping(&service));
    let started = watch(&handle, service.start(&handle));
    simulation.advance(Duration::from_secs(1));
    assert_eq!(stopped.take(), Some(Ok(())));
    assert_eq!(started.take(), Some(Ok(())));
    assert!(service.connection().is_some());
    assert_eq!(log.take(), ["made", "the connection was closed", "made"]);
    // Stopped again before it could start.
    let stopped = watch(&handle, stopping(&service));
    let started = watch(&handle, service.start(&handle));
    let last = watch(&handle, stopping(&service));
    simulation.advance(Duration::from_secs(1));
    assert_eq!((stopped.take(), last.take()), (Some(Ok(())), Some(Ok(()))));
    assert!(started.take().is_some_and(|result| result.is_err()));
    assert!(service.connection().is_none());
    // A stop that nobody waits for leaves nothing behind.
    start(&simulation, &service);
    simulation.drive();
    drop(service.stop());
    simulation.advance(Duration::from_secs(1));
    start(&simulation, &service);
    simulation.drive();
    assert!(service.connection().is_some());
}

#[test]
fn b65_a_client_whose_protocol_cannot_be_built_tries_again() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (world, endpoint) = world(&handle);
    world.open.set(true);
    let (log, panics) = (Log::default(), Rc::new(Cell::new(true)));
    let (told, armed) = (log.clone(), panics.clone());
    let service = ClientService::with_backoff("client", endpoint, steady(), move || {
        assert!(!armed.get());
        Told(told.clone())
    });
    let reports = Rc::new(Cell::new(0));
    let count = reports.clone();
    let _observer = handle.observe(move |report| {
        if matches!(report, entwined::reactor::Report::Panic { .. }) {
            count.set(count.get() + 1);
        }
    });
    start(&simulation, &service);
    simulation.advance(Duration::from_secs(4));
    // The delays grow.
    assert_eq!(world.tries.take(), [0, 1, 3]);
    assert_eq!(reports.get(), 3);
    panics.set(false);
    simulation.advance(Duration::from_secs(4));
    assert!(service.connection().is_some());
    assert_eq!(log.take(), ["made"]);
}

/// The services of the inner list that had started ran on, and nobody could stop them any more.
#[test]
fn a_list_that_does_not_start_in_time_leaves_none_of_its_services_running() {
    let simulation = Simulation::new();
    let (handle, log) = (simulation.handle(), Log::default());
    let (outer, inner) = (
        Services::new("app", &handle),
        Services::new("part", &handle),
    );
    for (name, seconds) in [("a", 0), ("b", 1_000_000)] {
        inner.add(Odd {
            time: Duration::from_secs(seconds),
            ..odd(&handle, &log, name, "")
        });
    }
    outer.add(inner);
    let started = watch(&handle, outer.start(&handle));
    simulation.drive();
    assert_eq!(log.take(), ["start a", "started a", "start b"]);
    let stopped = watch(&handle, stopping(&outer));
    simulation.advance(Duration::from_secs(30));
    assert_eq!(stopped.take(), Some(Ok(())));
    assert!(started.take().is_some_and(|result| result.is_err()));
    assert_eq!(log.take(), ["stop a"]);
}

/// A list that is a part of another, and is not waited for, was not stopped at all.
#[test]
fn a_list_that_nobody_waits_for_is_stopped_too() {
    let (simulation, log) = (Simulation::new(), Log::default());
    let handle = simulation.handle();
    let (outer, inner) = (
        Services::new("app", &handle),
        Services::new("part", &handle),
    );
    inner.add(noting(&handle, &log, "first"));
    outer.add(inner);
    for name in ["a", "b", "c", "d", "e"] {
        let mut stuck = noting(&handle, &log, name);
        stuck.stopping = None;
        outer.add(stuck);
    }
    let started = outer.run();
    simulation.run_until(started).expect("all start");
    log.take();
    handle.stop();
    simulation.advance(Duration::from_secs(120));
    let log = log.take();
    let stops = log.iter().filter(|line| *line == "stop first").count();
    assert_eq!(stops, 1, "{log:?}");
}

/// The services ran on.
#[test]
fn a_stop_that_is_given_up_while_services_start_stops_them_all_the_same() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (services, log) = two(&simulation, ["", ""]);
    let started = watch(&handle, services.start(&handle));
    simulation.advance(Duration::from_millis(1_500));
    assert_eq!(log.take(), ["start a", "started a", "start b"]);
    drop(services.stop());
    simulation.advance(Duration::from_secs(10));
    assert!(started.take().is_some_and(|result| result.is_err()));
    assert_eq!(log.take(), ["started b", "stop b", "stop a"]);
    // What was given up does not count for the next.
    let again = watch(&handle, services.start(&handle));
    simulation.advance(Duration::from_secs(10));
    assert_eq!(again.take(), Some(Ok(())));
}

/// The next start ended as if it had succeeded, and nothing ran.
#[test]
fn a_stop_that_is_given_up_behind_another_does_not_count_for_the_next_start() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (services, log) = two(&simulation, ["", ""]);
    let started = watch(&handle, services.start(&handle));
    simulation.advance(Duration::from_secs(10));
    assert_eq!(started.take(), Some(Ok(())));
    let stopped = watch(&handle, stopping(&services));
    simulation.advance(Duration::from_millis(500));
    drop(services.stop());
    simulation.advance(Duration::from_secs(10));
    assert_eq!(stopped.take(), Some(Ok(())));
    log.take();
    let again = watch(&handle, services.start(&handle));
    simulation.advance(Duration::from_secs(10));
    assert_eq!(again.take(), Some(Ok(())));
    assert_eq!(log.take(), ["start a", "started a", "start b", "started b"]);
}
