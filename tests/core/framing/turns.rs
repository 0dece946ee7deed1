//! Small frames by the thousand: each counts towards the share of its task, though it needs no I/O.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use entwined::{
    framing::{FramedStream, Lines, Prefixed, Width},
    protocol::{self, Connection, End, FrameReceiver, Framed, Lost, Protocol},
    simulation::Simulation,
    transport::memory::{self, Link},
};
use futures_io::AsyncWrite;

const FRAMES: u32 = 60_000;

/// The most frames that one turn may handle.
const MOST: u32 = 520;

/// The counter of a test, and the most that it has grown by in a turn.
#[derive(Clone, Default)]
struct Meter {
    count: Rc<Cell<u32>>,
    last: Rc<Cell<u32>>,
    most: Rc<Cell<u32>>,
}

impl Meter {
    fn add(&self) {
        self.count.set(self.count.get() + 1);
    }

    fn turn(&self) {
        let grown = self.count.get() - self.last.replace(self.count.get());
        self.most.set(self.most.get().max(grown));
    }

    #[track_caller]
    fn check(&self) {
        self.turn();
        assert_eq!(self.count.get(), FRAMES);
        assert!(self.most.get() <= MOST, "{} in a turn", self.most.get());
    }
}

struct Receiver {
    meter: Meter,
    ended: Rc<RefCell<Vec<u32>>>,
}

impl<F: entwined::framing::Framing> FrameReceiver<F> for Receiver {
    fn frame_received(&mut self, _: &Connection, _: &mut F, frame: &[u8]) {
        assert!(frame.is_empty());
        self.meter.add();
    }

    fn end_received(&mut self, _: &Connection) -> End {
        self.ended.borrow_mut().push(self.meter.count.get());
        End::Close
    }
}

/// A simulation whose turns are metered, and a peer that sends these bytes and closes.
fn sends(
    bytes: Vec<u8>,
) -> (
    Simulation,
    memory::MemoryStream,
    Meter,
    entwined::reactor::TurnHook,
) {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let link = Link {
        capacity: 1024 * 1024,
        ..Link::default()
    };
    let (here, mut there) = memory::pair_over(&handle, link);
    handle.spawn(async move {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let write = |cx: &mut std::task::Context<'_>| {
                std::pin::Pin::new(&mut there).poll_write(cx, rest)
            };
            let count = std::future::poll_fn(write).await.expect("it is read");
            rest = &rest[count..];
        }
    });
    let meter = Meter::default();
    let hook = handle.on_turn({
        let meter = meter.clone();
        move || meter.turn()
    });
    (simulation, here, meter, hook)
}

fn received<F: entwined::framing::Framing + 'static>(framing: F, bytes: Vec<u8>) {
    let (simulation, here, meter, _hook) = sends(bytes);
    let receiver = Receiver {
        meter: meter.clone(),
        ended: Rc::default(),
    };
    let ended = receiver.ended.clone();
    protocol::start(&simulation.handle(), here, Framed::new(framing, receiver));
    simulation.drive();
    meter.check();
    // The end comes after all of them.
    assert_eq!(ended.take(), [FRAMES]);
}

#[test]
fn empty_lines_and_frames_of_no_bytes_do_not_hold_a_protocols_turn() {
    received(Lines::new(100), vec![b'\n'; FRAMES as usize]);
    received(Prefixed::new(Width::U16, 100), vec![0; 2 * FRAMES as usize]);
}

#[test]
fn empty_lines_do_not_hold_the_turn_of_a_task() {
    let (simulation, here, meter, _hook) = sends(vec![b'\n'; FRAMES as usize]);
    let mut lines = FramedStream::new(here, Lines::new(100));
    let count = meter.clone();
    simulation.handle().spawn(async move {
        while let Some(line) = lines.next().await {
            assert!(line.expect("a line").is_empty());
            count.add();
        }
    });
    simulation.drive();
    meter.check();
}

/// Pauses after each frame, and goes on in the next turn.
struct Pausing(Meter);

impl FrameReceiver<Lines> for Pausing {
    fn frame_received(&mut self, connection: &Connection, _: &mut Lines, _: &[u8]) {
        self.0.add();
        connection.pause_reading();
        let connection = connection.clone();
        let handle = connection.handle().clone();
        handle.call_soon(move || connection.resume_reading());
    }
}

#[test]
fn pausing_after_each_frame_loses_none() {
    let (simulation, here, meter, _hook) = sends(vec![b'\n'; 3_000]);
    let pausing = Framed::new(Lines::new(100), Pausing(meter.clone()));
    protocol::start(&simulation.handle(), here, pausing);
    simulation.drive();
    assert_eq!(meter.count.get(), 3_000);
}

/// Takes time for each of its reads.
struct Slow(Rc<Cell<u32>>);

impl Protocol for Slow {
    fn data_received(&mut self, _: &Connection, _: &[u8]) {
        self.0.set(self.0.get() + 1);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }

    fn connection_lost(&mut self, _: &Lost) {}
}

#[test]
fn a_protocol_that_takes_its_time_gives_way_after_each_read() {
    let (simulation, here, _meter, hook) = sends(vec![0; 512 * 1024]);
    drop(hook);
    let (count, last, most) = <(Rc<Cell<u32>>, Cell<u32>, Rc<Cell<u32>>)>::default();
    protocol::start(&simulation.handle(), here, Slow(count.clone()));
    let _hook = simulation.handle().on_turn({
        let (count, most) = (count.clone(), most.clone());
        move || most.set(most.get().max(count.get() - last.replace(count.get())))
    });
    simulation.drive();
    assert!(count.get() >= 8);
    assert!(most.get() <= 2, "{} reads in a turn", most.get());
}

/// Small frames behind the end of a large one were all handled at once.
#[test]
fn small_frames_behind_a_large_one_do_not_hold_a_turn() {
    let large = 200 * 1024;
    let bytes = || {
        let mut bytes = (large as u32).to_be_bytes().to_vec();
        bytes.resize(bytes.len() + large, b'x');
        bytes.resize(bytes.len() + 4 * FRAMES as usize, 0);
        bytes
    };
    let framing = || Prefixed::new(Width::U32, large);

    struct Small(Meter);

    impl FrameReceiver<Prefixed> for Small {
        fn frame_received(&mut self, _: &Connection, _: &mut Prefixed, frame: &[u8]) {
            if frame.is_empty() {
                self.0.add();
            }
        }
    }

    let (simulation, here, meter, _hook) = sends(bytes());
    let receiver = Framed::new(framing(), Small(meter.clone()));
    protocol::start(&simulation.handle(), here, receiver);
    simulation.drive();
    meter.check();

    let (simulation, here, meter, _hook) = sends(bytes());
    let mut frames = FramedStream::new(here, framing());
    let count = meter.clone();
    simulation.handle().spawn(async move {
        while let Some(frame) = frames.next().await {
            if frame.expect("a frame").is_empty() {
                count.add();
            }
        }
    });
    simulation.drive();
    meter.check();
}
