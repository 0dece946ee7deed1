//! Ctrl-C in a Windows console.

use std::{cell::Cell, rc::Rc, thread, time::Duration};

use entwined::{
    Standalone,
    signal::{self, Signal, Signals},
};

/// Says on standard output where it is, for the program that presses Ctrl-C.
#[test]
#[ignore = "somebody has to press Ctrl-C twice: `cargo xtask cross` does"]
fn ctrl_c_stops_the_run_and_has_its_default_effect_afterwards() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    signal::stop_on(&handle, [Signal::INT])
        .expect("nobody else handles it")
        .keep();
    let other = Signals::new(&handle, Signal::INT).expect("several may watch it");
    let told = Rc::new(Cell::new(false));
    let tell = told.clone();
    handle.spawn(async move {
        other.next().await.expect("it cannot fail");
        tell.set(true);
    });
    println!("waiting for Ctrl-C");
    reactor.run().expect("a run that Ctrl-C ends");
    assert!(told.get(), "only one was told");
    println!("waiting for another one");
    thread::sleep(Duration::from_secs(20));
    panic!("nothing ends the program");
}
