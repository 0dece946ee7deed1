//! Addresses of the ends of a connection.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use rustix::net::{SocketAddrAny, SocketAddrUnix};

/// The address of one end of a connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The IP address and port of a datagram socket.
    Udp(SocketAddr),
    /// A name in the file system or the abstract namespace. Clients usually have no name.
    Unix(UnixAddress),
    /// The transport has no addresses, or did not report one.
    Unknown,
}

impl Address {
    /// Returns the IP address and port if this is a TCP address.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Address::Tcp(address) => Some(*address),
            _ => None,
        }
    }

    /// Returns the IP address and port if this is a UDP address.
    pub fn udp(&self) -> Option<SocketAddr> {
        match self {
            Address::Udp(address) => Some(*address),
            _ => None,
        }
    }
}

/// An IP address and a port, in any of the forms that [`ToSocketAddrs`](std::net::ToSocketAddrs)
/// takes, except names of hosts: `"127.0.0.1:8080"`, `(Ipv4Addr::LOCALHOST, 8080)`,
/// `([127, 0, 0, 1], 8080)`, a [`SocketAddr`]. Nothing is looked up; for names see
/// [`connect_host`](crate::transport::connect_host).
pub trait IntoSocketAddr {
    /// Converts it.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if a text is not an address and a port.
    fn into_socket_addr(self) -> io::Result<SocketAddr>;
}

macro_rules! into_socket_addr {
    ($($type:ty),*) => {$(
        impl IntoSocketAddr for $type {
            fn into_socket_addr(self) -> io::Result<SocketAddr> {
                Ok(self.into())
            }
        }
    )*};
}

into_socket_addr!(
    SocketAddr,
    SocketAddrV4,
    SocketAddrV6,
    (IpAddr, u16),
    (Ipv4Addr, u16),
    (Ipv6Addr, u16),
    ([u8; 4], u16),
    ([u16; 8], u16)
);

impl IntoSocketAddr for &str {
    fn into_socket_addr(self) -> io::Result<SocketAddr> {
        self.parse()
            .map_err(|_| not_an_address(format_args!("{self:?}")))
    }
}

impl IntoSocketAddr for String {
    fn into_socket_addr(self) -> io::Result<SocketAddr> {
        self.as_str().into_socket_addr()
    }
}

impl IntoSocketAddr for &String {
    fn into_socket_addr(self) -> io::Result<SocketAddr> {
        self.as_str().into_socket_addr()
    }
}

impl IntoSocketAddr for (&str, u16) {
    fn into_socket_addr(self) -> io::Result<SocketAddr> {
        let address: Result<IpAddr, _> = self.0.parse();
        address
            .map(|address| (address, self.1).into())
            .map_err(|_| not_an_address(format_args!("{self:?}")))
    }
}

fn not_an_address(what: fmt::Arguments<'_>) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{what} is not an address and port, such as 127.0.0.1:8080"),
    )
}

/// The address of a Unix socket; see unix(7).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum UnixAddress {
    /// The socket was not bound.
    Unnamed,
    /// A path in the file system.
    Path(PathBuf),
    /// A name in Linux's abstract namespace, without the leading NUL byte.
    Abstract(Vec<u8>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) | Address::Udp(address) => address.fmt(f),
            Address::Unix(UnixAddress::Unnamed) => f.write_str("an unnamed Unix socket"),
            Address::Unix(UnixAddress::Path(path)) => path.display().fmt(f),
            Address::Unix(UnixAddress::Abstract(name)) => write!(f, "@{}", name.escape_ascii()),
            Address::Unknown => f.write_str("an unknown address"),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address::Tcp(address)
    }
}

impl From<SocketAddrAny> for Address {
    fn from(address: SocketAddrAny) -> Self {
        if let Ok(address) = SocketAddr::try_from(address.clone()) {
            Address::Tcp(address)
        } else if let Ok(address) = SocketAddrUnix::try_from(address) {
            Address::Unix(address.into())
        } else {
            Address::Unknown
        }
    }
}

impl From<SocketAddrUnix> for UnixAddress {
    fn from(address: SocketAddrUnix) -> Self {
        if let Some(path) = address.path_bytes() {
            UnixAddress::Path(std::ffi::OsStr::from_bytes(path).into())
        } else if let Some(name) = address.abstract_name().filter(|name| !name.is_empty()) {
            UnixAddress::Abstract(name.to_vec())
        } else {
            UnixAddress::Unnamed
        }
    }
}
