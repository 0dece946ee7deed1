//! Kinds that only Linux has: fd, systemd.

use std::{
    env,
    os::fd::{OwnedFd, RawFd},
    rc::Rc,
};

use super::{
    super::{
        Arguments, Client, Connecting, EndpointError, Kinds, ParseError, Server, kinds::boxed,
    },
    unix,
};
use crate::{
    reactor::Handle,
    transport::{BoxedListener, Listen, Listener, Stream},
};

pub(super) fn add(kinds: &mut Kinds) {
    unix::add(kinds);
    kinds.add_server("fd", |arguments| Ok(Rc::new(Fd(number(arguments)?))));
    kinds.add_server("systemd", |arguments| {
        let name = arguments.optional("name", "a name")?;
        Ok(Rc::new(match (name, arguments.place("index")) {
            (Some(name), None) => Systemd::Name(name),
            (None, Some(index)) => match index.text.parse() {
                Ok(number) => Systemd::Index(number),
                Err(_) => {
                    return Err(
                        arguments.error(index.at, format!("{:?} is not a number", index.text))
                    );
                }
            },
            (None, None) => Systemd::Index(0),
            (Some(_), Some(index)) => {
                return Err(arguments.error(index.at, "give an index or a name, not both"));
            }
        }))
    });
    kinds.add_client("fd", |arguments| Ok(Rc::new(Fd(number(arguments)?))));
}

/// The number of an fd that this process was started with. The endpoint uses a copy of the fd.
struct Fd(RawFd);

fn number(arguments: &mut Arguments<'_>) -> Result<RawFd, ParseError> {
    Ok(RawFd::from(arguments.required::<u16>(
        "fd",
        "the number of a file descriptor",
    )?))
}

impl Server for Fd {
    fn listen(&self, handle: &Handle) -> Result<BoxedListener, EndpointError> {
        let listener = Listener::from_fd(handle, copy(self.0)?);
        listener
            .map(Listen::boxed)
            .map_err(|error| EndpointError::Fd(format!("file descriptor {}: {error}", self.0)))
    }
}

impl Client for Fd {
    fn connect(&self, handle: &Handle) -> Connecting {
        let stream = copy(self.0).and_then(|fd| {
            let stream = Stream::from_fd(handle, fd);
            stream
                .map_err(|error| EndpointError::Fd(format!("file descriptor {}: {error}", self.0)))
        });
        Box::pin(async move { Ok(boxed(stream?)) })
    }
}

/// Copies an fd that is known only by its number.
fn copy(number: RawFd) -> Result<OwnedFd, EndpointError> {
    use rustix::io::Errno;
    entwined_spawn::duplicate(number).map_err(|error| {
        EndpointError::Fd(match Errno::from_io_error(&error) {
            Some(Errno::BADF) => format!("there is no file descriptor {number}"),
            _ => format!("file descriptor {number}: {error}"),
        })
    })
}

/// A socket from socket activation: sd_listen_fds(3).
enum Systemd {
    Index(usize),
    Name(String),
}

/// The first fd that systemd passes.
const FIRST_FD: usize = 3;

impl Server for Systemd {
    fn listen(&self, handle: &Handle) -> Result<BoxedListener, EndpointError> {
        let variable = |name| env::var(name).ok();
        let index = self.find(
            variable("LISTEN_PID"),
            variable("LISTEN_FDS"),
            variable("LISTEN_FDNAMES"),
        )?;
        Fd((FIRST_FD + index) as RawFd).listen(handle)
    }
}

impl Systemd {
    fn find(
        &self,
        pid: Option<String>,
        count: Option<String>,
        names: Option<String>,
    ) -> Result<usize, EndpointError> {
        let ours = pid.and_then(|pid| pid.parse().ok()) == Some(std::process::id());
        let count: usize = count
            .filter(|_| ours)
            .and_then(|count| count.parse().ok())
            .unwrap_or(0);
        if count == 0 {
            return Err(EndpointError::Fd(
                "systemd has passed no sockets; start the program with a .socket unit or \
                 systemd-socket-activate"
                    .to_owned(),
            ));
        }
        let index = match self {
            Systemd::Index(index) => Some(*index),
            Systemd::Name(name) => names
                .as_deref()
                .unwrap_or("")
                .split(':')
                .position(|other| other == name),
        };
        index.filter(|index| *index < count).ok_or_else(|| {
            let names = names.as_deref().unwrap_or("none has a name");
            EndpointError::Fd(match self {
                Systemd::Index(index) => {
                    format!("systemd has passed {count} sockets; there is no number {index}")
                }
                Systemd::Name(name) => {
                    format!("systemd has passed no socket named {name:?}; the names are: {names}")
                }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(which: &Systemd, pid: u32, count: &str, names: &str) -> Result<usize, String> {
        let some = |text: &str| Some(text.to_owned());
        which
            .find(some(&pid.to_string()), some(count), some(names))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_socket_of_systemd_is_found_by_number_or_name() {
        let own = std::process::id();
        assert_eq!(find(&Systemd::Index(1), own, "2", "a:b"), Ok(1));
        assert_eq!(find(&Systemd::Name("b".into()), own, "2", "a:b"), Ok(1));
        assert!(
            find(&Systemd::Index(2), own, "2", "a:b")
                .unwrap_err()
                .contains("no number 2")
        );
        assert!(
            find(&Systemd::Name("c".into()), own, "2", "a:b")
                .unwrap_err()
                .contains("the names are: a:b")
        );
        // They were passed to another process, which then started this one.
        assert!(
            find(&Systemd::Index(0), own + 1, "2", "a:b")
                .unwrap_err()
                .contains("passed no sockets")
        );
        assert!(
            find(&Systemd::Index(0), own, "0", "")
                .unwrap_err()
                .contains("passed no sockets")
        );
    }
}
