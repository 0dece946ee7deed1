//! What it takes from the machine: one thread, and nothing while nothing happens.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::app::{App, Client, LIMIT, Outcome};

#[test]
fn while_nothing_happens_it_makes_no_system_call() {
    let app = App::traced(["--trace=all"]);
    // A peer that is there, and silent, is no reason to wake up either.
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

/// Whether the last thing it did was to look for events: to wait for them, if it is asleep then.
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
