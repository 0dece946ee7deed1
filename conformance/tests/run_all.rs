//! A host whose loop ends the program, as Cocoa's does, has not passed what was not run.

use std::{
    env,
    process::{self, Command},
    time::Duration,
};

use entwined::{
    Handle,
    reactor::{LifeError, WaitError},
};
use entwined_conformance::{End, Harness, run_all};

/// Every test ends the program, and without an error.
#[derive(Clone)]
struct Quits;

impl Harness for Quits {
    const NAME: &'static str = "quits";

    fn new() -> Self {
        process::exit(0);
    }

    fn another(&self) -> Self {
        unreachable!()
    }

    fn handle(&self) -> Handle {
        unreachable!()
    }

    fn attach(&self) -> Result<(), LifeError> {
        unreachable!()
    }

    fn detach(&self) {
        unreachable!()
    }

    fn iterate(&self, _: Option<Duration>) {
        unreachable!()
    }

    fn host_call(&self, _: Duration, _: Box<dyn FnOnce()>) {
        unreachable!()
    }

    fn nest(&self, _: End) -> Result<(), WaitError> {
        unreachable!()
    }
}

/// Tells the process that runs the suite from the one that judges it.
const SUITE: &str = "ENTWINED_TEST_SUITE";

fn main() {
    if env::var_os(SUITE).is_some() {
        process::exit(i32::from(run_all::<Quits>()));
    }
    let output = Command::new(env::current_exe().expect("a path"))
        // A few tests.
        .arg("timer")
        .env(SUITE, "1")
        .output()
        .expect("it starts again");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "it has passed: {said}");
    assert!(said.contains("ended in the middle of it"), "{said}");
}
