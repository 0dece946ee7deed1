//! What the targets share: a peer that says what the fuzzer has found, and a server's side of its one connection.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use entwined::{
    Handle,
    simulation::Simulation,
    transport::{
        Address, Listen,
        memory::{self, MemoryStream, Wire},
    },
};
use futures_io::{AsyncRead, AsyncWrite};

/// Two ends of a connection that hands on so many bytes at a time and one more.
pub fn connection(handle: &Handle, fragment: u8) -> (MemoryStream, MemoryStream) {
    let mut wire = Wire::default();
    wire.fragment = usize::from(fragment) + 1;
    memory::pair_over(handle, wire)
}

/// Says `bytes`, ends, and reads until the other side has ended too; then has everything come to its end.
pub fn say(simulation: &Simulation, near: MemoryStream, bytes: Vec<u8>) {
    let talking = simulation.handle().spawn(peer(near, bytes));
    simulation.run_until(talking).expect("no panic");
    simulation.drive();
}

/// Says `bytes`, ends, and reads until the other side has ended too.
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

/// A listener with one connection.
pub struct Once(Handle, RefCell<Option<MemoryStream>>);

impl Once {
    /// That accepts this one.
    pub fn new(handle: &Handle, stream: MemoryStream) -> Self {
        Once(handle.clone(), RefCell::new(Some(stream)))
    }
}

impl Listen for Once {
    type Stream = MemoryStream;

    fn poll_accept(&self, _: &mut Context<'_>) -> Poll<io::Result<MemoryStream>> {
        self.1.take().map_or(Poll::Pending, |stream| Poll::Ready(Ok(stream)))
    }

    fn local_address(&self) -> Address {
        Address::Unknown
    }

    fn handle(&self) -> Handle {
        self.0.clone()
    }
}
