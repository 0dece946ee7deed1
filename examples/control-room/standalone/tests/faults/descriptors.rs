//! Out of file descriptors.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::app::{App, Client, LIMIT, Outcome};

#[test]
fn out_of_file_descriptors_it_neither_spins_nor_dies_nor_leaves_anybody_hanging() {
    let mut app = App::limited_to(64);
    let mut clients: Vec<Client> = (0..150).map(|_| app.connect()).collect();
    for client in &mut clients {
        client.ask();
    }
    let outcomes: Vec<_> = clients.iter_mut().map(Client::outcome).collect();
    let count = |outcome| outcomes.iter().filter(|other| **other == outcome).count();
    assert_eq!(count(Outcome::Hangs), 0);
    assert!(
        count(Outcome::Answered) > 40,
        "{} of 150 answered",
        count(Outcome::Answered)
    );
    assert!(
        count(Outcome::Ended) >= 150 - 64,
        "{} of 150 turned away",
        count(Outcome::Ended)
    );

    // No client leaves, and no more can be accepted: the app must not be busy.
    let before = app.processor_time();
    thread::sleep(Duration::from_secs(1));
    let spent = app.processor_time() - before;
    assert!(spent <= Duration::from_millis(50), "{spent:?} of a second");
    // Existing clients are still served, and a new one is turned away at once.
    let place = outcomes
        .iter()
        .position(|outcome| *outcome == Outcome::Answered)
        .expect("one");
    assert_eq!(clients[place].hello(), Outcome::Answered);
    assert_eq!(app.connect().hello(), Outcome::Ended);

    drop(clients);
    let start = Instant::now();
    while app.connect().hello() != Outcome::Answered {
        assert!(start.elapsed() < LIMIT, "it never recovers");
    }
    let recovery = start.elapsed();
    assert!(
        recovery < Duration::from_secs(1),
        "it recovers after {recovery:?}"
    );
    println!(
        "{} answered, {} turned away, {spent:?} of processor time \
         in the second after, recovered after {recovery:?}",
        count(Outcome::Answered),
        count(Outcome::Ended)
    );
    assert!(app.is_alive());
}

/// Not even the spare descriptor helps if other processes take every descriptor.
#[test]
fn when_no_peer_can_be_turned_away_accepting_rests_and_goes_on_by_itself() {
    // Each try takes two calls: to accept, and to turn away.
    for error in ["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"] {
        let mut app = App::injected(&format!("accept4:error={error}:when=1..8"));
        let start = Instant::now();
        assert_eq!(app.connect().hello(), Outcome::Answered, "{error}");
        let took = start.elapsed();
        assert!(
            took > Duration::from_millis(300),
            "it did not rest: {error}, {took:?}"
        );
        assert!(took < Duration::from_secs(2), "{error}: {took:?}");
        app.serves();
        let trace = app.trace();
        assert_eq!(trace.matches("(INJECTED)").count(), 8, "{trace}");
    }
}
