//! Transports that only Unix has: its sockets, and pipes.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
};

use super::{Carrier, Dialer, Door, Handed, Peer, boxed};
use crate::{rig::PATIENCE, sys};
use entwined::{
    Handle,
    protocol::Connection,
    transport::{
        Address, Listen as _, Stream, UnixAddress,
        fd::{self, FdStream},
    },
};

/// What TCP lacks of what Unix sockets and fds have.
pub(super) fn ask_tcp(connection: &Connection) {
    let answer = connection
        .ask(|stream: &Stream| stream.peer_credentials())
        .expect("a socket below");
    assert_eq!(
        answer.expect_err("TCP has no credentials").kind(),
        io::ErrorKind::Unsupported
    );
    assert!(
        connection
            .ask(Stream::take_fds)
            .expect("a socket below")
            .is_empty()
    );
    assert_eq!(connection.ask(|_: &FdStream| ()), None);
}

/// The other end of a connection.
pub(crate) enum OsPeer {
    Unix(UnixStream),
    Pipes { input: File, output: Option<File> },
}

impl OsPeer {
    pub(super) fn end(&mut self) {
        match self {
            OsPeer::Unix(stream) => stream.shutdown(Shutdown::Write).expect("shut down"),
            OsPeer::Pipes { output, .. } => *output = None,
        }
    }

    pub(super) fn reset(&self) {
        match self {
            // A Unix socket that is closed with unread bytes resets the connection: unix(7).
            OsPeer::Unix(stream) => sys::wait_for_data(stream, PATIENCE),
            OsPeer::Pipes { .. } => panic!("a pipe cannot be reset"),
        }
    }

    pub(super) fn hold(&self) {
        match self {
            OsPeer::Unix(stream) => sys::wait_for_end(stream, PATIENCE),
            OsPeer::Pipes { input, .. } => sys::wait_for_end(input, PATIENCE),
        }
    }
}

impl Read for OsPeer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            OsPeer::Unix(stream) => stream.read(buffer),
            OsPeer::Pipes { input, .. } => input.read(buffer),
        }
    }
}

impl Write for OsPeer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            OsPeer::Unix(stream) => stream.write(bytes),
            OsPeer::Pipes { output, .. } => output.as_mut().expect("not ended").write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) struct Unix;

impl Carrier for Unix {
    const ABORT_SHOWS: bool = false;

    fn open(handle: &Handle) -> Door {
        let name = sys::UnixName::new();
        let listener = name.listen(handle).expect("a free name");
        let (handle, dialed) = (handle.clone(), name.clone());
        Door {
            listener: listener.boxed(),
            dialer: Dialer::new(move || {
                let stream = dialed.dial();
                stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
                Peer::Os(OsPeer::Unix(stream))
            }),
            connect: boxed(move || {
                let (handle, name) = (handle.clone(), name.clone());
                async move { name.connect(&handle).await.expect("a connection") }
            }),
        }
    }

    fn ask_identity(connection: &Connection) {
        let credentials = connection
            .ask(|stream: &Stream| stream.peer_credentials())
            .expect("a socket below");
        let credentials = credentials.expect("a Unix socket");
        let pid = credentials.pid.map(u32::from);
        assert!(pid.is_none_or(|pid| pid == std::process::id()));
        assert_eq!(credentials.uid, rustix::process::getuid().as_raw());
        assert_eq!(
            *connection.peer_address(),
            Address::Unix(UnixAddress::Unnamed)
        );
        assert_eq!(connection.peer_address().tcp(), None);
        assert!(
            connection
                .ask(|stream: &Stream| stream.set_nodelay(true))
                .expect("a socket below")
                .is_err()
        );
    }
}

/// Two pipes, as for a child process.
pub(crate) struct Pipes;

impl Carrier for Pipes {
    const ABORT_SHOWS: bool = false;

    const LACKS: &[(&str, &str)] = &[
        (
            "b43_out_of_fds_nobody_hangs_nothing_spins_and_accepting_goes_on",
            "pipes are created, not accepted",
        ),
        (
            "b44_a_reset_is_an_error_with_its_kind",
            "a pipe cannot be reset, only closed",
        ),
    ];

    fn open(handle: &Handle) -> Door {
        let make = |handle: &Handle, (input, output)| {
            fd::pair(handle, Some(input), Some(output)).expect("a stream")
        };
        let (listener, hand) = Handed::new(handle, make);
        let (handle, given) = (handle.clone(), listener.given.clone());
        Door {
            listener: listener.boxed(),
            dialer: Dialer::new(move || {
                let ((theirs, output), (input, ours)) = (sys::pipe(), sys::pipe());
                hand.send((theirs, ours)).expect("it listens");
                Peer::Os(OsPeer::Pipes {
                    input: input.into(),
                    output: Some(output.into()),
                })
            }),
            connect: boxed(move || {
                let ((theirs, output), (input, ours)) = (sys::pipe(), sys::pipe());
                given.put(make(&handle, (theirs, ours)));
                let stream = make(&handle, (input, output));
                async move { stream }
            }),
        }
    }

    fn ask_identity(connection: &Connection) {
        assert_eq!(
            (connection.local_address(), connection.peer_address()),
            (&Address::Unknown, &Address::Unknown)
        );
        assert_eq!(
            connection.ask(|_: &Stream| ()),
            None,
            "a pipe is not a socket"
        );
        let piped = connection
            .ask(|stream: &FdStream| stream.input().is_some() && stream.output().is_some());
        assert_eq!(piped, Some(true));
    }
}
