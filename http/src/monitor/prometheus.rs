//! Writes the Prometheus text format, version 0.0.4. Names end in their unit, counters in `_total`.

use std::fmt::{Display, Write};

use entwined::reactor::{Histogram, Label, Metrics, Stalls};

pub(super) fn text(metrics: &Metrics, stalls: &Stalls) -> String {
    let mut text = Text::default();
    text.counter("turns_total", "Turns of the reactor.", metrics.turns);
    text.histogram(
        "turn_seconds",
        "Length of the turns that ran anything.",
        &metrics.turn_times,
    );
    text.family(
        "callbacks_total",
        "counter",
        "Callbacks, task polls and handlers run.",
    );
    for kind in Label::all() {
        text.line(
            "callbacks_total",
            &[("kind", kind.name())],
            metrics.share(kind).count,
        );
    }
    text.family(
        "callback_seconds_total",
        "counter",
        "Thread time that they took.",
    );
    for kind in Label::all() {
        text.line(
            "callback_seconds_total",
            &[("kind", kind.name())],
            metrics.share(kind).time.as_secs_f64(),
        );
    }
    let longest = metrics
        .longest_callback
        .map_or(0.0, |(duration, _)| duration.as_secs_f64());
    text.gauge(
        "callback_longest_seconds",
        "The longest callback so far.",
        longest,
    );
    text.family(
        "stalls_total",
        "counter",
        "Callbacks that held the thread for longer than the threshold, \
         by the line that registered them.",
    );
    for place in &stalls.places {
        let location = place.origin.location.to_string();
        text.line(
            "stalls_total",
            &[("kind", place.origin.label.name()), ("place", &location)],
            place.count,
        );
    }
    let waited = metrics.waited.as_secs_f64();
    text.family(
        "waited_seconds_total",
        "counter",
        "Time that the thread waited for a processor.",
    );
    text.line("waited_seconds_total", &[], waited);
    text.gauge("tasks", "Tasks that are alive.", metrics.tasks);
    text.gauge(
        "tasks_ready",
        "Tasks that are ready to be polled.",
        metrics.ready_tasks,
    );
    text.gauge(
        "calls_waiting",
        "Calls that are waiting to run.",
        metrics.waiting_calls,
    );
    text.gauge("sources", "File descriptors watched.", metrics.sources);
    text.gauge("timers", "Timers that are pending.", metrics.timers);
    text.histogram(
        "timer_lateness_seconds",
        "How late timers were.",
        &metrics.timer_lateness,
    );
    text.gauge(
        "connections",
        "Connections that are open.",
        metrics.connections,
    );
    text.counter(
        "connections_opened_total",
        "Connections that were opened.",
        metrics.connections_opened,
    );
    text.counter("received_bytes_total", "Bytes received.", metrics.received);
    text.counter("sent_bytes_total", "Bytes sent.", metrics.sent);
    let frames = &metrics.frames;
    text.counter("frames_total", "Frames drawn by the windows.", frames.drawn);
    text.counter(
        "frames_lost_total",
        "Frames that would have fitted into the gaps between others.",
        frames.lost,
    );
    text.histogram(
        "frame_gap_seconds",
        "Time from a frame to the next one, while frames come one after another.",
        &frames.gaps,
    );
    text.gauge(
        "frame_cost_seconds",
        "Processor time that a frame takes.",
        frames.cost.as_secs_f64(),
    );
    text.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(
            self.0,
            "# HELP entwined_{name} {help}\n# TYPE entwined_{name} {kind}"
        );
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "entwined_{name}");
        for (place, (label, value)) in labels.iter().enumerate() {
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(
                self.0,
                "{}{label}=\"{value}\"",
                if place == 0 { '{' } else { ',' }
            );
        }
        let _ = writeln!(
            self.0,
            "{} {value}",
            if labels.is_empty() { "" } else { "}" }
        );
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.line(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.line(name, &[], value);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, count) in histogram.buckets() {
            self.line(&bucket, &[("le", &bound.as_secs_f64().to_string())], count);
        }
        self.line(&bucket, &[("le", "+Inf")], histogram.count());
        self.line(&format!("{name}_sum"), &[], histogram.sum().as_secs_f64());
        self.line(&format!("{name}_count"), &[], histogram.count());
    }
}
