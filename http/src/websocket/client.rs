//! WebSocket clients.

use std::{
    error, fmt,
    future::poll_fn,
    io::{self, Read, Write},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use futures_io::{AsyncRead, AsyncWrite};
use tungstenite::{
    client::IntoClientRequest,
    handshake::{
        client::{Response, generate_request},
        derive_accept_key,
        machine::{HandshakeMachine, RoundResult, StageResult},
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
        over_tls(stream, host)?
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
fn over_tls(
    stream: entwined::transport::Stream,
    host: &str,
) -> Result<Box<dyn ByteStream>, ConnectError> {
    let connector = entwined::tls::Connector::builder().build();
    let stream = connector.and_then(|connector| connector.connect(stream, host));
    Ok(Box::new(stream.map_err(|error| {
        ConnectError::Address(error.to_string())
    })?))
}

#[cfg(not(feature = "tls"))]
fn over_tls(_: entwined::transport::Stream, _: &str) -> Result<Box<dyn ByteStream>, ConnectError> {
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
    stream: Box<dyn ByteStream>,
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
    let begin = HandshakeMachine::start_write(Blocking::new(stream), request);
    let mut machine = Some(begin);
    let shaken = poll_fn(|cx| {
        let Some(mut at) = machine.take() else {
            return Poll::Pending;
        };
        at.get_mut().keep(cx);
        loop {
            at = match at.single_round::<Response>().map_err(refused)? {
                RoundResult::WouldBlock(at) => {
                    machine = Some(at);
                    return Poll::Pending;
                }
                RoundResult::Incomplete(at) => at,
                RoundResult::StageFinished(StageResult::DoneWriting(stream)) => {
                    HandshakeMachine::start_read(stream)
                }
                RoundResult::StageFinished(StageResult::DoneReading {
                    result,
                    mut stream,
                    tail,
                }) => {
                    stream.begin = [&tail[..], &stream.begin].concat().into();
                    if is_final(&result) {
                        return Poll::Ready(Ok((result, stream)));
                    }
                    HandshakeMachine::start_read(stream)
                }
            };
        }
    });
    let shaken = handle.timeout(config.connect_timeout, shaken).await;
    let (response, Blocking { stream, begin, .. }) = shaken.unwrap_or(Err(ConnectError::TimedOut))?;
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

/// Whether no other answer follows this one (RFC 9110, 15.2).
fn is_final(response: &Response) -> bool {
    let status = response.status();
    !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
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

/// Adapts a stream to the blocking traits that tungstenite uses for the handshake. It returns
/// `WouldBlock` instead of blocking, and wakes the task that polled last.
struct Blocking {
    stream: Box<dyn ByteStream>,
    waker: Waker,
    /// What was read and is still to be parsed.
    begin: Bytes,
}

impl Blocking {
    fn new(stream: Box<dyn ByteStream>) -> Self {
        Blocking {
            stream,
            waker: Waker::noop().clone(),
            begin: Bytes::new(),
        }
    }

    fn keep(&mut self, cx: &Context<'_>) {
        self.waker.clone_from(cx.waker());
    }

    fn poll<T>(
        &mut self,
        poll: impl FnOnce(Pin<&mut Box<dyn ByteStream>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<T> {
        match poll(
            Pin::new(&mut self.stream),
            &mut Context::from_waker(&self.waker),
        ) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Read for Blocking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.begin.is_empty() {
            return self.poll(|stream, cx| stream.poll_read(cx, buffer));
        }
        let count = buffer.len().min(self.begin.len());
        self.begin
            .split_to(count)
            .copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

impl Write for Blocking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.poll(|stream, cx| stream.poll_write(cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.poll(AsyncWrite::poll_flush)
    }
}
