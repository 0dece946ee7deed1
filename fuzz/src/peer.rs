//! What the targets share: a peer that sends what the fuzzer has found, and the server's side of
//! its one connection.

use std::{future::poll_fn, pin::Pin};

use entwined::{
    Handle,
    simulation::Simulation,
    transport::memory::{self, Link, MemoryStream},
};
use futures_io::{AsyncRead, AsyncWrite};

/// Returns the two ends of a connection that passes on `fragment` + 1 bytes at a time.
pub fn connection(handle: &Handle, fragment: u8) -> (MemoryStream, MemoryStream) {
    let mut link = Link::default();
    link.fragment = usize::from(fragment) + 1;
    memory::pair_over(handle, link)
}

/// Sends `bytes`, closes, and reads until the other side has closed too; then runs everything to
/// its end.
pub fn say(simulation: &Simulation, near: MemoryStream, bytes: Vec<u8>) {
    let talking = simulation.handle().spawn(peer(near, bytes));
    simulation.run_until(talking).expect("no panic");
    simulation.drive();
}

/// Sends `bytes`, closes, and reads until the other side has closed too.
pub async fn peer(mut near: MemoryStream, bytes: Vec<u8>) {
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        match poll_fn(|cx| Pin::new(&mut near).poll_write(cx, rest)).await {
            Ok(count) => rest = &rest[count..],
            Err(_) => return,
        }
    }
    let _ = poll_fn(|cx| Pin::new(&mut near).poll_close(cx)).await;
    let mut buffer = [0; 1_000];
    while let Ok(1..) = poll_fn(|cx| Pin::new(&mut near).poll_read(cx, &mut buffer)).await {}
}
