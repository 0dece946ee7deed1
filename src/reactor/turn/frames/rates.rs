//! Hosts at the refresh rates that displays have, and a network that always has work, in simulated
//! time: no frame may be late, and the network must get most of what the frames leave.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use super::{Clock, Frames};

const RATES: [u32; 5] = [30, 60, 75, 120, 144];

/// How long the network is given.
const LENGTH: Duration = Duration::from_secs(5);

/// Frames are not judged while the clock learns.
const LEARNING: Duration = Duration::from_millis(500);

/// The longest callback of the network. A slice ends with the callback in which its budget ends.
const CALLBACK: Duration = Duration::from_micros(100);

/// What the host's loop does by itself between two slices.
const OWN: Duration = Duration::from_micros(20);

fn us(microseconds: u64) -> Duration {
    Duration::from_micros(microseconds)
}

/// A host's loop.
struct Host {
    frames: Frames,
    clock: Rc<Clock>,
    interval: Duration,
    cost: Duration,
    start: Instant,
    now: Instant,
    /// The time that the network has had.
    network: Duration,
    slices: u32,
}

impl Host {
    /// A host whose frames take a share of their interval, in percent.
    fn new(hertz: u32, share: u32) -> Self {
        let (frames, clock) = (Frames::default(), Rc::new(Clock::default()));
        frames.clocks.borrow_mut().push(Rc::downgrade(&clock));
        let (start, interval) = (Instant::now(), Duration::from_secs(1) / hertz);
        Host {
            frames,
            clock,
            interval,
            cost: interval * share / 100,
            start,
            now: start,
            network: Duration::ZERO,
            slices: 0,
        }
    }

    fn is_over(&self) -> bool {
        self.now > self.start + LENGTH
    }

    fn is_judged(&self) -> bool {
        self.now > self.start + LEARNING
    }

    /// The network has a slice, and exceeds its budget by up to a callback.
    fn slice(&mut self) {
        let budget = self.frames.budget(self.now);
        // Any lengths will do that are not all alike.
        let over = CALLBACK * (self.slices * 7 % 11) / 10;
        self.slices += 1;
        self.frames.overran(over);
        self.now += budget + over + OWN;
        self.network += budget + over;
    }

    /// Fails unless the network had most of what the frames have left.
    fn assert_served(&self, least: f64) {
        let left = 1.0 - self.cost.as_secs_f64() / self.interval.as_secs_f64();
        let had = self.network.as_secs_f64() / LENGTH.as_secs_f64() / left;
        assert!(
            had > least,
            "at frames of {:?} that cost {:?} the network had {had:.2} of the rest",
            self.interval,
            self.cost
        );
    }
}

/// The host begins a frame by a timer, as GTK and Qt do.
#[test]
fn frames_by_a_timer_begin_on_time_at_each_rate() {
    for hertz in RATES {
        for share in [5, 30, 60] {
            let mut host = Host::new(hertz, share);
            let (mut due, mut latest) = (host.start, Duration::ZERO);
            while !host.is_over() {
                if host.now < due {
                    host.slice();
                    continue;
                }
                if host.is_judged() {
                    latest = latest.max(host.now - due);
                }
                host.clock.begin(host.now, host.interval);
                host.now += host.cost;
                host.clock.end(host.now, host.cost);
                while due <= host.now {
                    due += host.interval;
                }
            }
            // The shortest slice, and a callback.
            assert!(
                latest <= us(200) + CALLBACK + OWN,
                "{hertz} Hz, frames of {share} %: a frame began {latest:?} late"
            );
            host.assert_served(0.8);
        }
    }
}

/// The host begins a frame as soon as the display has taken the one before, and waits for the
/// display at its end, as OpenGL programs do.
#[test]
fn frames_that_wait_for_the_display_are_shown_in_each_interval_at_each_rate() {
    for hertz in RATES {
        for share in [5, 30, 60] {
            let mut host = Host::new(hertz, share);
            let (mut shown, mut missed) = (host.start, 0);
            while !host.is_over() {
                // The request for the next frame is an event: it comes after the slice that waits.
                host.slice();
                host.clock.begin(host.now, host.interval);
                host.now += host.cost;
                let before = shown;
                while shown < host.now {
                    shown += host.interval;
                }
                if host.is_judged() && shown > before + host.interval {
                    missed += 1;
                }
                host.now = shown;
                host.clock.end(host.now, host.cost);
            }
            assert_eq!(missed, 0, "{hertz} Hz, frames of {share} %");
        }
    }
}

/// The rate changes when a window goes to another display.
#[test]
fn a_window_that_goes_to_another_display_has_its_rate() {
    let mut host = Host::new(30, 20);
    let (mut due, mut latest) = (host.start, Duration::ZERO);
    while !host.is_over() {
        if host.now < due {
            host.slice();
            continue;
        }
        if host.is_judged() {
            latest = latest.max(host.now - due);
        }
        // Each second on the other.
        let hertz = RATES[(host.now - host.start).as_secs() as usize % RATES.len()];
        host.interval = Duration::from_secs(1) / hertz;
        host.cost = host.interval / 5;
        host.clock.begin(host.now, host.interval);
        host.now += host.cost;
        host.clock.end(host.now, host.cost);
        while due <= host.now {
            due += host.interval;
        }
    }
    assert!(latest <= us(200) + CALLBACK + OWN, "{latest:?} late");
}
