//! Kinds that every Unix system has: unix, stdio.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use rustix::net::SocketAddrUnix;

use super::super::{Client, Connecting, EndpointError, Kinds, Server, kinds::boxed};
use crate::{
    reactor::Handle,
    transport::{BoxedListener, Listen, UnixAddress, fd, listen_once, unix},
};

pub(super) fn add(kinds: &mut Kinds) {
    kinds.add_server("unix", |arguments| {
        let path = UnixPath::new(arguments.required("path", "a path")?);
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
    kinds.add_client("unix", |arguments| {
        let path = UnixPath::new(arguments.required("path", "a path")?);
        let limit = arguments.timeout().unwrap_or_default();
        Ok(Rc::new(UnixClient {
            path,
            limit: limit.max(unix::BACKLOG_TIME),
        }))
    });
    kinds.add_server("stdio", |_| Ok(Rc::new(Stdio)));
    kinds.add_client("stdio", |_| Ok(Rc::new(Stdio)));
}

/// A path, or `@` followed by an abstract name.
struct UnixPath(PathBuf);

impl UnixPath {
    /// The program may change its directory before the path is used. A path that has room in a
    /// socket's address (unix(7)) only as it is stays relative.
    fn new(path: PathBuf) -> Self {
        let path = UnixPath(path);
        if path.0.as_os_str().is_empty() || path.abstract_name().is_some() {
            return path;
        }
        match std::path::absolute(&path.0) {
            Ok(absolute) if SocketAddrUnix::new(&absolute).is_ok() => UnixPath(absolute),
            _ => path,
        }
    }

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

/// What to connect to, and how long a full backlog is waited for.
struct UnixClient {
    path: UnixPath,
    limit: Duration,
}

impl Client for UnixClient {
    fn connect(&self, handle: &Handle) -> Connecting {
        let (handle, limit) = (handle.clone(), self.limit);
        let address = match self.path.abstract_name() {
            Some(name) => UnixAddress::Abstract(name.to_owned()),
            None => UnixAddress::Path(self.path.0.clone()),
        };
        Box::pin(async move {
            let stream = unix::connect_within(&handle, address, limit).await;
            Ok(boxed(stream.map_err(io::Error::from)?))
        })
    }
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
