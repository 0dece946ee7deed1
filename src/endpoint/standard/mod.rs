//! The standard kinds: tcp on every system, and those that only some systems have.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;
mod process;
#[cfg(unix)]
mod unix;

#[cfg(target_os = "linux")]
use self::linux as os;
#[cfg(not(target_os = "linux"))]
use self::other as os;
pub(super) use self::process::add_process;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use super::{
    Arguments, Client, Connecting, EndpointError, Kinds, ParseError, Server, kinds::boxed,
};
use crate::{
    address::literal,
    reactor::Handle,
    transport::{BoxedListener, Listen, Listener, Stream, connect_host_within, tcp},
};

pub(super) fn add(kinds: &mut Kinds) {
    kinds.add_server("tcp", |arguments| Ok(Rc::new(Tcp::read(arguments)?)));
    kinds.add_client("tcp", |arguments| Ok(Rc::new(Host::read(arguments)?)));
    os::add(kinds);
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
    /// The time limit of the endpoint, if it has one of its own.
    limit: Option<Duration>,
}

impl Host {
    pub(super) fn read(arguments: &mut Arguments<'_>) -> Result<Self, ParseError> {
        let host: String = arguments.required("host", "a name or an address")?;
        let port = arguments.required("port", "a port number")?;
        Ok(Host {
            host: bare(&host).to_owned(),
            port,
            limit: arguments.timeout(),
        })
    }

    pub(super) async fn connect(self, handle: Handle) -> Result<Stream, EndpointError> {
        Ok(connect_host_within(&handle, &self.host, self.port, self.limit).await?)
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
