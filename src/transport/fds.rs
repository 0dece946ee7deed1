//! Passing file descriptors over a Unix socket: `SCM_RIGHTS`, unix(7).

use std::{
    cell::RefCell,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    cmsg_space,
    net::{
        self, RecvAncillaryBuffer, RecvAncillaryMessage, SendAncillaryBuffer, SendAncillaryMessage,
    },
};

use super::sys::{RECEIVE, SEND};

/// Limit on the fds in one message, and on the fds that wait to be taken.
const LIMIT: usize = 64;

/// Fds that have arrived and have not been taken. Dropping the queue closes them.
#[derive(Debug, Default)]
pub(super) struct FdQueue(RefCell<Vec<OwnedFd>>);

impl FdQueue {
    pub(super) fn take(&self) -> Vec<OwnedFd> {
        self.0.take()
    }

    pub(super) fn receive(&self, socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(LIMIT))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = net::recvmsg(
            socket,
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            RECEIVE,
        )?;
        let mut queue = self.0.borrow_mut();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                for fd in fds {
                    if queue.len() < LIMIT {
                        queue.push(fd);
                    }
                }
            }
        }
        Ok(received.bytes)
    }
}

pub(super) fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if bytes.is_empty() || fds.len() > LIMIT {
        let message = format!(
            "file descriptors need at least one byte to travel with, and at most {LIMIT} can be \
             sent at a time"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(LIMIT))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    Ok(net::sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SEND,
    )?)
}
