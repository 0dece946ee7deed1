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

/// Sends `bytes`, reads until the other side closes, and runs everything to its end. Returns what
/// was read: a server does not answer a client that has closed.
pub fn ask(simulation: &Simulation, mut near: MemoryStream, bytes: Vec<u8>) -> Vec<u8> {
    let asking = simulation.handle().spawn(async move {
        send(&mut near, &bytes).await;
        read_to_end(&mut near).await
    });
    let read = simulation.run_until(asking).expect("no panic");
    simulation.drive();
    read
}

/// Sends `bytes`, closes, and reads until the other side has closed too.
pub async fn peer(mut near: MemoryStream, bytes: Vec<u8>) {
    send(&mut near, &bytes).await;
    close(&mut near).await;
    read_to_end(&mut near).await;
}

/// Reads the head of a request, sends `bytes` and closes.
pub async fn answer(mut near: MemoryStream, bytes: Vec<u8>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n")
        && let Ok(1) = poll_fn(|cx| Pin::new(&mut near).poll_read(cx, &mut byte)).await
    {
        head.push(byte[0]);
    }
    send(&mut near, &bytes).await;
    close(&mut near).await;
    read_to_end(&mut near).await;
}

async fn send(near: &mut MemoryStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match poll_fn(|cx| Pin::new(&mut *near).poll_write(cx, bytes)).await {
            Ok(count) => bytes = &bytes[count..],
            Err(_) => return,
        }
    }
}

async fn close(near: &mut MemoryStream) {
    let _ = poll_fn(|cx| Pin::new(&mut *near).poll_close(cx)).await;
}

async fn read_to_end(near: &mut MemoryStream) -> Vec<u8> {
    let (mut read, mut buffer) = (Vec::new(), [0; 1_000]);
    while let Ok(count @ 1..) = poll_fn(|cx| Pin::new(&mut *near).poll_read(cx, &mut buffer)).await
    {
        read.extend_from_slice(&buffer[..count]);
    }
    read
}
