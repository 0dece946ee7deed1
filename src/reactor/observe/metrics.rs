//! Figures.

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime},
};

use super::{Histogram, Label, Origin};
use crate::address::Address;

/// Figures since the reactor was made; see [`Handle::metrics`](crate::Handle::metrics).
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
    /// Callbacks that took longer than the [threshold](crate::Handle::set_stall_threshold).
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
    /// The frames of the windows, where the host has a [frame clock](crate::reactor::FrameClock).
    pub frames: FrameMetrics,
    pub(crate) shares: Vec<Share>,
}

impl Metrics {
    /// What work of this kind took.
    pub fn share(&self, label: Label) -> Share {
        self.shares.get(label.index()).copied().unwrap_or_default()
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

/// The callbacks that held the thread for too long; see [`Handle::stalls`](crate::Handle::stalls).
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

/// What a reactor has to do at present; see [`Handle::census`](crate::Handle::census).
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

/// What is known of the frames of all windows.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct FrameMetrics {
    /// Frames drawn.
    pub drawn: u64,
    /// From the start of a frame to that of the next, while frames come one after another.
    pub gaps: Histogram,
    /// Frames that would have fitted into gaps of one and a half intervals or more.
    pub lost: u64,
    /// What a frame costs at present, in time of the processor: of all windows the most.
    pub cost: Duration,
}
