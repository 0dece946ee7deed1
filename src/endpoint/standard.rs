//! The standard kinds: tcp, unix, fd, systemd, stdio, process.

use std::{
    env,
    fs::{self, Permissions},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::{OwnedFd, RawFd},
        unix::{ffi::OsStrExt, fs::PermissionsExt},
    },
    path::PathBuf,
    rc::Rc,
};

use super::{Arguments, Client, Connecting, EndpointError, Kinds, ParseError, Server};
use crate::{
    address::literal,
    process::{Command, Io},
    reactor::Handle,
    transport::{
        BoxedListener, ByteStream, Listen, Listener, Stream, connect_host, fd, listen_once, tcp,
        unix,
    },
};

pub(super) fn add(kinds: &mut Kinds) {
    kinds.add_server("tcp", |arguments| Ok(Rc::new(Tcp::read(arguments)?)));
    kinds.add_server("unix", |arguments| {
        let path = UnixPath(arguments.required("path", "a path")?);
        let mode = match arguments.place("mode") {
            None => None,
            Some(mode) => match u32::from_str_radix(&mode.text, 8) {
                Ok(bits) if bits <= 0o777 && path.abstract_name().is_none() => Some(bits),
                Ok(bits) if bits <= 0o777 => {
                    return Err(arguments.error(mode.at, "an abstract name has no mode"));
                }
                _ => {
                    let wrong = format!("{:?} is not a mode, such as 660", mode.text);
                    return Err(arguments.error(mode.at, wrong));
                }
            },
        };
        Ok(Rc::new(UnixServer { path, mode }))
    });
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
    kinds.add_server("stdio", |_| Ok(Rc::new(Stdio)));
    kinds.add_client("stdio", |_| Ok(Rc::new(Stdio)));
    kinds.add_client("tcp", |arguments| Ok(Rc::new(Host::read(arguments)?)));
    kinds.add_client("unix", |arguments| {
        Ok(Rc::new(UnixPath(arguments.required("path", "a path")?)))
    });
    kinds.add_client("fd", |arguments| Ok(Rc::new(Fd(number(arguments)?))));
}

/// Adds `process:`.
pub(super) fn add_process(kinds: &mut Kinds) {
    kinds.add_client("process", |arguments| {
        let program = arguments.required("program", "a program")?;
        let arguments = std::iter::from_fn(|| arguments.rest()).collect();
        Ok(Rc::new(Program { program, arguments }))
    });
}

/// A port, on one address or on all.
#[derive(Clone, Copy)]
pub(super) struct Tcp {
    port: u16,
    interface: Option<SocketAddr>,
}

impl Tcp {
    pub(super) fn read(arguments: &mut Arguments<'_>) -> Result<Self, ParseError> {
        let port = arguments.required("port", "a port number")?;
        let interface = match arguments.name("interface") {
            None => None,
            Some(value) => match literal(bare(&value.text), port) {
                Some(Ok(address)) => Some(address),
                Some(Err(error)) => return Err(arguments.error(value.at, error.to_string())),
                None => {
                    return Err(
                        arguments.error(value.at, format!("{:?} is not an IP address", value.text))
                    );
                }
            },
        };
        Ok(Tcp { port, interface })
    }

    pub(super) fn bind(&self, handle: &Handle) -> Result<Listener, EndpointError> {
        let on = |address: IpAddr| tcp::listen(handle, SocketAddr::new(address, self.port));
        match self.interface {
            Some(address) => Ok(tcp::listen(handle, address)?),
            // An IPv6 socket accepts IPv4 connections too, unless the system is configured
            // otherwise or has no IPv6.
            None => match on(Ipv6Addr::UNSPECIFIED.into()) {
                Err(error) if no_ipv6(&error.source) => Ok(on(Ipv4Addr::UNSPECIFIED.into())?),
                listener => Ok(listener?),
            },
        }
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

impl Server for Tcp {
    fn listen(&self, handle: &Handle) -> Result<BoxedListener, EndpointError> {
        Ok(self.bind(handle)?.boxed())
    }
}

/// A host, by name or address, and a port.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) host: String,
    port: u16,
}

impl Host {
    pub(super) fn read(arguments: &mut Arguments<'_>) -> Result<Self, ParseError> {
        let host: String = arguments.required("host", "a name or an address")?;
        let port = arguments.required("port", "a port number")?;
        Ok(Host {
            host: bare(&host).to_owned(),
            port,
        })
    }

    pub(super) async fn connect(self, handle: Handle) -> Result<Stream, EndpointError> {
        Ok(connect_host(&handle, &self.host, self.port).await?)
    }
}

impl Client for Host {
    fn connect(&self, handle: &Handle) -> Connecting {
        let stream = self.clone().connect(handle.clone());
        Box::pin(async move { Ok(boxed(stream.await?)) })
    }
}

/// Strips the brackets from an IPv6 address.
fn bare(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

fn boxed(stream: impl ByteStream) -> Box<dyn ByteStream> {
    Box::new(stream)
}

/// A path, or `@` followed by an abstract name.
struct UnixPath(PathBuf);

impl UnixPath {
    /// The name without its `@`, if this is an abstract name.
    fn abstract_name(&self) -> Option<&[u8]> {
        self.0.as_os_str().as_bytes().strip_prefix(b"@")
    }
}

/// Where to listen, and the mode of the socket file if it is not the usual one.
struct UnixServer {
    path: UnixPath,
    mode: Option<u32>,
}

impl Server for UnixServer {
    fn listen(&self, handle: &Handle) -> Result<BoxedListener, EndpointError> {
        let path = &self.path.0;
        let listener = match self.path.abstract_name() {
            Some(name) => unix::listen_abstract(handle, name)?,
            None => unix::listen(handle, path)?,
        };
        if let Some(mode) = self.mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        Ok(listener.boxed())
    }
}

impl Client for UnixPath {
    fn connect(&self, handle: &Handle) -> Connecting {
        let (handle, path) = (handle.clone(), UnixPath(self.0.clone()));
        Box::pin(async move {
            let stream = match path.abstract_name() {
                Some(name) => unix::connect_abstract(&handle, name).await,
                None => unix::connect(&handle, &path.0).await,
            };
            Ok(boxed(stream.map_err(io::Error::from)?))
        })
    }
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

/// The standard input and output of this process, as a single connection.
struct Stdio;

impl Client for Stdio {
    fn connect(&self, handle: &Handle) -> Connecting {
        let stream = fd::stdio(handle);
        Box::pin(async move { Ok(boxed(stream?)) })
    }
}

impl Server for Stdio {
    fn listen(&self, handle: &Handle) -> Result<BoxedListener, EndpointError> {
        Ok(listen_once(handle, fd::stdio(handle)?).boxed())
    }
}

/// A program that is run for each connection and killed when the connection ends.
struct Program {
    program: String,
    arguments: Vec<String>,
}

impl Client for Program {
    fn connect(&self, handle: &Handle) -> Connecting {
        let command = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Io::Stream)
            .stdout(Io::Stream);
        let command = command.stderr(Io::Inherit).kill_on_drop(true);
        let process = command.spawn(handle);
        Box::pin(async move {
            let stream = process.map_err(io::Error::other)?.into_stream();
            Ok(boxed(stream.map_err(|_| {
                io::Error::other("there are no file descriptors left")
            })?))
        })
    }
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
