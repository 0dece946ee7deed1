//! Addresses of the ends of a connection.

use std::{
    fmt::{self, Write},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    path::PathBuf,
};

use rustix::net::{AddressFamily, SocketAddrAny};

use crate::sys;

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
///
/// A text may say on which network interface a link-local address is, by its name or its number:
/// `"[fe80::1%eth0]:8080"`, `("fe80::1%2", 8080)` (RFC 4007, section 11). An [`Ipv6Addr`] cannot;
/// use [`SocketAddrV6`] there.
pub trait IntoSocketAddr {
    /// Converts it.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if a text is not an address and a port, or
    /// names a network interface that does not exist.
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
        if let Ok(address) = self.parse() {
            return Ok(address);
        }
        let wrong = || not_an_address(format_args!("{self:?}"));
        let (host, port) = self
            .strip_prefix('[')
            .and_then(|text| text.rsplit_once("]:"))
            .ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        literal(host, port).unwrap_or_else(|| Err(wrong()))
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
        literal(self.0, self.1).unwrap_or_else(|| Err(not_an_address(format_args!("{self:?}"))))
    }
}

/// Parses an IP address, which may have a zone. Returns `None` if it is not one, and an error if
/// there is no such zone.
pub(crate) fn literal(host: &str, port: u16) -> Option<io::Result<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(Ok((address, port).into()));
    }
    let (address, zone) = host.split_once('%')?;
    let address: Ipv6Addr = address.parse().ok()?;
    Some(scope(zone).map(|scope| SocketAddrV6::new(address, port, 0, scope).into()))
}

/// The number of a zone: RFC 4007, section 11.2.
fn scope(zone: &str) -> io::Result<u32> {
    if let Ok(number) = zone.parse() {
        return Ok(number);
    }
    sys::interface_number(zone).map_err(|error| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("there is no network interface {zone:?}: {error}"),
        )
    })
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
            Address::Unix(UnixAddress::Path(path)) => {
                // A peer chooses the path of its socket, and addresses come into logs.
                path.display()
                    .to_string()
                    .chars()
                    .try_for_each(|character| match character.is_control() {
                        true => character.escape_default().fmt(f),
                        false => f.write_char(character),
                    })
            }
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
        match address.address_family() {
            AddressFamily::INET | AddressFamily::INET6 => {
                SocketAddr::try_from(address).map_or(Address::Unknown, Address::Tcp)
            }
            _ => match sys::unix_name(&address) {
                Some(name) => Address::Unix(UnixAddress::of(&name)),
                None => Address::Unknown,
            },
        }
    }
}

impl UnixAddress {
    /// Decodes the name that the kernel has written.
    fn of(name: &[u8]) -> Self {
        match name {
            // Sockets cannot be bound to the abstract name of no bytes here.
            [] | [0] => UnixAddress::Unnamed,
            [0, name @ ..] => UnixAddress::Abstract(name.to_vec()),
            path => {
                let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
                UnixAddress::Path(sys::path_from_bytes(path))
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn unix_addresses_survive_the_way_through_the_system() {
        use rustix::net::{SocketAddrUnix, addr::SocketAddrArg};
        let of = |address: rustix::io::Result<SocketAddrUnix>| {
            Address::from(address.expect("short enough").as_any())
        };
        for length in [1, 2, 106, 107, 108] {
            let path = "x".repeat(length);
            assert_eq!(
                of(SocketAddrUnix::new(&path)),
                Address::Unix(UnixAddress::Path(path.into()))
            );
        }
        for name in [&b"a"[..], b"a\0b\0", &[7; 107]] {
            assert_eq!(
                of(SocketAddrUnix::new_abstract_name(name)),
                Address::Unix(UnixAddress::Abstract(name.to_vec()))
            );
        }
        assert_eq!(
            Address::from(SocketAddrUnix::new_unnamed().as_any()),
            Address::Unix(UnixAddress::Unnamed)
        );
    }

    #[test]
    fn a_zone_is_kept() {
        let parse = |text: &str| text.into_socket_addr().map_err(|error| error.to_string());
        let with =
            |scope| Ok(SocketAddrV6::new("fe80::1".parse().expect("one"), 80, 0, scope).into());
        assert_eq!(parse("[fe80::1%7]:80"), with(7));
        assert_eq!(parse("[fe80::1%lo]:80"), with(1));
        assert_eq!(("fe80::1%lo", 80).into_socket_addr().ok(), with(1).ok());
        let unknown = parse("[fe80::1%none-such]:80").expect_err("no interface");
        assert!(
            unknown.starts_with("there is no network interface"),
            "{unknown}"
        );
        for text in [
            "[1.2.3.4%lo]:80",
            "[fe80::1%lo]:",
            "fe80::1%lo:80",
            "[%lo]:80",
        ] {
            assert!(
                parse(text).is_err_and(|error| error.contains("is not an address")),
                "{text}"
            );
        }
    }
}
