//! What every backend must show.

use std::ops::RangeInclusive;

/// The transports of the stream tests. The names of those tests end with them.
pub(super) const CARRIERS: &[&str] = &[
    "tcp",
    "unix",
    #[cfg(feature = "tls")]
    "tls",
    "pipes",
    "memory",
];

/// The behaviours that are tested over each transport.
pub(super) const STREAMS: RangeInclusive<u8> = 33..=48;

/// The transport that a test is about.
pub(super) fn carrier_of(name: &str) -> Option<&'static str> {
    let carrier = name.rsplit_once("_over_")?.1;
    CARRIERS.iter().copied().find(|known| *known == carrier)
}

/// The number of the behaviour that a test checks: its name begins with it.
pub(super) fn number(name: &str) -> u8 {
    name.get(1..3)
        .and_then(|number| number.parse().ok())
        .expect("a name like b07_what_breaks")
}

/// What every backend must show.
pub(super) const BEHAVIOURS: &[(u8, &str)] = &[
    (
        1,
        "stop before run is refused with an error; so are run while running and a second stop.",
    ),
    (
        2,
        "A reactor that has stopped can be run again; several reactors live in one process, one \
         after or beside another.",
    ),
    (
        3,
        "Calls scheduled before run happen in order once it runs; nothing user-given runs before.",
    ),
    (
        4,
        "stop from a timer, a posted call, a connection callback, a failed-connect callback, a \
         task: each ends the run.",
    ),
    (
        5,
        "Shutdown has phases (before, during, after); \"before\" may wait on a Deferred; all are \
         awaited; a failing one is reported and the rest still run; each runs once; one can be \
         removed from inside another.",
    ),
    (
        6,
        "At the end of a run every open connection has heard connection_lost once, and no user \
         code runs afterwards.",
    ),
    (
        7,
        "A failing connection_lost does not keep the others from theirs.",
    ),
    (
        8,
        "One turn by hand with no wait returns at once; with a wait it returns when something \
         happened.",
    ),
    (
        9,
        "Attach to a loop that already runs; detach from it; attach again. The host's run and \
         quit stay the host's.",
    ),
    (
        10,
        "Signals (SIGINT, SIGTERM) stop a standalone run in order; SIGCHLD reaps; an embedded one \
         leaves them to the host unless asked.",
    ),
    (
        11,
        "Never early; late by less than 1 ms on an idle loop, on every backend (aim at 100 us).",
    ),
    (12, "Due at the same instant: in the order scheduled."),
    (
        13,
        "cancel prevents the call; a second cancel, a cancel inside or after its own call: told \
         apart by a result, harmless.",
    ),
    (
        14,
        "reset to later and to EARLIER works from a timer, from a connection callback, from a \
         host (GUI) callback.",
    ),
    (
        15,
        "A timer set from a host callback fires on time though no I/O happens.",
    ),
    (
        16,
        "A delay of centuries is harmless; zero runs on the next turn, not in this one.",
    ),
    (
        17,
        "A timer that reschedules itself at zero starves nobody.",
    ),
    (
        18,
        "A suspended machine or a clock step does not fire timers in a storm; a LoopingCall skips \
         what it missed and can say how many.",
    ),
    (
        19,
        "No timers, no wake-ups: an idle reactor makes none in 10 s.",
    ),
    (
        20,
        "One million pending timers; cancel and reset stay logarithmic or better.",
    ),
    (
        21,
        "Runs on the loop's thread, in order per sender; from the loop's own thread it runs on \
         the next turn.",
    ),
    (
        22,
        "Wakes a loop that sleeps without timers; 100,000 posted in a burst from 8 threads all \
         run, once.",
    ),
    (
        23,
        "A call that posts itself again does not starve timers or I/O.",
    ),
    (
        24,
        "Posting to a reactor that is gone gives the closure back; closures never run are dropped \
         on the loop's thread.",
    ),
    (
        25,
        "A blocking call from another thread gets the result, the error, or the Deferred's \
         outcome; refused on the loop's thread.",
    ),
    (
        26,
        "The thread pool grows to its limit, shrinks when idle, is shared by nobody's DNS, and \
         stopping does not wait for jobs that nobody awaits any more.",
    ),
    (
        27,
        "Readable and writable are delivered; both directions at once never lose a wake-up.",
    ),
    (
        28,
        "After deregistering nothing more comes, also when events for it were already taken in \
         this turn.",
    ),
    (
        29,
        "An fd number used again by a new object never gets the old one's events.",
    ),
    (
        30,
        "A closed or bad fd is an error to its owner and never stops the loop.",
    ),
    (
        31,
        "A source left with data after its share of the turn is served again without a new event \
         from the kernel.",
    ),
    (
        32,
        "One always-ready source does not starve another, a timer, a posted call or the host.",
    ),
    (
        33,
        "connection_made before data, data in order, connection_lost exactly once and last, with \
         why.",
    ),
    (
        34,
        "Writes after the end are no-ops; a write never blocks and never calls back into the \
         writer.",
    ),
    (
        35,
        "close flushes what was written; abort drops it and resets; abort twice, or abort then \
         close, is harmless.",
    ),
    (
        36,
        "A peer that closes while we are paused is noticed at resume, and its data is not lost.",
    ),
    (
        37,
        "pause in connection_made holds; pause and resume over and over lose and repeat nothing.",
    ),
    (
        38,
        "A full outbound buffer pauses the producer, draining resumes it; a protocol that writes \
         without regard is bounded: the transport tells it, and a limit ends it rather than the \
         memory.",
    ),
    (
        39,
        "Half-close: the peer hears end-of-input and can still send; without support for it, it \
         is a close.",
    ),
    (
        40,
        "connect: refused, unreachable, timed out, cancelled before and during: the future or \
         Deferred says which.",
    ),
    (41, "connect again from inside connection_lost works."),
    (42, "A factory that refuses a connection closes it cleanly."),
    (
        43,
        "EMFILE on accept: no spin, the peer is not left hanging, accepting goes on when fds are \
         free again.",
    ),
    (
        44,
        "Peer reset, broken pipe, a peer that vanishes: an error with its kind, never a signal, \
         never a panic.",
    ),
    (
        45,
        "A panic in a protocol callback ends that connection, is reported with its location, \
         and leaves the rest alone.",
    ),
    (
        46,
        "The last reference to a protocol goes when its connection ends; 10,000 connect-and-close \
         leave no fd, no timer, no memory behind.",
    ),
    (
        47,
        "Addresses, peer identity (address, Unix credentials, TLS certificate) and the \
         transport's own features can be asked for; asking for what a transport lacks is an \
         answer, not a panic.",
    ),
    (
        48,
        "Fds passed over a Unix socket arrive with their bytes; unclaimed ones are closed.",
    ),
    (
        49,
        "From each kind of callback (timer, posted call, data_received, connection_lost, accept, \
         task poll, HTTP handler): other connections, timers and calls go on inside the nested \
         loop.",
    ),
    (
        50,
        "The callback that is on the stack is not entered again; its connection's events wait and \
         come afterwards.",
    ),
    (51, "Each posted call runs once; none is lost."),
    (52, "stop inside the nested loop ends both."),
    (53, "The same three levels deep."),
    (
        54,
        "Work of one turn ends within its budget plus one callback, whatever is queued.",
    ),
    (
        55,
        "With 200,000 posted calls queued, or 64 busy connections, the host still draws 60 frames \
         a second.",
    ),
    (
        56,
        "With a host that is always busy, the network still gets turns.",
    ),
    (
        57,
        "A callback over the stall threshold is reported once with its name and time.",
    ),
    (
        58,
        "Work queued by a callback that then spins the host's own loop (a dialog, ended by \
         the host alone, with nothing spawned or posted meanwhile) is done inside that loop, \
         not after it.",
    ),
    (
        59,
        "Whoever waits in the host's loop for the end of a run is woken when it ends; after that \
         the loop sleeps.",
    ),
    (
        60,
        "No turn in vain: a wake-up, an expired timer, a readable socket each cost one slice, \
         on every host, and what a slice asks for and does itself costs none.",
    ),
    (
        61,
        "A host that drops a closure or refuses a wake-up (it is not up yet, it is ending) \
         delays the reactor, never stops it; the next chance is taken, and a log line says \
         so.",
    ),
    (
        62,
        "A reactor that goes while other threads wake its tasks and post to it drops every \
         future, call and connection on its own thread; nothing is leaked, each connection \
         has heard connection_lost.",
    ),
    (
        63,
        "What must end with a run ends: children with kill_on_drop (kept by the program, by a \
         task, by a service, as a group), temporary files, socket files. What must outlive it \
         does.",
    ),
    (
        64,
        "Dropping what waits (a task, a timeout, a handler whose client has gone) cancels \
         what it waited for: a Deferred, a queue's or lock's place, a call of another \
         program, a dialog's answer.",
    ),
    (
        65,
        "A part that panics while it starts, accepts, builds or stops is reported, counted as \
         failed, and leaves the others and the next run as if it had failed with an error.",
    ),
    (
        66,
        "Start while stopping and stop while starting: each is either done in order or \
         refused with an error; never lost.",
    ),
];

/// Behaviours without a test, each with the reason.
pub(super) const NOT_COVERED: &[(u8, &str)] = &[(
    61,
    "only a host that takes closures can refuse; the tests of Interleave show it",
)];

/// What the types forbid. The compile-fail doctests in the module's documentation show it.
pub(super) const BY_TYPES: &[(u8, &str)] = &[
    (21, "a handle cannot leave its thread"),
    (24, "what is posted can be dropped on the loop's thread"),
    (30, "what is watched cannot be closed meanwhile"),
    (
        46,
        "a protocol and its connection cannot borrow from each other",
    ),
];
