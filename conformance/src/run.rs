//! Runs a test: with a time limit, and alone in the process if it needs that.

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    process::{self, Command},
    sync::{PoisonError, RwLock, mpsc},
    thread,
    time::Duration,
};

use super::{
    Harness,
    backend::{Backend, backend},
    list::{self, Demand, Test},
    sys,
    table::{Outcome, table},
};

/// Tests that measure time or change the process hold this lock alone.
static ROOM: RwLock<()> = RwLock::new(());

/// The name of the environment variable that holds the directory for results, which
/// [`table`](super::table_of) reads.
pub(super) const RESULTS: &str = "ENTWINED_CONFORMANCE";

/// Runs one test of the suite on a thread of its own. [`conformance!`](crate::conformance) makes a
/// `#[test]` of each.
///
/// # Panics
/// Panics if the test fails, or has not ended after a minute (the environment variable
/// `ENTWINED_CONFORMANCE_LIMIT` may name another number of seconds). In the second case its thread
/// keeps running.
pub fn check<H: Harness>(name: &str) {
    check_on(Backend::of::<H>(), name);
}

fn check_on(backend: Backend, name: &str) {
    let test = list::find(name);
    if let Some(reason) = excuse(backend, &test) {
        println!("{name}: cannot be shown on {}: {reason}", backend.name);
        in_room(Demand::Shared, || {
            record(backend, name, &Outcome::CannotShow(reason.to_owned()))
        });
        return;
    }
    // Record the result under the same lock: otherwise another test may have lowered the limit on
    // file descriptors.
    let outcome = in_room(test.demand, || {
        let outcome = on_a_thread(backend, &test, || ());
        record(backend, name, &Outcome::of(&outcome));
        outcome
    });
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// Runs one test like [`check`], but records nothing for the table and returns why it failed. For
/// tests of a harness: that a mistake in the backend is found. `prepare` is called on the test's
/// thread before it.
///
/// # Errors
/// What the panic said that failed the test.
pub fn verdict<H: Harness>(
    name: &str,
    prepare: impl FnOnce() + Send + 'static,
) -> Result<(), String> {
    let test = list::find(name);
    let ran = in_room(test.demand, || {
        on_a_thread(Backend::of::<H>(), &test, prepare)
    });
    match Outcome::of(&ran) {
        Outcome::Failed(message) => Err(message),
        _ => Ok(()),
    }
}

/// Runs the whole suite in order, each test on the main thread, for hosts that are bound to it.
/// Prints a line for each test, and the table. Returns true if nothing failed.
///
/// The program's arguments filter tests by parts of their names, as with `cargo test`.
///
/// The tests run in a second process: the same program with the same arguments, so everything that
/// `main` does before this call is done there too. It exits inside this call. If it ends in the
/// middle of a test, because the test hangs or something aborts, that test has failed, and another
/// process continues with the rest. So the table is always printed.
pub fn run_all<H: Harness>() -> bool {
    let backend = Backend::of::<H>();
    match env::var(CHILD) {
        Err(_) => supervise(backend),
        Ok(child) => match child.split_once('=') {
            Some((name, path)) if name == backend.name => {
                backend.enter();
                run_here(Path::new(path));
                process::exit(0);
            }
            // Another call in the same `main`.
            _ => true,
        },
    }
}

/// The name of the environment variable that tells a process to run the tests of one backend, and
/// the file for the results.
const CHILD: &str = "ENTWINED_CONFORMANCE_CHILD";

/// So many processes may end in the middle of a test. After that the host is beyond help.
const PROCESSES: usize = 8;

/// Has the tests run in other processes, and returns whether nothing failed.
fn supervise(backend: Backend) -> bool {
    let name = backend.name;
    let file = format!("entwined-conformance-{name}-{}.tsv", process::id());
    let path = env::temp_dir().join(file.replace('/', "-"));
    // Others can guess the name, so nothing may be there yet, not even a link.
    if let Err(error) = fs::File::create_new(&path) {
        panic!("cannot create {}: {error}", path.display());
    }
    let mut complete = false;
    for _ in 0..PROCESSES {
        let before = lines(&path).len();
        let status = Command::new(env::current_exe().expect("the program's path"))
            .args(env::args_os().skip(1))
            .env(CHILD, format!("{name}={}", path.display()))
            .status()
            .expect("the program starts again");
        // A host may also end the process without an error, in the middle of a test.
        complete = status.success() && lines(&path).last().is_some_and(|line| line.1 == DONE);
        // Without any test, it would end in the same way again.
        if complete || lines(&path).len() == before {
            break;
        }
        if let Some(test) = unfinished(&path) {
            let why = format!("the process ended in the middle of it: {status}");
            finished(backend, &path, &test, &Outcome::Failed(why));
        }
    }
    if !complete {
        println!("not all tests were run, because the process ended too often");
    }
    let results = results(&path);
    fs::remove_file(&path).expect("the file for the results");
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
    let passed = complete && !results.values().any(failed);
    println!("\n{}", table(&[(name.to_owned(), results)]));
    passed
}

/// Runs the tests that have no result in the file yet.
fn run_here(path: &Path) {
    let backend = backend();
    let wanted: Vec<_> = env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let done = results(path);
    for test in list::tests() {
        let unwanted = !wanted.is_empty() && !wanted.iter().any(|part| test.name.contains(part));
        if unwanted || done.contains_key(test.name) {
            continue;
        }
        let outcome = match excuse(backend, &test) {
            Some(reason) => Outcome::CannotShow(reason.to_owned()),
            None => {
                append(path, test.name, BEGUN);
                Outcome::of(&here(&test, path))
            }
        };
        finished(backend, path, test.name, &outcome);
    }
    append(path, "all", DONE);
}

/// What the file for the results has in the place of an outcome while a test runs.
const BEGUN: &str = "begun";

/// What it has there at its end.
const DONE: &str = "done";

/// Prints and records the outcome of a test.
fn finished(backend: Backend, path: &Path, name: &str, outcome: &Outcome) {
    println!("test {name} ... {outcome}");
    append(path, name, &outcome.to_string());
    record(backend, name, outcome);
}

/// The lines of the file for the results.
fn lines(path: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, outcome)| (name.to_owned(), outcome.to_owned()))
        .collect()
}

fn results(path: &Path) -> BTreeMap<String, Outcome> {
    lines(path)
        .into_iter()
        .filter(|line| line.1 != BEGUN && line.1 != DONE)
        .map(|(name, outcome)| (name, Outcome::parse(&outcome)))
        .collect()
}

/// The test that has begun and not ended.
fn unfinished(path: &Path) -> Option<String> {
    let last = lines(path).pop()?;
    (last.1 == BEGUN).then_some(last.0)
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

fn on_a_thread(backend: Backend, test: &Test, prepare: impl FnOnce() + Send + 'static) -> Ran {
    let (done, ended) = mpsc::channel::<()>();
    let function = test.function;
    let run = move || {
        // Dropped when the test ends, also by a panic.
        let _done = done;
        backend.enter();
        prepare();
        function();
    };
    let thread = thread::Builder::new()
        .name(test.name.to_owned())
        .spawn(run)
        .expect("a thread");
    match ended.recv_timeout(limit()) {
        Err(mpsc::RecvTimeoutError::Timeout) => Err(Box::new(too_long(test.name))),
        _ => thread.join(),
    }
}

/// Runs a test on this thread. Only the end of the process can stop it there.
fn here(test: &Test, path: &Path) -> Ran {
    let backend = backend();
    let (done, ended) = mpsc::channel::<()>();
    let (name, path) = (test.name, path.to_owned());
    let watchdog = thread::spawn(move || {
        if let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(limit()) {
            finished(backend, &path, name, &Outcome::Failed(too_long(name)));
            process::exit(1);
        }
    });
    let result = catch_unwind(AssertUnwindSafe(test.function));
    drop(done);
    watchdog.join().expect("the watchdog");
    result
}

/// A test that takes longer than this fails.
fn limit() -> Duration {
    let seconds = env::var(LIMIT).map(|text| text.parse().expect("a number of seconds"));
    Duration::from_secs(seconds.unwrap_or(60))
}

/// The name of the environment variable for another limit, in seconds.
const LIMIT: &str = "ENTWINED_CONFORMANCE_LIMIT";

fn too_long(name: &str) -> String {
    format!("{name} did not end within {} s", limit().as_secs())
}

/// Why the host, the transport under test or the system cannot pass the test.
fn excuse(backend: Backend, test: &Test) -> Option<&'static str> {
    let excuses = (backend.cannot_show)();
    for (excused, _) in excuses {
        // An excuse for a test that no longer exists would be misleading.
        list::find(excused);
    }
    test.lacks.or(sys::excuse(test.name)).or_else(|| {
        excuses
            .iter()
            .find(|excuse| excuse.0 == test.name)
            .map(|excuse| excuse.1)
    })
}

/// Writes the result for the table, if the environment variable is set.
fn record(backend: Backend, name: &str, outcome: &Outcome) {
    let Some(directory) = env::var_os(RESULTS) else {
        return;
    };
    let path = Path::new(&directory).join(format!("{}.tsv", backend.name));
    append(&path, name, &outcome.to_string());
}

fn append(path: &Path, name: &str, outcome: &str) {
    let file = fs::OpenOptions::new().create(true).append(true).open(path);
    let line = format!("{name}\t{outcome}\n");
    // A single write, because several tests append at the same time.
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        panic!("cannot write to {}: {error}", path.display());
    }
}
