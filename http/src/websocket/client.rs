//! WebSocket clients.

use std::{error, fmt, future::poll_fn, io, pin::Pin};

use futures_io::{AsyncRead, AsyncWrite};
use tungstenite::{
    client::IntoClientRequest,
    handshake::{
        client::{Response, generate_request},
        derive_accept_key,
        machine::TryParse,
    },
    http::{
        HeaderValue, StatusCode, Uri,
        header::{
            AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
            SEC_WEBSOCKET_PROTOCOL, UPGRADE,
        },
    },
};

use super::{Config, WebSocket, frame::Role};
use crate::{authority, credentials, log::hide};
use entwined::{
    reactor::Handle,
    transport::{ByteStream, HostError, connect_host},
};

/// Why a WebSocket could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is not a WebSocket address such as `ws://example.org/path`, or it is `wss` and
    /// the program was built without the feature `tls`.
    Address(String),
    /// The connection to the host failed.
    Host(HostError),
    /// The connection failed before the server answered.
    Stream(io::Error),
    /// The server's response does not accept a WebSocket.
    Refused(String),
    /// The server did not answer within [`Config::connect_timeout`].
    TimedOut,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Address(what) => f.write_str(what),
            ConnectError::Host(source) => source.fmt(f),
            ConnectError::Stream(source) => write!(f, "the connection failed: {source}"),
            ConnectError::Refused(what) => write!(f, "the server did not open a WebSocket: {what}"),
            ConnectError::TimedOut => f.write_str("the server did not answer in time"),
        }
    }
}

impl error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            ConnectError::Host(source) => Some(source),
            ConnectError::Stream(source) => Some(source),
            ConnectError::Address(_) | ConnectError::Refused(_) | ConnectError::TimedOut => None,
        }
    }
}

/// Opens a WebSocket at an address such as `ws://example.org/path`. With `wss`, the server's
/// certificate must come from an authority that this system trusts. Connecting may take 30 s, and
/// so may the handshake. A user name and a password in the address are sent in the header
/// `Authorization`.
///
/// # Errors
/// [`ConnectError`].
pub async fn connect(handle: &Handle, address: &str) -> Result<WebSocket, ConnectError> {
    let uri: Uri = address.parse().map_err(|_| {
        let shown = hide(address);
        ConnectError::Address(format!("{shown:?} is not a WebSocket address"))
    })?;
    let host = uri
        .host()
        .unwrap_or("")
        .trim_start_matches('[')
        .trim_end_matches(']');
    let (default, secure) = match uri.scheme_str() {
        Some("ws") => (80, false),
        Some("wss") => (443, true),
        _ => {
            let shown = hide(address);
            return Err(ConnectError::Address(format!(
                "{shown:?} does not begin with ws:// or wss://"
            )));
        }
    };
    let Some(port) = port(&uri, default) else {
        let shown = hide(address);
        return Err(ConnectError::Address(format!(
            "the port in {shown:?} is not valid"
        )));
    };
    let stream = connect_host(handle, host, port)
        .await
        .map_err(ConnectError::Host)?;
    let stream: Box<dyn ByteStream> = if secure {
        over_tls(handle, stream, host).await?
    } else {
        Box::new(stream)
    };
    connect_with(handle, stream, address, Config::default()).await
}

/// The port of an address; `None` if what is there is none, which [`Uri`] takes for a missing one.
fn port(uri: &Uri, default: u16) -> Option<u16> {
    let authority = uri.authority()?.as_str();
    let (_, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    match authority::split(place)?.1 {
        None | Some("") => Some(default),
        Some(port) => port.parse().ok(),
    }
}

#[cfg(feature = "tls")]
async fn over_tls(
    handle: &Handle,
    stream: entwined::transport::Stream,
    host: &str,
) -> Result<Box<dyn ByteStream>, ConnectError> {
    use entwined::{deferred::Interrupted, tls::Connector};

    // The authorities of the system are in files, which may be hundreds.
    let built = handle.defer_to_thread(|_| Ok::<_, Interrupted>(Connector::builder().build()));
    let connector = built
        .await
        .map_err(|why| ConnectError::Stream(io::Error::other(why)))?;
    let stream = connector.and_then(|connector| connector.connect(stream, host));
    Ok(Box::new(stream.map_err(|error| {
        ConnectError::Address(error.to_string())
    })?))
}

#[cfg(not(feature = "tls"))]
async fn over_tls(
    _: &Handle,
    _: entwined::transport::Stream,
    _: &str,
) -> Result<Box<dyn ByteStream>, ConnectError> {
    Err(ConnectError::Address(
        "wss needs Entwined's feature `tls`".to_owned(),
    ))
}

/// Opens a WebSocket over an existing stream, with your own limits and subprotocols. `address` is
/// what the request names to the server, with a user name and a password if there are any.
///
/// # Errors
/// [`ConnectError`].
pub async fn connect_with(
    handle: &Handle,
    mut stream: Box<dyn ByteStream>,
    address: &str,
    config: Config,
) -> Result<WebSocket, ConnectError> {
    let mut request = address
        .into_client_request()
        .map_err(|error| ConnectError::Address(error.to_string()))?;
    *request.uri_mut() = with_path(request.uri());
    if let Some(value) = credentials(request.uri())? {
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    if !config.protocols.is_empty() {
        let names = HeaderValue::from_str(&config.protocols.join(", ")).map_err(|_| {
            ConnectError::Address("the name of a subprotocol is not valid in a header".to_owned())
        })?;
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, names);
    }
    tungstenite::client::uri_mode(request.uri()).map_err(refused)?;
    let (request, key) = generate_request(request).map_err(refused)?;
    let shaking = async {
        ask(&mut stream, &request)
            .await
            .map_err(ConnectError::Stream)?;
        answer(&mut stream).await
    };
    let shaken = handle.timeout(config.connect_timeout, shaking).await;
    let (response, begin) = shaken.unwrap_or(Err(ConnectError::TimedOut))?;
    let protocol = check(&response, &key, &config.protocols)?;
    Ok(WebSocket::new(
        handle,
        stream,
        &begin,
        Role::Client,
        &config,
        protocol,
    ))
}

/// The most bytes of the heads of the answer and of the interim ones before it.
const MAX_HEAD: usize = 64 * 1024;

/// Sends the request.
async fn ask(stream: &mut Box<dyn ByteStream>, mut request: &[u8]) -> io::Result<()> {
    while !request.is_empty() {
        let writing = poll_fn(|cx| AsyncWrite::poll_write(Pin::new(&mut *stream), cx, request));
        match writing.await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => request = &request[count..],
        }
    }
    poll_fn(|cx| AsyncWrite::poll_flush(Pin::new(&mut *stream), cx)).await
}

/// Reads the head of the answer. Returns it with the bytes behind it.
async fn answer(stream: &mut Box<dyn ByteStream>) -> Result<(Response, Vec<u8>), ConnectError> {
    let refused_for = |what: &str| Err(ConnectError::Refused(what.to_owned()));
    let (mut buffer, mut seen, mut all) = (vec![0; 4 * 1024], Vec::new(), 0);
    loop {
        let reading = poll_fn(|cx| AsyncRead::poll_read(Pin::new(&mut *stream), cx, &mut buffer));
        let count = reading.await.map_err(ConnectError::Stream)?;
        if count == 0 {
            return refused_for("it ended the connection before its answer was complete");
        }
        all += count;
        seen.extend_from_slice(&buffer[..count]);
        // A head ends with a line, however many pieces a line comes in.
        let mut lines = buffer[..count].contains(&b'\n');
        while lines {
            match Response::try_parse(&seen).map_err(refused)? {
                None => lines = false,
                Some((size, response)) => {
                    let rest = seen.split_off(size);
                    let status = response.status();
                    // Interim answers come before it (RFC 9110, 15.2).
                    if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                        return Ok((response, rest));
                    }
                    seen = rest;
                }
            }
        }
        if all > MAX_HEAD {
            return refused_for("the head of its answer is too long");
        }
    }
}

/// Checks that the response opens a WebSocket (RFC 6455, 4.1), and returns the subprotocol.
fn check(response: &Response, key: &str, asked: &[String]) -> Result<Option<String>, ConnectError> {
    let refused = |what: &str| Err(ConnectError::Refused(what.to_owned()));
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return refused(&format!("it answered {}", response.status()));
    }
    let headers = response.headers();
    let is = |value: &HeaderValue, text: &str| {
        let value = value.as_bytes().trim_ascii();
        value.eq_ignore_ascii_case(text.as_bytes())
    };
    if !headers.get(UPGRADE).is_some_and(|it| is(it, "websocket")) {
        return refused("it switches to another protocol");
    }
    // A list: some servers name more.
    let mut options = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    if !options.any(|option| option.trim().eq_ignore_ascii_case("upgrade")) {
        return refused("it does not switch to another protocol");
    }
    let accept = derive_accept_key(key.as_bytes());
    if headers
        .get(SEC_WEBSOCKET_ACCEPT)
        .is_none_or(|it| it != accept.as_str())
    {
        return refused("its Sec-WebSocket-Accept is not that of the request");
    }
    // None is offered.
    let mut extensions = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter();
    if extensions.any(|value| !value.as_bytes().trim_ascii().is_empty()) {
        return refused("it uses an extension that was not offered");
    }
    match headers.get(SEC_WEBSOCKET_PROTOCOL) {
        None if asked.is_empty() => Ok(None),
        None => refused("it speaks none of the subprotocols"),
        Some(name) => match asked.iter().find(|asked| name == asked.as_str()) {
            Some(name) => Ok(Some(name.clone())),
            None => refused("it speaks a subprotocol that was not offered"),
        },
    }
}

/// The address with the path `/` if it has none before its query (RFC 9112, 3.2.1).
fn with_path(uri: &Uri) -> Uri {
    let mut parts = uri.clone().into_parts();
    let target = parts.path_and_query.as_ref().map_or("/", |it| it.as_str());
    if target.starts_with('/') {
        return uri.clone();
    }
    parts.path_and_query = format!("/{target}").parse().ok();
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

/// The value of `Authorization` for the user name and password in an address, if there are any.
fn credentials(uri: &Uri) -> Result<Option<HeaderValue>, ConnectError> {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let (user, _) = authority.rsplit_once('@').unwrap_or_default();
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    credentials::basic(name, password).map_err(|wrong| ConnectError::Address(wrong.to_owned()))
}

fn refused(error: tungstenite::Error) -> ConnectError {
    match error {
        tungstenite::Error::Io(source) => ConnectError::Stream(source),
        other => ConnectError::Refused(other.to_string()),
    }
}
