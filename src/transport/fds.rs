//! File descriptors that travel over a Unix socket: `SCM_RIGHTS`, unix(7).

use std::{
    cell::RefCell,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    cmsg_space,
    net::{
        self, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags,
    },
};

/// At most so many in one message, and so many waiting to be taken.
const LIMIT: usize = 64;

/// Those that have arrived and that nobody has taken. Dropping it closes them.
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
            RecvFlags::CMSG_CLOEXEC,
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
            "file descriptors travel with at least one byte, and at most {LIMIT} at a time"
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
        SendFlags::NOSIGNAL,
    )?)
}
