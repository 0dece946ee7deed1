//! The process that is attacked.

use std::{
    any::Any,
    cell::RefCell,
    future::Future,
    io::{BufRead, stdin},
    net::SocketAddr,
    pin::Pin,
    process::ExitCode,
    rc::Rc,
    thread,
};

use entwined::{Handle, Standalone};

use crate::{Row, SLOWER, Victim};

/// Starts a server; returns its address, and what keeps it.
pub type Server = fn(&Handle) -> (SocketAddr, Box<dyn Any>);

/// Talks to the server at this address; says how it went.
pub type Client = fn(Handle, SocketAddr) -> Pin<Box<dyn Future<Output = String>>>;

/// Runs the victim until its standard input ends. It answers each line there with a line that has
/// its longest callback in microseconds.
pub fn run(row: &Row, attacker: Option<&str>) -> ExitCode {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    // What seems to take longer is told apart from waiting for a processor: the attacker has two
    // threads, and the kernel lets one of them run for a whole tick, often 4 ms.
    handle.set_stall_threshold(row.max_callback * SLOWER);
    let kept = Rc::new(RefCell::new(None));
    match &row.victim {
        Victim::Server(start) => {
            let (address, server) = start(&handle);
            println!("ready {address}");
            kept.replace(Some(server));
        }
        Victim::Client(talk) => {
            let address = attacker
                .expect("the attacker's address")
                .parse()
                .expect("an address");
            println!("ready {address}");
            let talk = talk(handle.clone(), address);
            let said = handle.spawn(async move {
                println!("answer {:?}", talk.await);
            });
            kept.replace(Some(Box::new(said)));
        }
    }
    let remote = handle.remote();
    thread::spawn(move || {
        for line in stdin().lock().lines() {
            if line.is_err() {
                break;
            }
            let longest = remote
                .call(|handle| handle.metrics().longest_callback)
                .expect("it runs");
            let (time, origin) = longest.map_or((0, String::new()), |(time, origin)| {
                (time.as_micros(), origin.to_string())
            });
            println!("callback {time} {origin}");
        }
        let _ = remote.post(Handle::stop);
    });
    match reactor.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("the run failed: {error}");
            ExitCode::FAILURE
        }
    }
}
