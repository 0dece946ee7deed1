//! One request and its response, over a kept connection or a new one.

use std::{
    cell::RefCell,
    error::Error as _,
    future::{Future, poll_fn},
    io,
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use http_body::Body as _;
use hyper::body::Incoming;
use url::Url;

use super::{
    ClientError, ClientResponse,
    connect::{Secure, SendRequest, connect, credentials},
    jar::Jar,
    link::{Exchange, Outgoing, Upload, is_end},
    pool::Pool,
    settings::{Settings, without_credentials},
};
use crate::{
    Body, Bytes, HeaderMap, HeaderValue, Method, StatusCode, Uri,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, PROXY_AUTHORIZATION,
        TRANSFER_ENCODING,
    },
    headers::content_length,
    times::later,
    unread::Grace,
};

/// What the clones of a client share.
pub(super) struct Inner {
    pub(super) settings: Settings,
    pool: Rc<Pool>,
    cookies: RefCell<Jar>,
    secure: Secure,
}

/// A request body. It can be sent again only if it is a block of bytes.
pub(super) enum Content {
    Bytes(Bytes),
    Stream(Option<Body>),
}

impl Content {
    /// Returns the body to send, or `None` if a stream was already sent.
    fn take(&mut self) -> Option<Body> {
        match self {
            Content::Bytes(bytes) => Some(bytes.clone().into()),
            Content::Stream(body) => body.take(),
        }
    }

    /// Whether it can be sent once more.
    fn is_repeatable(&self) -> bool {
        !matches!(self, Content::Stream(None))
    }
}

impl Inner {
    pub(super) fn new(settings: Settings) -> Self {
        Inner {
            pool: Pool::new(&settings),
            settings,
            cookies: RefCell::default(),
            secure: Secure::default(),
        }
    }

    /// The number of open connections.
    pub(super) fn connections(&self) -> usize {
        self.pool.len()
    }

    /// Sends one request and returns its response.
    pub(super) async fn exchange(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        content: &mut Content,
    ) -> Result<ClientResponse, ClientError> {
        let (settings, key) = (&self.settings, Pool::key(url));
        let by_proxy = settings.proxy_for(url).is_some();
        let turn = self.pool.turn(&key).await?;
        let mut tries = 0;
        loop {
            tries += 1;
            let kept = self.pool.take(&key);
            let was_kept = kept.is_some();
            let mut sender = match kept {
                Some(sender) => sender,
                None => connect(settings, &self.secure, url).await?,
            };
            let Some(body) = content.take() else {
                let message = "the server redirects a request whose body cannot be sent again";
                return Err(ClientError::Redirect(message.to_owned()));
            };
            let link = sender.link().clone();
            let upload = Upload::new(&settings.handle);
            let request = request(
                &sender,
                self.head(method, url, headers)?,
                Outgoing::new(body, &upload),
                url,
                by_proxy,
            );
            let shared = matches!(sender, SendRequest::Two(..));
            let exchange = Exchange::new(&link, &upload, shared);
            let before = link.bytes_read();
            let sent = self.send(&mut sender, request, &exchange).await?;
            let again = match sent {
                Ok(response) => {
                    // The server gave the kept connection up while the request was on its way (RFC
                    // 9110, 15.5.9).
                    let late = response.status() == StatusCode::REQUEST_TIMEOUT
                        && was_kept
                        && !shared
                        && method.is_idempotent()
                        && content.is_repeatable();
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        // What comes now is not HTTP, and nobody takes it.
                        let message = "it has switched to another protocol";
                        let error = io::Error::new(io::ErrorKind::InvalidData, message);
                        return Err(ClientError::Establish(error));
                    }
                    if !late || tries > MAX_TRIES {
                        if let Some(error) = foreign_coding(response.headers()) {
                            return Err(error);
                        }
                        exchange.answered(!shared && closes(response.headers()));
                        self.pool.put(&key, sender);
                        return Ok(ClientResponse::new(
                            response, method, url, settings, exchange, turn,
                        ));
                    }
                    Again::Now
                }
                Err((error, unsent)) => {
                    // Nothing of the response has come. HTTP/2 streams fail by themselves, so bytes
                    // of others do not count.
                    let silent = shared || link.bytes_read() == before;
                    let again = match again(&error) {
                        _ if unsent.is_some() && was_kept => Again::Now,
                        // The server may have processed it: RFC 9110, 9.2.2.
                        Again::IfIdempotent if was_kept && silent && method.is_idempotent() => {
                            Again::Now
                        }
                        Again::IfIdempotent => Again::No,
                        again => again,
                    };
                    if let (Content::Stream(body), Some(unsent)) = (&mut *content, unsent) {
                        *body = Some(unsent.into_body().into_body());
                    }
                    if matches!(again, Again::No) || tries > MAX_TRIES || !content.is_repeatable() {
                        return Err(ClientError::Http(error));
                    }
                    again
                }
            };
            if let Again::Later = again {
                self.pool.put(&key, sender);
                // The server has enough to do. It is asked again less and less often.
                let pause = Duration::from_millis(5 << tries.min(8));
                settings.handle.sleep(pause).await;
            } else {
                self.pool.retire(&key, &link);
            }
        }
    }

    /// Sends a request and waits for the head of the response. The time that the server takes for
    /// the body of the request does not count, as long as it takes some of it.
    async fn send(
        &self,
        sender: &mut SendRequest,
        request: ::http::Request<Outgoing>,
        exchange: &Exchange,
    ) -> Result<Result<::http::Response<Incoming>, Unsent>, ClientError> {
        let (handle, timeout) = (&self.settings.handle, self.settings.response_timeout);
        let mut sending = pin!(send(sender, request));
        loop {
            let due = later(exchange.progress(), timeout);
            match handle.timeout_at(due, sending.as_mut()).await {
                Ok(sent) => return Ok(sent),
                Err(_) if later(exchange.progress(), timeout) > handle.now() => {}
                Err(_) => {
                    let mut grace = Grace::default();
                    let last = poll_fn(|cx| match sending.as_mut().poll(cx) {
                        Poll::Ready(sent) => Poll::Ready(Some(sent)),
                        Poll::Pending => exchange.poll_late(cx, &mut grace).map(|()| None),
                    });
                    if let Some(sent) = last.await {
                        return Ok(sent);
                    }
                    exchange.is_late();
                    return Err(ClientError::TimedOut("the response"));
                }
            }
        }
    }

    fn head(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<::http::request::Parts, ClientError> {
        let settings = &self.settings;
        let mut request = ::http::Request::new(());
        *request.method_mut() = method.clone();
        *request.headers_mut() = headers.clone();
        // A target without the user name and password (RFC 9110, 4.2.4).
        let plain = without_credentials(url);
        let text = &plain[..url::Position::AfterQuery];
        *request.uri_mut() = text
            .parse()
            .map_err(|_| ClientError::Url(format!("{text:?} is not a valid request target")))?;
        let headers = request.headers_mut();
        if settings.cookies && !headers.contains_key(COOKIE) {
            let cookies = self.cookies.borrow().header(url);
            let value = HeaderValue::from_bytes(&cookies);
            if let (false, Ok(mut value)) = (cookies.is_empty(), value) {
                value.set_sensitive(true);
                headers.insert(COOKIE, value);
            }
        }
        if url.scheme() == "http" {
            if let Some(value) = settings.proxy_for(url).and_then(credentials) {
                headers.insert(PROXY_AUTHORIZATION, value);
            }
        }
        if let Some(value) = credentials(url) {
            headers.entry(AUTHORIZATION).or_insert(value);
        }
        Ok(request.into_parts().0)
    }

    pub(super) fn keep_cookies(&self, url: &Url, headers: &HeaderMap) {
        if !self.settings.cookies {
            return;
        }
        self.cookies.borrow_mut().keep(url, headers);
    }
}

/// Puts a request into the form that its connection needs: RFC 9112, 3.2.
fn request(
    sender: &SendRequest,
    mut head: ::http::request::Parts,
    body: Outgoing,
    url: &Url,
    by_proxy: bool,
) -> ::http::Request<Outgoing> {
    // hyper trusts what these say of the body. Only the length of a stream is the program's to say.
    head.headers.remove(TRANSFER_ENCODING);
    if body.size_hint().exact().is_some() || content_length(&head.headers).is_none() {
        head.headers.remove(CONTENT_LENGTH);
    }
    // Some servers ask for a length where content is usual (RFC 9110, 8.6).
    let is_usual = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
    if is_usual && body.size_hint().exact() == Some(0) {
        head.headers.insert(CONTENT_LENGTH, 0.into());
    }
    if let SendRequest::One(..) = sender {
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        if let Ok(host) = HeaderValue::from_str(authority) {
            head.headers.entry(HOST).or_insert(host);
        }
        if !(by_proxy && url.scheme() == "http") {
            let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
            head.uri = path.parse().unwrap_or(head.uri);
        }
    } else if let Some(host) = head.headers.remove(HOST) {
        // The program's own name of the server: RFC 9113, 8.3.1.
        let mut parts = head.uri.clone().into_parts();
        parts.authority = host.to_str().ok().and_then(|host| host.parse().ok());
        if let (true, Ok(uri)) = (parts.authority.is_some(), Uri::from_parts(parts)) {
            head.uri = uri;
        }
    }
    ::http::Request::from_parts(head, body)
}

type Unsent = (hyper::Error, Option<::http::Request<Outgoing>>);

async fn send(
    sender: &mut SendRequest,
    request: ::http::Request<Outgoing>,
) -> Result<::http::Response<Incoming>, Unsent> {
    let sent = match sender {
        SendRequest::One(sender, _) => sender.try_send_request(request).await,
        SendRequest::Two(sender, _) => sender.try_send_request(request).await,
    };
    sent.map_err(|mut error| {
        let message = error.take_message();
        (error.into_error(), message)
    })
}

/// How often a request is sent at most, beyond the first time.
const MAX_TRIES: u32 = 16;

/// Whether a request that failed is sent again.
enum Again {
    No,
    /// If repeating it is safe: the server may have processed it.
    IfIdempotent,
    /// The server has not processed it. Another connection is used.
    Now,
    /// The server has not processed it, because it has too many.
    Later,
}

/// What an error says about the server's work on the request. hyper does not tell which requests a
/// server has not processed (RFC 9113, 6.8 and 8.7), so the error below it is asked.
fn again(error: &hyper::Error) -> Again {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            if error.is_remote() && error.is_go_away() {
                return Again::Now;
            }
            if error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM) {
                return Again::Later;
            }
            return match error.get_io() {
                Some(error) if is_end(error.kind()) => Again::IfIdempotent,
                _ => Again::No,
            };
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            if is_end(error.kind()) {
                return Again::IfIdempotent;
            }
        }
        source = cause.source();
    }
    if error.is_incomplete_message() {
        Again::IfIdempotent
    } else {
        Again::No
    }
}

/// The error if the content has a transfer coding other than `chunked`. None is asked for (RFC
/// 9112, 7.4), and hyper passes the coded bytes on.
fn foreign_coding(headers: &HeaderMap) -> Option<ClientError> {
    let all = headers.get_all(TRANSFER_ENCODING).iter();
    let codings: Vec<_> = all.map(HeaderValue::as_bytes).collect();
    let codings = codings.join(&b", "[..]);
    (!codings.is_empty() && !codings.eq_ignore_ascii_case(b"chunked")).then(|| {
        let coding = String::from_utf8_lossy(&codings);
        ClientError::Decode(format!("it has the transfer coding {coding:?}"))
    })
}

/// Whether the server closes the connection after this response.
fn closes(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CONNECTION).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("close"))
}
