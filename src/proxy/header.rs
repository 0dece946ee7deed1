//! Parsing and encoding the header, without I/O.

use std::{
    error::Error,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::{self, FromStr},
};

use crate::{
    sys::path_from_bytes,
    transport::{Address, UnixAddress},
};

/// What a proxy says about a connection.
///
/// ```
/// use entwined::proxy::Header;
///
/// let text = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET / HTTP/1.1\r\n";
/// let (header, length) = Header::parse(text)?.expect("it is complete");
/// assert_eq!(header.source.expect("the client").to_string(), "192.0.2.1:56324");
/// assert!(text[length..].starts_with(b"GET"));
/// # Ok::<(), entwined::proxy::ProxyError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The client. `None` if the proxy does not name it (`UNKNOWN`, `LOCAL`), or connects for
    /// itself, such as for a health check.
    pub source: Option<Address>,
    /// The address that the client connected to.
    pub destination: Option<Address>,
    /// Further values (TLVs) of version 2: types and contents. If a checksum (`PP2_TYPE_CRC32C`) is
    /// among them, it is not verified.
    pub values: Vec<(u8, Vec<u8>)>,
}

/// The longest header of version 1: section 2.1 of the specification.
const MOST_V1: usize = 107;

/// The longest accepted header of version 2, including its values. The specification has no limit
/// below 64 KiB; 216 bytes is usual.
const MOST_V2: usize = 4 * 1024;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

impl Header {
    /// Creates a header for a connection from `source` to `destination`.
    pub fn new(source: Address, destination: Address) -> Self {
        Header {
            source: Some(source),
            destination: Some(destination),
            values: Vec::new(),
        }
    }

    /// Parses a header at the start of `input`. Returns the header and its length, or `None` if
    /// more bytes are needed.
    ///
    /// # Errors
    /// Fails if this is not a header, or if it is longer than accepted (107 bytes in version 1, 4
    /// KiB in version 2).
    pub fn parse(input: &[u8]) -> Result<Option<(Self, usize)>, ProxyError> {
        let start = |whole: &[u8]| input.starts_with(whole) || whole.starts_with(input);
        if start(SIGNATURE) {
            parse_v2(input)
        } else if start(b"PROXY ") {
            parse_v1(input)
        } else {
            Err(ProxyError::NoHeader)
        }
    }

    /// Appends the header in version 1. That version has no values, and it encodes Unix sockets as
    /// `UNKNOWN`.
    pub fn encode_v1(&self, output: &mut Vec<u8>) {
        let text = match self.ends() {
            Some((source, destination)) => {
                let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
                let (from, to) = (source.port(), destination.port());
                format!(
                    "PROXY {family} {} {} {from} {to}\r\n",
                    source.ip(),
                    destination.ip()
                )
            }
            None => "PROXY UNKNOWN\r\n".to_owned(),
        };
        output.extend_from_slice(text.as_bytes());
    }

    /// Appends the header in version 2.
    ///
    /// # Errors
    /// [`TooLong`](ProxyError::TooLong) if the values are too long. Nothing is appended then.
    pub fn encode_v2(&self, output: &mut Vec<u8>) -> Result<(), ProxyError> {
        let mut addresses = Vec::new();
        let (command, family) = match (self.ends(), &self.source, &self.destination) {
            (Some((SocketAddr::V4(source), SocketAddr::V4(destination))), ..) => {
                addresses.extend_from_slice(&source.ip().octets());
                addresses.extend_from_slice(&destination.ip().octets());
                addresses.extend_from_slice(&source.port().to_be_bytes());
                addresses.extend_from_slice(&destination.port().to_be_bytes());
                (0x21, 0x11)
            }
            (Some((SocketAddr::V6(source), SocketAddr::V6(destination))), ..) => {
                addresses.extend_from_slice(&source.ip().octets());
                addresses.extend_from_slice(&destination.ip().octets());
                addresses.extend_from_slice(&source.port().to_be_bytes());
                addresses.extend_from_slice(&destination.port().to_be_bytes());
                (0x21, 0x21)
            }
            (_, Some(Address::Unix(source)), Some(Address::Unix(destination))) => {
                addresses.extend_from_slice(&unix(source));
                addresses.extend_from_slice(&unix(destination));
                (0x21, 0x31)
            }
            (_, None, None) => (0x20, 0),
            _ => (0x21, 0),
        };
        for (kind, value) in &self.values {
            let length = u16::try_from(value.len()).map_err(|_| ProxyError::TooLong)?;
            addresses.push(*kind);
            addresses.extend_from_slice(&length.to_be_bytes());
            addresses.extend_from_slice(value);
        }
        let length = u16::try_from(addresses.len()).map_err(|_| ProxyError::TooLong)?;
        output.extend_from_slice(SIGNATURE);
        output.extend_from_slice(&[command, family]);
        output.extend_from_slice(&length.to_be_bytes());
        output.extend_from_slice(&addresses);
        Ok(())
    }

    /// Both ends, if they are TCP addresses of the same family.
    fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        let (source, destination) = (
            self.source.as_ref()?.tcp()?,
            self.destination.as_ref()?.tcp()?,
        );
        (source.is_ipv4() == destination.is_ipv4()).then_some((source, destination))
    }
}

fn parse_v1(input: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    let Some(end) = input.iter().take(MOST_V1).position(|&byte| byte == b'\n') else {
        return if input.len() >= MOST_V1 {
            Err(ProxyError::TooLong)
        } else {
            Ok(None)
        };
    };
    let line = input[..end]
        .strip_suffix(b"\r")
        .ok_or(ProxyError::Malformed("a line that does not end with CR LF"))?;
    let line =
        str::from_utf8(line).map_err(|_| ProxyError::Malformed("bytes that are not ASCII"))?;
    let fields: Vec<_> = line.split(' ').collect();
    let header = match fields[..] {
        ["PROXY", "UNKNOWN", ..] => Header::default(),
        ["PROXY", "TCP4", source, destination, from, to] => ends(
            ip::<Ipv4Addr>(source)?,
            ip::<Ipv4Addr>(destination)?,
            port(from)?,
            port(to)?,
        ),
        ["PROXY", "TCP6", source, destination, from, to] => ends(
            ip::<Ipv6Addr>(source)?,
            ip::<Ipv6Addr>(destination)?,
            port(from)?,
            port(to)?,
        ),
        _ => return Err(ProxyError::Malformed("the wrong number or kind of fields")),
    };
    Ok(Some((header, end + 1)))
}

fn ends(source: impl Into<IpAddr>, destination: impl Into<IpAddr>, from: u16, to: u16) -> Header {
    let address = |ip: IpAddr, port| Address::Tcp(SocketAddr::new(ip, port));
    Header::new(
        address(source.into(), from),
        address(destination.into(), to),
    )
}

fn ip<A: FromStr>(text: &str) -> Result<A, ProxyError> {
    text.parse()
        .map_err(|_| ProxyError::Malformed("an invalid address"))
}

/// Parses digits without leading zeros.
fn port(text: &str) -> Result<u16, ProxyError> {
    let plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse()
        .ok()
        .filter(|_| plain)
        .ok_or(ProxyError::Malformed("an invalid port"))
}

fn parse_v2(input: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    let Some(&[version, family, high, low]) = input.get(12..16) else {
        return Ok(None);
    };
    let length = 16 + usize::from(u16::from_be_bytes([high, low]));
    if version >> 4 != 2 {
        return Err(ProxyError::Malformed("a version that is neither 1 nor 2"));
    }
    if length > MOST_V2 {
        return Err(ProxyError::TooLong);
    }
    let Some(content) = input.get(16..length) else {
        return Ok(None);
    };
    // The family and the transport. Datagrams are possible too.
    let (size, ends): (usize, fn(&[u8]) -> Header) = match family {
        0x11 => (12, ends_v4),
        0x21 => (36, ends_v6),
        0x31 => (216, ends_unix),
        _ => (0, |_| Header::default()),
    };
    let header = match version & 15 {
        // LOCAL: skip whatever follows.
        0 => Header::default(),
        1 if content.len() < size => {
            return Err(ProxyError::Malformed("addresses that are too short"));
        }
        1 if size > 0 => Header {
            values: values(&content[size..])?,
            ..ends(content)
        },
        // Section 2.2: to be rejected.
        1 if family >> 4 > 3 || family & 15 > 2 => {
            return Err(ProxyError::Malformed(
                "a family or a transport that does not exist",
            ));
        }
        // No family, or datagrams.
        1 => Header::default(),
        _ => {
            return Err(ProxyError::Malformed(
                "a command that is neither LOCAL nor PROXY",
            ));
        }
    };
    Ok(Some((header, length)))
}

fn ends_v4(content: &[u8]) -> Header {
    let ip = |at: usize| {
        Ipv4Addr::new(
            content[at],
            content[at + 1],
            content[at + 2],
            content[at + 3],
        )
    };
    ends(ip(0), ip(4), number(content, 8), number(content, 10))
}

fn ends_v6(content: &[u8]) -> Header {
    let ip =
        |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&content[at..at + 16]).expect("16 bytes"));
    ends(ip(0), ip(16), number(content, 32), number(content, 34))
}

fn number(content: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([content[at], content[at + 1]])
}

fn ends_unix(content: &[u8]) -> Header {
    let address = |bytes: &[u8]| {
        let end = |bytes: &[u8]| {
            bytes
                .iter()
                .position(|&byte| byte == 0)
                .unwrap_or(bytes.len())
        };
        Address::Unix(match bytes {
            [0, 0, ..] => UnixAddress::Unnamed,
            [0, name @ ..] => UnixAddress::Abstract(name[..end(name)].to_vec()),
            path => UnixAddress::Path(path_from_bytes(&path[..end(path)])),
        })
    };
    Header::new(address(&content[..108]), address(&content[108..216]))
}

fn unix(address: &UnixAddress) -> [u8; 108] {
    let mut bytes = [0; 108];
    let (start, name) = match address {
        UnixAddress::Unnamed => (0, &[][..]),
        UnixAddress::Path(path) => (0, path.as_os_str().as_encoded_bytes()),
        UnixAddress::Abstract(name) => (1, &name[..]),
    };
    let length = name.len().min(bytes.len() - start);
    bytes[start..start + length].copy_from_slice(&name[..length]);
    bytes
}

fn values(mut bytes: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, ProxyError> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        let cut = || ProxyError::Malformed("a truncated value");
        let (&[kind, high, low], rest) = bytes.split_first_chunk().ok_or_else(cut)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        values.push((kind, rest.get(..length).ok_or_else(cut)?.to_vec()));
        bytes = &rest[length..];
    }
    Ok(values)
}

/// Why a peer's PROXY header is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyError {
    /// The bytes are not a PROXY header: the client is not a proxy, or the proxy is not configured
    /// to send one.
    NoHeader,
    /// The header is malformed.
    Malformed(&'static str),
    /// The header is longer than can be accepted or sent.
    TooLong,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyError::NoHeader => f.write_str(
                "the peer did not send a PROXY header; \
                 check that it is the proxy, and is configured to send one",
            ),
            ProxyError::Malformed(what) => write!(f, "the peer sent a PROXY header with {what}"),
            ProxyError::TooLong => f.write_str("the PROXY header is too long"),
        }
    }
}

impl Error for ProxyError {}

impl From<ProxyError> for std::io::Error {
    fn from(error: ProxyError) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}
