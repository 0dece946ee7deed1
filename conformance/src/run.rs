//! Runs a test: with a time limit, and alone in the process if it needs that.

use std::{
    env, fs,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process,
    sync::{PoisonError, RwLock, mpsc},
    thread,
    time::Duration,
};

use super::{
    Harness,
    list::{self, Demand, Test},
    table::{Outcome, table},
};

/// A test that takes longer than this fails.
const LIMIT: Duration = Duration::from_secs(60);

/// Tests that measure time or change the process hold this lock alone.
static ROOM: RwLock<()> = RwLock::new(());

/// The name of the environment variable that holds the directory for results, which
/// [`table`](super::table_of) reads.
pub(super) const RESULTS: &str = "ENTWINED_CONFORMANCE";

/// Runs one test of the suite on a thread of its own. [`conformance!`](crate::conformance) makes a
/// `#[test]` of each.
///
/// # Panics
/// Panics if the test fails, or has not ended after a minute. In the second case its thread keeps
/// running.
pub fn check<H: Harness>(name: &str) {
    let test = list::find::<H>(name);
    if let Some(reason) = excuse::<H>(&test) {
        println!("{name}: cannot be shown on {}: {reason}", H::NAME);
        in_room(Demand::Shared, || {
            record(H::NAME, name, &Outcome::CannotShow(reason.to_owned()))
        });
        return;
    }
    // Record the result under the same lock: otherwise another test may have lowered the limit on
    // file descriptors.
    let outcome = in_room(test.demand, || {
        let outcome = on_a_thread(&test);
        record(H::NAME, name, &Outcome::of(&outcome));
        outcome
    });
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// Runs the whole suite in order on this thread, for hosts that are bound to one thread. Prints a
/// line for each test, and the table. Returns true if nothing failed.
///
/// The program's arguments filter tests by parts of their names, as with `cargo test`. A test that
/// hangs ends the process, because nothing else can stop it here.
pub fn run_all<H: Harness>() -> bool {
    let wanted: Vec<_> = env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let mut passed = true;
    let mut results = Vec::new();
    for test in list::tests::<H>() {
        if !wanted.is_empty() && !wanted.iter().any(|part| test.name.contains(part)) {
            continue;
        }
        let outcome = match excuse::<H>(&test) {
            Some(reason) => Outcome::CannotShow(reason.to_owned()),
            None => Outcome::of(&here(&test)),
        };
        println!("test {} ... {outcome}", test.name);
        passed &= !matches!(outcome, Outcome::Failed(_));
        record(H::NAME, test.name, &outcome);
        results.push((test.name, outcome));
    }
    println!(
        "\n{}",
        table(&[(
            H::NAME.to_owned(),
            results
                .into_iter()
                .map(|(name, o)| (name.to_owned(), o))
                .collect()
        )])
    );
    passed
}

type Ran = thread::Result<()>;

fn in_room<R>(demand: Demand, run: impl FnOnce() -> R) -> R {
    match demand {
        Demand::Shared => {
            let _room = ROOM.read().unwrap_or_else(PoisonError::into_inner);
            run()
        }
        Demand::Alone => {
            let _room = ROOM.write().unwrap_or_else(PoisonError::into_inner);
            run()
        }
    }
}

fn on_a_thread(test: &Test) -> Ran {
    let (done, ended) = mpsc::channel::<()>();
    let function = test.function;
    let run = move || {
        // Dropped when the test ends, also by a panic.
        let _done = done;
        function();
    };
    let thread = thread::Builder::new()
        .name(test.name.to_owned())
        .spawn(run)
        .expect("a thread");
    match ended.recv_timeout(LIMIT) {
        Err(mpsc::RecvTimeoutError::Timeout) => Err(Box::new(too_long(test.name))),
        _ => thread.join(),
    }
}

fn here(test: &Test) -> Ran {
    let (done, ended) = mpsc::channel::<()>();
    let name = test.name;
    let watchdog = thread::spawn(move || {
        if let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(LIMIT) {
            eprintln!("test {name} ... FAILED: {}", too_long(name));
            process::exit(1);
        }
    });
    let result = catch_unwind(AssertUnwindSafe(test.function));
    drop(done);
    watchdog.join().expect("the watchdog");
    result
}

fn too_long(name: &str) -> String {
    format!("{name} did not end within {} s", LIMIT.as_secs())
}

/// Why the host, or the transport under test, cannot pass the test.
fn excuse<H: Harness>(test: &Test) -> Option<&'static str> {
    let excuses = H::cannot_show();
    for (excused, _) in excuses {
        // An excuse for a test that no longer exists would be misleading.
        list::find::<H>(excused);
    }
    test.lacks.or_else(|| {
        excuses
            .iter()
            .find(|excuse| excuse.0 == test.name)
            .map(|excuse| excuse.1)
    })
}

/// Writes the result for the table, if the environment variable is set.
fn record(backend: &str, name: &str, outcome: &Outcome) {
    let Some(directory) = env::var_os(RESULTS) else {
        return;
    };
    let path = std::path::Path::new(&directory).join(format!("{backend}.tsv"));
    let file = fs::OpenOptions::new().create(true).append(true).open(&path);
    let line = format!("{name}\t{outcome}\n");
    // A single write, because several tests append at the same time.
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        panic!("cannot write to {}: {error}", path.display());
    }
}
