//! Figures.

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime},
};

use super::{Core, FrameMetrics, Histogram, Kind, Origin, core::Timed};
use crate::address::Address;

/// Figures since the reactor was made; see [`Handle::metrics`](super::Handle::metrics).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Turns made.
    pub turns: u64,
    /// How long they took, those that ran anything; without waiting for events.
    pub turn_times: Histogram,
    /// Calls, timers and task polls run.
    pub callbacks: u64,
    /// The longest callback, without those that spun the host's loop.
    pub longest_callback: Option<(Duration, Origin)>,
    /// How long the thread has waited for a processor that the system had given to others: frames
    /// are late then, and it is nobody's fault in the program. As of the last turn, or the one
    /// before; zero where the system does not tell (schedstat).
    pub waited: Duration,
    /// Callbacks that took longer than the [threshold](super::Handle::set_stall_threshold).
    pub stalls: u64,
    /// Sources watched at present.
    pub sources: usize,
    /// Timers pending at present.
    pub timers: usize,
    /// How late timers were, those that were due.
    pub timer_lateness: Histogram,
    /// Tasks alive at present.
    pub tasks: usize,
    /// Tasks that are ready to be polled at present.
    pub ready_tasks: usize,
    /// Calls that wait at present, without those that other threads have just posted.
    pub waiting_calls: usize,
    /// Connections open at present: connected sockets of TCP and Unix.
    pub connections: usize,
    /// Connections that were opened since the reactor was made.
    pub connections_opened: u64,
    /// Bytes received over all sources.
    pub received: u64,
    /// Bytes sent over all sources.
    pub sent: u64,
    /// The frames of the windows, where the host has a [frame clock](super::FrameClock).
    pub frames: FrameMetrics,
    pub(crate) shares: [Share; Kind::COUNT],
}

impl Metrics {
    /// What callbacks of this kind took.
    pub fn share(&self, kind: Kind) -> Share {
        self.shares[kind as usize]
    }
}

/// What callbacks of one kind took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Share {
    /// How often they were run.
    pub count: u64,
    /// How long all of them took.
    pub time: Duration,
}

/// The callbacks that held the thread for too long; see [`Handle::stalls`](super::Handle::stalls).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stalls {
    /// How many there were.
    pub count: u64,
    /// The last 32, the latest at the end.
    pub recent: VecDeque<Stall>,
    /// By where they come from. There are no more places than the program has lines.
    pub places: Vec<StallPlace>,
}

/// A callback that held the thread for too long.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Stall {
    /// Which.
    pub origin: Origin,
    /// For how long, without what the thread waited for a processor.
    pub duration: Duration,
    /// When it ended.
    pub at: SystemTime,
}

/// What a place in the program has done to the thread.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StallPlace {
    /// Which.
    pub origin: Origin,
    /// How often.
    pub count: u64,
    /// For how long at worst.
    pub longest: Duration,
}

/// What a reactor has to do at present; see [`Handle::census`](super::Handle::census).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Census {
    /// The tasks that are alive: where they were spawned, and how many from there.
    pub tasks: Vec<(Origin, usize)>,
    /// The timers that are pending: where they were scheduled, how many from there, and when the
    /// first of them is due.
    pub timers: Vec<(Origin, usize, Instant)>,
    /// Tasks that sleep or have a limit of time: timers that wake them.
    pub sleeping: usize,
    /// The connections.
    pub connections: Vec<ConnectionInfo>,
}

/// An open connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Who is at the other end.
    pub peer: Address,
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Since when, to within a turn.
    pub since: Instant,
}

impl Core {
    pub(crate) fn metrics(&self) -> Metrics {
        let meter = &self.meter;
        let shares = Kind::ALL.map(|kind| meter.share(kind));
        let handlers = meter.share(Kind::Handler).count;
        Metrics {
            turns: self.turns.get(),
            turn_times: meter.turns.borrow().clone(),
            callbacks: shares.iter().map(|share| share.count).sum::<u64>() - handlers,
            longest_callback: meter.longest(),
            waited: meter.waited(),
            stalls: meter.stall_count(),
            sources: self.sources.borrow().len(),
            timers: self.timers.borrow().len(),
            timer_lateness: meter.lateness.borrow().clone(),
            tasks: self.tasks.alive_len(),
            ready_tasks: self.tasks.ready_len(),
            waiting_calls: self.calls.borrow().len(),
            connections: self.connections.get(),
            connections_opened: meter.connected.get(),
            received: meter.received.get(),
            sent: meter.sent.get(),
            frames: self.frames.metrics(),
            shares,
        }
    }

    pub(crate) fn census(&self) -> Census {
        let mut timers: Vec<(Origin, usize, Instant)> = Vec::new();
        let mut sleeping = 0;
        for (at, timed) in self.timers.borrow().values() {
            match timed {
                Timed::Wake(_) => sleeping += 1,
                Timed::Call(call) => match timers.iter_mut().find(|entry| entry.0 == call.origin) {
                    Some((_, count, first)) => (*count, *first) = (*count + 1, at.min(*first)),
                    None => timers.push((call.origin, 1, at)),
                },
            }
        }
        let sources = self.sources.borrow();
        let connections = sources
            .values()
            .filter_map(|source| source.connection())
            .collect();
        Census {
            tasks: self.tasks.places(),
            timers,
            sleeping,
            connections,
        }
    }
}
