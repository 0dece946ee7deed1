//! Metrics of the whole reactor.

use std::time::Instant;

use super::{Core, Timed};
use crate::reactor::observe::{Census, Metrics, Origin};

impl Core {
    pub(crate) fn metrics(&self) -> Metrics {
        let meter = &self.meter;
        Metrics {
            turns: self.turns.get(),
            turn_times: meter.turns.borrow().clone(),
            idle_slices: self.idle_slices.get(),
            callbacks: meter.callbacks(),
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
            shares: meter.shares(),
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
