//! Builds and sends requests.

use std::{
    error::Error as _,
    fmt,
    io::{self, ErrorKind},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::body::Incoming;
use serde::Serialize;
use url::Url;

use super::{
    Client, ClientError, ClientResponse,
    connect::{Sender, connect, proxy_credentials},
    parse,
    pool::Pool,
};
use crate::{
    Body, Bytes, HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{
        ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST,
        LOCATION, PROXY_AUTHORIZATION, SET_COOKIE, TRANSFER_ENCODING, USER_AGENT,
    },
    json,
};

/// A request under construction. [`send`](RequestBuilder::send) reports any error in it.
#[must_use = "call `send` to send the request"]
pub struct RequestBuilder {
    client: Client,
    method: Method,
    url: Result<Url, ClientError>,
    headers: HeaderMap,
    body: Content,
    limit: Option<Duration>,
}

/// A request body. It can be sent again only if it is a block of bytes.
enum Content {
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
}

impl RequestBuilder {
    pub(super) fn new(client: Client, method: Method, url: &str) -> Self {
        let url = parse(url);
        RequestBuilder {
            client,
            method,
            url,
            headers: HeaderMap::new(),
            body: Content::Bytes(Bytes::new()),
            limit: None,
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => drop(self.headers.append(name, value)),
            _ => self.fail(ClientError::Request(format!(
                "{name}: {value:?} is not a valid header"
            ))),
        }
        self
    }

    fn fail(&mut self, error: ClientError) {
        if self.url.is_ok() {
            self.url = Err(error);
        }
    }

    /// Adds fields to the query.
    pub fn query(mut self, fields: &impl Serialize) -> Self {
        match (serde_urlencoded::to_string(fields), &mut self.url) {
            (Ok(query), Ok(url)) => {
                let all = url
                    .query()
                    .map_or_else(|| query.clone(), |before| format!("{before}&{query}"));
                url.set_query(Some(&all));
            }
            (Err(error), _) => self.fail(ClientError::Request(format!(
                "the query cannot be encoded: {error}"
            ))),
            (Ok(_), Err(_)) => {}
        }
        self
    }

    /// Sets the body. A streamed body is sent as fast as the server reads it. It cannot be sent
    /// again after a redirect.
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = match body.into().into_bytes() {
            Ok(bytes) => Content::Bytes(bytes),
            Err(body) => Content::Stream(Some(body)),
        };
        self
    }

    fn typed(mut self, content_type: &'static str, bytes: Result<Bytes, String>) -> Self {
        self.headers
            .entry(CONTENT_TYPE)
            .or_insert(HeaderValue::from_static(content_type));
        match bytes {
            Ok(bytes) => self.body = Content::Bytes(bytes),
            Err(error) => self.fail(ClientError::Request(format!(
                "the body cannot be encoded: {error}"
            ))),
        }
        self
    }

    /// Sends a value as JSON.
    pub fn json(self, value: &(impl Serialize + ?Sized)) -> Self {
        let bytes = json::encode(value).map_err(|error| error.to_string());
        self.typed("application/json", bytes)
    }

    /// Sends fields as a form (`application/x-www-form-urlencoded`).
    pub fn form(self, fields: &impl Serialize) -> Self {
        let bytes = serde_urlencoded::to_string(fields)
            .map(Bytes::from)
            .map_err(|error| error.to_string());
        self.typed("application/x-www-form-urlencoded", bytes)
    }

    /// Sends a user name and a password (RFC 7617).
    pub fn basic_auth(self, name: &str, password: &str) -> Self {
        let pair = STANDARD.encode(format!("{name}:{password}"));
        self.header("authorization", &format!("Basic {pair}"))
    }

    /// Sends a bearer token (RFC 6750).
    pub fn bearer_auth(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Sets the timeout until the head of the last response arrives, including all redirects.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.limit = Some(time);
        self
    }

    /// Sends the request and waits for the head of the response.
    ///
    /// # Errors
    /// [`ClientError`]. A response with a status of 4xx or 5xx is not an error.
    pub async fn send(self) -> Result<ClientResponse, ClientError> {
        let handle = self.client.inner.handle.clone();
        match self.limit {
            None => self.follow().await,
            Some(limit) => handle
                .timeout(limit, self.follow())
                .await
                .unwrap_or(Err(ClientError::TimedOut("the response"))),
        }
    }

    /// Sends the request and follows redirects.
    async fn follow(self) -> Result<ClientResponse, ClientError> {
        let RequestBuilder {
            client,
            mut method,
            url,
            mut headers,
            mut body,
            ..
        } = self;
        let settings = &client.inner.settings;
        let mut url = url?;
        if settings.decompress && !headers.contains_key(ACCEPT_ENCODING) {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, br"));
        }
        headers
            .entry(ACCEPT)
            .or_insert(HeaderValue::from_static("*/*"));
        if let Ok(agent) = HeaderValue::from_str(&settings.user_agent) {
            headers.entry(USER_AGENT).or_insert(agent);
        }
        for _ in 0..=settings.redirects {
            let response = client.exchange(&method, &url, &headers, &mut body).await?;
            client.keep_cookies(&url, response.headers());
            let Some(next) = target(&url, &response)? else {
                return Ok(response);
            };
            // The body of a redirect is not needed. Reading it to free the connection would take
            // longer than opening a new one.
            let status = response.status();
            drop(response);
            let drops_body = status == StatusCode::SEE_OTHER
                || (matches!(status, StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND)
                    && method == Method::POST);
            if drops_body {
                if method != Method::HEAD {
                    method = Method::GET;
                }
                body = Content::Bytes(Bytes::new());
                for name in [CONTENT_TYPE, CONTENT_LENGTH, TRANSFER_ENCODING] {
                    headers.remove(name);
                }
            }
            if Pool::key(&next) != Pool::key(&url) {
                // These were meant for the first server only (RFC 9110, 15.4).
                for name in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, HOST] {
                    headers.remove(name);
                }
            }
            url = next;
        }
        Err(ClientError::Redirect(format!(
            "the server redirected more than {} times",
            settings.redirects
        )))
    }
}

/// Returns the target of a redirect (RFC 9110, 15.4).
fn target(url: &Url, response: &ClientResponse) -> Result<Option<Url>, ClientError> {
    use StatusCode as S;
    let redirects = matches!(
        response.status(),
        S::MOVED_PERMANENTLY
            | S::FOUND
            | S::SEE_OTHER
            | S::TEMPORARY_REDIRECT
            | S::PERMANENT_REDIRECT
    );
    let Some(location) = response.headers().get(LOCATION).filter(|_| redirects) else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(location.as_bytes());
    let wrong = || {
        ClientError::Redirect(format!(
            "the server redirects to {text:?}, which is not allowed"
        ))
    };
    let mut next = url.join(&text).map_err(|_| wrong())?;
    if !matches!(next.scheme(), "http" | "https")
        || (url.scheme() == "https" && next.scheme() == "http")
    {
        return Err(wrong());
    }
    if next.fragment().is_none() {
        next.set_fragment(url.fragment());
    }
    Ok(Some(next))
}

/// Whether the server closed the connection before it sent any response.
fn was_closed(error: &hyper::Error) -> bool {
    let source = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    error.is_incomplete_message()
        || matches!(
            source,
            Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
        )
}

impl Client {
    /// Sends one request and returns its response.
    async fn exchange(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        content: &mut Content,
    ) -> Result<ClientResponse, ClientError> {
        let inner = &self.inner;
        let (settings, key) = (&inner.settings, Pool::key(url));
        let by_proxy = settings.proxy_for(url).is_some();
        let turn = inner.pool.turn(&key).await?;
        loop {
            let kept = inner.pool.take(&key);
            let was_kept = kept.is_some();
            let mut sender = match kept {
                Some(sender) => sender,
                None => connect(settings, &inner.connector, url).await?,
            };
            let Some(body) = content.take() else {
                let message = "the server redirects a request whose body cannot be sent again";
                return Err(ClientError::Redirect(message.to_owned()));
            };
            let request = request(
                &sender,
                self.head(method, url, headers)?,
                body,
                url,
                by_proxy,
            );
            let sending = send(&mut sender, request);
            let sent = inner
                .handle
                .timeout(settings.response_timeout, sending)
                .await;
            match sent.map_err(|_| ClientError::TimedOut("the response"))? {
                Ok(response) => {
                    inner.pool.put(&key, sender);
                    let (handle, patience) = (inner.handle.clone(), settings.body_timeout);
                    return Ok(ClientResponse::new(
                        response,
                        url.clone(),
                        handle,
                        patience,
                        settings.decompress,
                        turn,
                    ));
                }
                // The server may have closed a kept connection in the meantime. If nothing was
                // sent, another connection can send it.
                Err((_, Some(unsent))) if was_kept => {
                    if let Content::Stream(body) = content {
                        *body = Some(unsent.into_body());
                    }
                }
                // The server closed while the request was being sent, and may have processed it:
                // RFC 9110, 9.2.2.
                Err((error, None))
                    if was_kept
                        && was_closed(&error)
                        && method.is_idempotent()
                        && matches!(content, Content::Bytes(_)) => {}
                Err((error, _)) => return Err(ClientError::Http(error)),
            }
        }
    }

    fn head(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<::http::request::Parts, ClientError> {
        let (settings, cookies) = (&self.inner.settings, self.inner.cookies.borrow());
        let mut request = ::http::Request::new(());
        *request.method_mut() = method.clone();
        *request.headers_mut() = headers.clone();
        let text = &url[..url::Position::AfterQuery];
        *request.uri_mut() = text
            .parse()
            .map_err(|_| ClientError::Url(format!("{text:?} is not a valid request target")))?;
        let headers = request.headers_mut();
        if settings.cookies && !headers.contains_key(COOKIE) {
            let pairs: Vec<_> = cookies
                .get_request_values(url)
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            if let Some(value) = (!pairs.is_empty())
                .then(|| HeaderValue::from_str(&pairs.join("; ")).ok())
                .flatten()
            {
                headers.insert(COOKIE, value);
            }
        }
        if url.scheme() == "http" {
            let credentials = settings.proxy_for(url).and_then(proxy_credentials);
            if let Some(value) = credentials.and_then(|value| HeaderValue::from_str(&value).ok()) {
                headers.insert(PROXY_AUTHORIZATION, value);
            }
        }
        if !url.username().is_empty() && !headers.contains_key(AUTHORIZATION) {
            let pair = STANDARD.encode(format!(
                "{}:{}",
                url.username(),
                url.password().unwrap_or("")
            ));
            if let Ok(value) = HeaderValue::from_str(&format!("Basic {pair}")) {
                headers.insert(AUTHORIZATION, value);
            }
        }
        Ok(request.into_parts().0)
    }

    fn keep_cookies(&self, url: &Url, headers: &HeaderMap) {
        if !self.inner.settings.cookies {
            return;
        }
        let values = headers
            .get_all(SET_COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let cookies =
            values.filter_map(|value| cookie_store::RawCookie::parse(value.to_owned()).ok());
        self.inner
            .cookies
            .borrow_mut()
            .store_response_cookies(cookies, url);
    }
}

/// Puts a request into the form that its connection needs: RFC 9112, 3.2.
fn request(
    sender: &Sender,
    mut head: ::http::request::Parts,
    body: Body,
    url: &Url,
    by_proxy: bool,
) -> ::http::Request<Body> {
    if let Sender::One(_) = sender {
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        if let Ok(host) = HeaderValue::from_str(authority) {
            head.headers.entry(HOST).or_insert(host);
        }
        if !(by_proxy && url.scheme() == "http") {
            let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
            head.uri = path.parse().unwrap_or(head.uri);
        }
    } else {
        head.headers.remove(HOST);
    }
    ::http::Request::from_parts(head, body)
}

type Unsent = (hyper::Error, Option<::http::Request<Body>>);

async fn send(
    sender: &mut Sender,
    request: ::http::Request<Body>,
) -> Result<::http::Response<Incoming>, Unsent> {
    let sent = match sender {
        Sender::One(sender) => sender.try_send_request(request).await,
        Sender::Two(sender) => sender.try_send_request(request).await,
    };
    sent.map_err(|mut error| {
        let message = error.take_message();
        (error.into_error(), message)
    })
}

impl fmt::Debug for RequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBuilder")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}
