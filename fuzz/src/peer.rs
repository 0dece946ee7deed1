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
/// its end. Returns what was read.
pub fn say(simulation: &Simulation, near: MemoryStream, bytes: Vec<u8>) -> Vec<u8> {
    let talking = simulation.handle().spawn(peer(near, bytes));
    let read = simulation.run_until(talking).expect("no panic");
    simulation.drive();
    read
}

/// Sends `bytes`, closes, and reads until the other side has closed too. Returns what was read.
pub async fn peer(mut near: MemoryStream, bytes: Vec<u8>) -> Vec<u8> {
    let mut read = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        match poll_fn(|cx| Pin::new(&mut near).poll_write(cx, rest)).await {
            Ok(count) => rest = &rest[count..],
            Err(_) => return read,
        }
    }
    let _ = poll_fn(|cx| Pin::new(&mut near).poll_close(cx)).await;
    let mut buffer = [0; 1_000];
    while let Ok(count @ 1..) = poll_fn(|cx| Pin::new(&mut near).poll_read(cx, &mut buffer)).await {
        read.extend_from_slice(&buffer[..count]);
    }
    read
}
