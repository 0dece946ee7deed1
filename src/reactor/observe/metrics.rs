//! The metrics of a reactor.

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime},
};

use super::{Histogram, Label, Origin};
use crate::address::Address;

/// Metrics since the reactor was made; see [`Handle::metrics`](crate::Handle::metrics).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Number of turns made.
    pub turns: u64,
    /// How long turns took, without waiting for events. Only turns that ran something count.
    pub turn_times: Histogram,
    /// Number of slices in vain: the host was asked for them, or made them unasked, and there was
    /// nothing to do. A few happen on any host. If there are as many as slices with work, the
    /// backend makes two where one would do.
    pub idle_slices: u64,
    /// Number of calls, timers and task polls that have run.
    pub callbacks: u64,
    /// The longest callback, not counting callbacks that ran the host's loop.
    pub longest_callback: Option<(Duration, Origin)>,
    /// How long the thread was ready to run but had to wait for a processor. Frames may be late
    /// then, and the program is not to blame. Updated at the start of a turn, at most every 4 ms;
    /// zero if the system does not report it (schedstat).
    pub waited: Duration,
    /// Number of callbacks that took longer than the
    /// [threshold](crate::Handle::set_stall_threshold).
    pub stalls: u64,
    /// Sources watched now.
    pub sources: usize,
    /// Timers pending now.
    pub timers: usize,
    /// How late timers ran after their deadline.
    pub timer_lateness: Histogram,
    /// Live tasks.
    pub tasks: usize,
    /// Tasks ready to be polled now.
    pub ready_tasks: usize,
    /// Calls queued now, not counting calls that other threads have just posted.
    pub waiting_calls: usize,
    /// Open connections: connected TCP and Unix sockets.
    pub connections: usize,
    /// Connections opened since the reactor was made.
    pub connections_opened: u64,
    /// Bytes received on all sources.
    pub received: u64,
    /// Bytes sent on all sources.
    pub sent: u64,
    /// Metrics of the windows' frames, if the host has a [frame clock](crate::reactor::FrameClock).
    pub frames: FrameMetrics,
    pub(crate) shares: Vec<Share>,
}

impl Metrics {
    /// How often work of this kind ran, and for how long.
    pub fn share(&self, label: Label) -> Share {
        self.shares.get(label.index()).copied().unwrap_or_default()
    }
}

/// How often callbacks of one kind ran, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Share {
    /// How often they ran.
    pub count: u64,
    /// Their total time.
    pub time: Duration,
}

/// Callbacks that held the thread for too long; see [`Handle::stalls`](crate::Handle::stalls).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stalls {
    /// Total number of stalls.
    pub count: u64,
    /// The last 32 stalls, the latest at the end.
    pub recent: VecDeque<Stall>,
    /// Stalls by origin. The list is bounded by the number of places in the program that register
    /// work.
    pub places: Vec<StallPlace>,
}

/// A callback that held the thread for too long.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Stall {
    /// The callback.
    pub origin: Origin,
    /// How long it took, not counting the time that the thread waited for a processor. The time for
    /// which a hypervisor took the processor away (steal in proc_stat(5)) counts.
    pub duration: Duration,
    /// When the callback ended.
    pub at: SystemTime,
}

/// The stalls of one origin.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StallPlace {
    /// The origin.
    pub origin: Origin,
    /// Number of stalls.
    pub count: u64,
    /// The longest stall.
    pub longest: Duration,
}

/// The current work of a reactor; see [`Handle::census`](crate::Handle::census).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Census {
    /// Live tasks: where they were spawned, and how many at each place.
    pub tasks: Vec<(Origin, usize)>,
    /// Pending timers: where they were scheduled, how many at each place, and when the first one is
    /// due.
    pub timers: Vec<(Origin, usize, Instant)>,
    /// Timers that wake a task: tasks that sleep or have a timeout.
    pub sleeping: usize,
    /// Open connections.
    pub connections: Vec<ConnectionInfo>,
}

/// An open connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The peer's address.
    pub peer: Address,
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
    /// When it was opened, accurate to one turn.
    pub since: Instant,
}

/// Metrics of the frames of all windows.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct FrameMetrics {
    /// Frames drawn.
    pub drawn: u64,
    /// The time from the start of a frame to the start of the next, during continuous drawing.
    pub gaps: Histogram,
    /// Missed frames: the number of frames that would have fitted into gaps of at least one and a
    /// half intervals.
    pub lost: u64,
    /// The processor time that a frame currently costs, for the most expensive window.
    pub cost: Duration,
}
