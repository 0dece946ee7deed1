//! One sample for the page, as JSON. It covers the time since the previous sample.

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::labels;
use entwined::reactor::{Census, Handle, Histogram, Label, Metrics, Origin, Stall, StallPlace};

/// The most rows in each list.
const ROWS: usize = 100;

/// How many of the latest stalls are listed.
const RECENT: usize = 8;

/// Every fourth sample contains the census of connections, tasks and timers.
const CENSUS: u32 = 4;

pub(super) struct Sampler {
    last: Metrics,
    at: Instant,
    number: u32,
}

impl Sampler {
    pub(super) fn new(handle: &Handle) -> Self {
        Sampler {
            last: handle.metrics(),
            at: Instant::now(),
            number: 0,
        }
    }

    pub(super) fn next(&mut self, handle: &Handle) -> Value {
        let (now, metrics) = (Instant::now(), handle.metrics());
        let passed = now.duration_since(self.at).as_secs_f64().max(1e-3);
        let last = std::mem::replace(&mut self.last, metrics.clone());
        self.at = now;
        let handled = |metrics: &Metrics| metrics.share(labels().handler).count;
        let rate = |now: u64, before: u64| round((now - before) as f64 / passed);
        // In the order of the labels, so that each keeps its place as more are made.
        let busy = Label::all().into_iter().map(|label| {
            let (now, before) = (metrics.share(label).time, last.share(label).time);
            let time = now.saturating_sub(before);
            json!([label.name(), round(100.0 * time.as_secs_f64() / passed)])
        });
        let mut stalls = handle.stalls();
        stalls
            .places
            .sort_by_key(|place| std::cmp::Reverse(place.longest));
        let frames = &metrics.frames;
        let mut sample = json!({
            "time": milliseconds_of(SystemTime::now()),
            "passed": passed,
            "busy": busy.collect::<Vec<_>>(),
            "turns": spread(&metrics.turn_times, &last.turn_times, passed),
            "callbacks": rate(metrics.callbacks, last.callbacks),
            "requests": rate(handled(&metrics), handled(&last)),
            "frames": {
                "drawn": frames.drawn,
                "rate": rate(frames.drawn, last.frames.drawn),
                "gaps": spread(&frames.gaps, &last.frames.gaps, passed),
                "lost": frames.lost,
                "cost": milliseconds(frames.cost),
            },
            "timers": {
                "pending": metrics.timers,
                "late": spread(&metrics.timer_lateness, &last.timer_lateness, passed),
            },
            "queue": { "tasks": metrics.ready_tasks, "calls": metrics.waiting_calls },
            "tasks": metrics.tasks,
            "connections": metrics.connections,
            "opened": rate(metrics.connections_opened, last.connections_opened),
            "received": rate(metrics.received, last.received),
            "sent": rate(metrics.sent, last.sent),
            "waited": round(
                100.0 * metrics.waited.saturating_sub(last.waited).as_secs_f64() / passed
            ),
            "stalls": {
                "count": stalls.count,
                "recent": stalls.recent.iter().rev().take(RECENT).map(stall).collect::<Vec<_>>(),
                "places": stalls.places.iter().take(ROWS).map(stall_place).collect::<Vec<_>>(),
            },
            "longest": metrics.longest_callback.map(|(duration, origin)| {
                json!([place(&origin), milliseconds(duration)])
            }),
        });
        if self.number % CENSUS == 0 {
            sample["census"] = census(handle.census(), handle.now());
        }
        self.number = self.number.wrapping_add(1);
        sample
    }
}

fn census(mut census: Census, now: Instant) -> Value {
    census
        .tasks
        .sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    census.timers.sort_by_key(|(_, _, at)| *at);
    let all = census.connections.len();
    // Lists the busiest first. Only those that are shown are sorted.
    let traffic =
        |connection: &entwined::reactor::ConnectionInfo| connection.received + connection.sent;
    if all > ROWS {
        census
            .connections
            .select_nth_unstable_by_key(ROWS, |one| std::cmp::Reverse(traffic(one)));
        census.connections.truncate(ROWS);
    }
    census
        .connections
        .sort_by_key(|one| std::cmp::Reverse(traffic(one)));
    let connections = census.connections.iter().map(|one| {
        let age = now.saturating_duration_since(one.since).as_secs();
        json!([one.peer.to_string(), one.received, one.sent, age])
    });
    let tasks = census
        .tasks
        .iter()
        .take(ROWS)
        .map(|(origin, count)| json!([place(origin), count]));
    let timers = census.timers.iter().take(ROWS).map(|(origin, count, at)| {
        json!([
            place(origin),
            count,
            milliseconds(at.saturating_duration_since(now))
        ])
    });
    json!({
        "connections": connections.collect::<Vec<_>>(),
        "tasks": tasks.collect::<Vec<_>>(),
        "timers": timers.collect::<Vec<_>>(),
        "sleeping": census.sleeping,
    })
}

/// Summarizes what was added since the previous sample: the rate per second, and the median, the
/// 99th percentile and the maximum in milliseconds.
fn spread(all: &Histogram, before: &Histogram, passed: f64) -> Value {
    let since = all.since(before);
    let at = |share| milliseconds(since.quantile(share));
    json!([
        round(since.count() as f64 / passed),
        at(0.5),
        at(0.99),
        milliseconds(since.longest())
    ])
}

fn stall_place(place_of: &StallPlace) -> Value {
    json!([
        place(&place_of.origin),
        place_of.count,
        milliseconds(place_of.longest)
    ])
}

fn stall(stall: &Stall) -> Value {
    json!([
        place(&stall.origin),
        milliseconds(stall.duration),
        milliseconds_of(stall.at)
    ])
}

fn place(origin: &Origin) -> Value {
    json!([
        origin.label.name(),
        format!("{}:{}", origin.location.file(), origin.location.line())
    ])
}

fn milliseconds(duration: Duration) -> f64 {
    round(duration.as_secs_f64() * 1e3)
}

fn milliseconds_of(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
