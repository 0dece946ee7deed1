//! What the app takes from the machine: one thread, and nothing while idle.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::app::{App, Client, LIMIT, Outcome};

#[test]
fn while_nothing_happens_it_makes_no_system_call() {
    let app = App::traced(["--trace=all"]);
    // A connected but silent peer must not cause wake-ups either.
    let client = app.connect();
    let start = Instant::now();
    while !app.trace().contains("accept4(") || !waits(&app.trace()) || !app.is_asleep() {
        assert!(start.elapsed() < LIMIT, "it never sleeps");
        thread::yield_now();
    }
    let before = app.trace();
    thread::sleep(Duration::from_secs(3));
    let after = app.trace();
    assert_eq!(&after[before.len()..], "", "it woke up");
    drop(client);
}

/// Returns whether its last call looks for events; if it is asleep then, it waits for them.
fn waits(trace: &str) -> bool {
    let last = trace.lines().last().unwrap_or("");
    (last.contains("epoll_wait(") || last.contains("epoll_pwait(")) && !last.contains(" = ")
}

#[test]
fn one_thread_serves_64_connections() {
    let app = App::start();
    let mut clients: Vec<Client> = (0..64).map(|_| app.connect()).collect();
    for _ in 0..20 {
        clients.iter_mut().for_each(Client::ask);
        assert_eq!(app.threads(), 1);
        for client in &mut clients {
            assert_eq!(client.outcome(), Outcome::Answered);
        }
        assert_eq!(app.threads(), 1);
    }
}
