//! System calls that fail, and peers that disconnect.

use std::{io::Write, process::Command};

use crate::app::{App, Client, Outcome};

/// Runs several clients with several requests each.
fn outcomes(app: &App) -> Vec<Outcome> {
    let mut clients: Vec<Client> = (0..10).map(|_| app.connect()).collect();
    let mut outcomes = Vec::new();
    for _ in 0..5 {
        outcomes.extend(clients.iter_mut().map(Client::hello));
    }
    outcomes
}

#[track_caller]
fn all_are_answered(app: &mut App, what: &str) {
    let outcomes = outcomes(app);
    assert!(
        outcomes.iter().all(|outcome| *outcome == Outcome::Answered),
        "{what}: {outcomes:?}"
    );
    app.serves();
    let trace = app.trace();
    assert!(
        trace.contains("(INJECTED)"),
        "{what}: nothing failed, so nothing is proved: {trace}"
    );
}

#[test]
fn connections_that_are_lost_before_they_are_accepted_harm_nobody() {
    for error in [
        "ECONNABORTED",
        "EPROTO",
        "ENETDOWN",
        "EHOSTUNREACH",
        "EPERM",
        "EINTR",
    ] {
        let injection = format!("accept4:error={error}:when=1+2");
        all_are_answered(&mut App::injected(&injection), &injection);
    }
}

#[test]
fn interrupted_system_calls_are_made_again() {
    for call in ["/^epoll_p?wait$", "recvfrom", "sendto", "sendmsg"] {
        let injection = format!("{call}:error=EINTR:when=1+2");
        let mut app = App::injected(&injection);
        // The page is sent with a different call than a short answer.
        let mut client = app.connect();
        client
            .stream
            .write_all(
                b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n\
                  GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n",
            )
            .unwrap();
        let mut all = Vec::new();
        while !all.ends_with(b"hello, world") {
            let mut buffer = [0; 4096];
            let count = std::io::Read::read(&mut client.stream, &mut buffer).expect("an answer");
            assert!(count > 0, "{call}: the connection ended");
            all.extend_from_slice(&buffer[..count]);
        }
        all_are_answered(&mut app, &injection);
    }
}

#[test]
fn a_connection_that_breaks_harms_no_other() {
    for injection in [
        "recvfrom:error=ECONNRESET:when=7",
        "recvfrom:error=ETIMEDOUT:when=7",
        "recvfrom:error=EIO:when=7",
        "sendto:error=EPIPE:when=7",
        "sendto:error=ECONNRESET:when=7",
        "sendto:error=ENOBUFS:when=7",
    ] {
        let mut app = App::injected(injection);
        let outcomes = outcomes(&app);
        // The client whose connection broke is refused for the rest of its requests.
        let ended = outcomes
            .iter()
            .filter(|outcome| **outcome == Outcome::Ended)
            .count();
        assert!((1..=5).contains(&ended), "{injection}: {outcomes:?}");
        assert!(
            !outcomes.contains(&Outcome::Hangs),
            "{injection}: {outcomes:?}"
        );
        app.serves();
        assert_eq!(app.trace().matches("(INJECTED)").count(), 1, "{injection}");
    }
}

#[test]
fn a_descriptor_that_cannot_be_watched_costs_one_connection() {
    // The waker, the timer and the listener are registered before.
    let mut app = App::injected("epoll_ctl:error=ENOSPC:when=6");
    let outcomes = outcomes(&app);
    assert!(outcomes.contains(&Outcome::Answered), "{outcomes:?}");
    assert!(!outcomes.contains(&Outcome::Hangs), "{outcomes:?}");
    app.serves();
}

#[test]
fn peers_that_go_away_without_reading_end_nothing_but_themselves() {
    let mut app = App::start();
    let mut bystander = app.connect();
    let requests = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
    for _ in 0..100 {
        // If there are unread bytes in its buffer, the kernel sends a reset when the socket closes.
        let mut client = app.connect();
        client
            .stream
            .write_all(requests.as_bytes())
            .expect("the kernel takes it");
        drop(client);
    }
    assert_eq!(bystander.hello(), Outcome::Answered);
    app.serves();
}

#[test]
fn a_broken_pipe_signal_ends_nothing() {
    let mut app = App::start();
    for _ in 0..3 {
        let sent = Command::new("kill")
            .args(["-PIPE", &app.id().to_string()])
            .status()
            .expect("kill");
        assert!(sent.success());
        app.serves();
    }
}
