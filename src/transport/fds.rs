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

use super::sys::{RECEIVE, SEND, close_at_once};

/// Limit on the fds in one message, and on the fds that wait to be taken.
const LIMIT: usize = 64;

/// The most fds that the kernel passes with one message (SCM_MAX_FD). It would close those for
/// which there is no room, in a system call of this thread, and take as long as the peer has seen
/// to.
const MOST_IN_ONE: usize = 253;

/// Fds that have arrived and have not been taken. Dropping the queue closes them.
#[derive(Debug, Default)]
pub(super) struct FdQueue(RefCell<Vec<OwnedFd>>);

impl Drop for FdQueue {
    fn drop(&mut self) {
        self.take().into_iter().for_each(discard);
    }
}

/// Closes an fd that a peer has sent.
fn discard(fd: OwnedFd) {
    close_at_once(&fd);
    drop(fd);
}

impl FdQueue {
    pub(super) fn take(&self) -> Vec<OwnedFd> {
        self.0.take()
    }

    pub(super) fn receive(&self, socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_IN_ONE))];
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
                    match queue.len() < LIMIT {
                        true => queue.push(fd),
                        false => discard(fd),
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
