//! Connects to servers, directly or through a proxy.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
};

use futures_io::{AsyncRead, AsyncWrite};
use hyper::{
    client::conn::{http1, http2},
    rt::Executor,
};
use url::Url;

use super::{
    ClientError,
    link::{Link, Linked, Outgoing},
    settings::{Settings, without_credentials},
};
use crate::{HeaderValue, HyperIo, credentials, io::window};
use entwined::{
    reactor::Handle,
    transport::{ByteStream, connect_host},
};

/// Sends requests over one connection, in the version of HTTP that it speaks.
pub(super) enum SendRequest {
    One(http1::SendRequest<Outgoing>, Rc<Link>),
    Two(http2::SendRequest<Outgoing>, Rc<Link>),
}

impl SendRequest {
    pub(super) fn link(&self) -> &Rc<Link> {
        match self {
            SendRequest::One(_, link) | SendRequest::Two(_, link) => link,
        }
    }
}

/// Connects to the server of `url` and starts HTTP on the connection.
pub(super) async fn connect(
    settings: &Settings,
    secure: &Secure,
    url: &Url,
) -> Result<SendRequest, ClientError> {
    let starting = async {
        let (stream, two) = reach(settings, secure, url).await?;
        start(settings, stream, two).await
    };
    let started = settings.handle.timeout(settings.connect_timeout, starting);
    let late = |_| ClientError::TimedOut("connecting to the server");
    started.await.map_err(late)?
}

/// Starts HTTP on a connection.
async fn start(
    settings: &Settings,
    stream: Box<dyn ByteStream>,
    two: bool,
) -> Result<SendRequest, ClientError> {
    let handle = &settings.handle;
    let link = Link::new(handle);
    let io = HyperIo(Linked::new(stream, link.clone(), two));
    let driven = link.clone();
    if two {
        let (sender, connection) = http2::Builder::new(Tasks(handle.clone()))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(window(STREAM_WINDOW, settings.max_concurrent))
            .max_header_list_size(MAX_HEAD as u32)
            .handshake(io)
            .await
            .map_err(ClientError::Http)?;
        let connection = Rc::new(RefCell::new(connection));
        let asked = Rc::downgrade(&connection);
        link.takes(move || {
            let connection = asked.upgrade();
            let streams = connection
                .as_ref()
                .and_then(|connection| connection.try_borrow().ok())
                .map(|connection| connection.current_max_send_streams());
            streams.unwrap_or(0)
        });
        let connection = poll_fn(move |cx| Pin::new(&mut *connection.borrow_mut()).poll(cx));
        handle.spawn(async move { driven.drive(connection).await });
        return Ok(SendRequest::Two(sender, link));
    }
    let (sender, connection) = http1::Builder::new()
        // A head of 64 KiB is the most that is read, and so is the most that is parsed at once.
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        // A line may go on in the next one, if that begins with a space (RFC 9112, 5.2).
        .allow_obsolete_multiline_headers_in_responses(true)
        .handshake(io)
        .await
        .map_err(ClientError::Http)?;
    handle.spawn(async move { driven.drive(connection).await });
    Ok(SendRequest::One(sender, link))
}

/// Bytes of a response over HTTP/2 that a server may send before they are read. All responses have
/// as much: one that the program keeps unread must not hold up the others.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// The most bytes of the head of a response.
const MAX_HEAD: usize = 64 * 1024;

/// The most headers of a response of HTTP/1. Each of HTTP/2 counts 32 bytes besides its own (RFC
/// 9113, 6.5.2).
const MAX_HEADERS: usize = 1_000;

/// Returns a stream to the server, and whether it speaks HTTP/2.
async fn reach(
    settings: &Settings,
    secure: &Secure,
    url: &Url,
) -> Result<(Box<dyn ByteStream>, bool), ClientError> {
    let proxy = settings.proxy_for(url);
    let next = proxy.unwrap_or(url);
    let stream = dial(settings, next).await?;
    if url.scheme() == "http" {
        return Ok((stream, settings.prior_knowledge));
    }
    let stream = match proxy {
        Some(proxy) => tunnel(stream, proxy, url).await?,
        None => stream,
    };
    secure.over(settings, stream, url).await
}

fn host(url: &Url) -> &str {
    url.host_str()
        .unwrap_or("")
        .trim_start_matches('[')
        .trim_end_matches(']')
}

async fn dial(settings: &Settings, url: &Url) -> Result<Box<dyn ByteStream>, ClientError> {
    if let Some(dial) = &settings.dial {
        return dial(&without_credentials(url))
            .await
            .map_err(ClientError::Establish);
    }
    let port = url.port_or_known_default().unwrap_or(80);
    let stream = connect_host(&settings.handle, host(url), port)
        .await
        .map_err(ClientError::Host)?;
    // hyper writes a request in one piece, so Nagle's algorithm would only delay it.
    let _ = stream.set_nodelay(true);
    Ok(Box::new(stream))
}

/// Adds TLS to a stream. The connector is built on first use and then kept, because it holds the
/// state that resumes TLS sessions.
#[derive(Default)]
pub(super) struct Secure {
    #[cfg(feature = "tls")]
    connector: std::cell::OnceCell<entwined::tls::Connector>,
}

impl Secure {
    /// Returns the TLS stream, and whether it speaks HTTP/2.
    #[cfg(feature = "tls")]
    async fn over(
        &self,
        settings: &Settings,
        stream: Box<dyn ByteStream>,
        url: &Url,
    ) -> Result<(Box<dyn ByteStream>, bool), ClientError> {
        use entwined::{
            deferred::Interrupted,
            thread::Job,
            tls::{Connector, TlsStream},
        };

        let failed = |error: entwined::tls::Error| ClientError::Establish(io::Error::other(error));
        let connector = match self.connector.get() {
            Some(connector) => connector,
            None => {
                let protocols: &[&str] = if settings.http2 {
                    &["h2", "http/1.1"]
                } else {
                    &["http/1.1"]
                };
                let connector = Connector::builder().protocols(protocols);
                let connector = match &settings.roots {
                    Some(roots) => connector.roots(roots.clone()).build(),
                    // Those of the system are in files, which may be hundreds.
                    None => {
                        let build = move |_: &Job| Ok::<_, Interrupted>(connector.build());
                        let built = settings.handle.defer_to_thread(build).await;
                        built.map_err(ClientError::Interrupted)?
                    }
                };
                let connector = connector.map_err(failed)?;
                self.connector.get_or_init(|| connector)
            }
        };
        let stream = connector.connect(stream, host(url)).map_err(failed)?;
        let mut stream: Box<dyn ByteStream> = Box::new(stream);
        let limit = settings.connect_timeout;
        let established = stream.established(&settings.handle, limit).await;
        established.map_err(ClientError::Establish)?;
        let two = stream.find::<TlsStream>().and_then(TlsStream::protocol) == Some(b"h2");
        Ok((stream, two))
    }

    #[cfg(not(feature = "tls"))]
    async fn over(
        &self,
        _: &Settings,
        _: Box<dyn ByteStream>,
        _: &Url,
    ) -> Result<(Box<dyn ByteStream>, bool), ClientError> {
        Err(ClientError::Url(
            "https needs Entwined's feature `tls`".to_owned(),
        ))
    }
}

/// The value of an `Authorization` for the user name and password in a URL, if there are any.
pub(super) fn credentials(url: &Url) -> Option<HeaderValue> {
    let value = credentials::basic(url.username(), url.password().unwrap_or(""));
    // What is wrong was refused when the URL was read.
    value.ok().flatten()
}

/// The most bytes that the head of a proxy's response may have.
const MOST_ANSWER: usize = 8 * 1024;

/// Asks a proxy for a tunnel to the server (CONNECT).
async fn tunnel(
    mut stream: Box<dyn ByteStream>,
    proxy: &Url,
    url: &Url,
) -> Result<Box<dyn ByteStream>, ClientError> {
    let failed = |error: io::Error| ClientError::Proxy(error.to_string());
    let authority = format!(
        "{}:{}",
        url.host_str().unwrap_or(""),
        url.port_or_known_default().unwrap_or(443)
    );
    let credentials = credentials(proxy);
    let credentials = credentials.as_ref().and_then(|value| value.to_str().ok());
    let credentials = credentials.map_or_else(String::new, |credentials| {
        format!("Proxy-Authorization: {credentials}\r\n")
    });
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{credentials}\r\n");
    let mut rest = request.as_bytes();
    while !rest.is_empty() {
        let count = poll_fn(|cx| AsyncWrite::poll_write(Pin::new(&mut stream), cx, rest))
            .await
            .map_err(failed)?;
        if count == 0 {
            return Err(failed(io::ErrorKind::WriteZero.into()));
        }
        rest = &rest[count..];
    }
    poll_fn(|cx| AsyncWrite::poll_flush(Pin::new(&mut stream), cx))
        .await
        .map_err(failed)?;
    // Reads byte by byte, so that it consumes nothing that comes through the tunnel.
    let (mut answer, mut begin) = (Vec::new(), 0);
    let line = loop {
        // A line may end with LF alone (RFC 9112, 2.2).
        let head = &answer[begin..];
        if head.ends_with(b"\n\r\n") || head.ends_with(b"\n\n") {
            let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next();
            let line = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
            // Interim responses come before the answer (RFC 9110, 15.2).
            let is_interim = |status: &str| status.starts_with('1') && status != "101";
            if !line.split(' ').nth(1).is_some_and(is_interim) {
                break line;
            }
            begin = answer.len();
        }
        let mut byte = [0];
        let count = poll_fn(|cx| AsyncRead::poll_read(Pin::new(&mut stream), cx, &mut byte))
            .await
            .map_err(failed)?;
        if count == 0 || answer.len() >= MOST_ANSWER {
            return Err(ClientError::Proxy(
                "it sent no valid HTTP response".to_owned(),
            ));
        }
        answer.push(byte[0]);
    };
    match line.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(stream),
        _ => Err(ClientError::Proxy(format!("it answered {line:?}"))),
    }
}

/// Spawns hyper's background futures as tasks.
#[derive(Clone)]
struct Tasks(Handle);

impl<F: Future + 'static> Executor<F> for Tasks {
    fn execute(&self, future: F) {
        self.0.spawn(async move { drop(future.await) });
    }
}
