//! Systems other than Linux: each datagram takes a system call.

use std::io::{self, IoSlice};

use rustix::{
    fd::OwnedFd,
    net::{self, AddressFamily, SocketAddrAny},
};

use super::SEND;
use crate::transport::received::ReceivedDatagram;

/// Sends datagrams until the system accepts no more. An error of a later datagram is returned once
/// that datagram is the first.
pub(in crate::transport) fn send_all(
    socket: &OwnedFd,
    slices: &[[IoSlice<'_>; 1]],
    addresses: &[Option<SocketAddrAny>],
) -> io::Result<usize> {
    for (sent, ([bytes], to)) in slices.iter().zip(addresses).enumerate() {
        let result = match to {
            Some(to) => net::sendto(socket, bytes, SEND, to),
            None => net::send(socket, bytes, SEND),
        };
        match result {
            Ok(_) => {}
            Err(error) if sent == 0 => return Err(error.into()),
            Err(_) => return Ok(sent),
        }
    }
    Ok(slices.len())
}

/// Nothing is kept from one time to the next.
#[derive(Default)]
pub(in crate::transport) struct Headers;

impl Headers {
    /// Always `None`: there is no system call for several datagrams.
    pub(in crate::transport) fn receive_all(
        &mut self,
        _: &OwnedFd,
        _: AddressFamily,
        _: (&mut [u8], usize, usize),
        _: &mut Vec<ReceivedDatagram>,
    ) -> Option<io::Result<()>> {
        None
    }
}
