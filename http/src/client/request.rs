//! Builds and sends requests.

use std::{fmt, rc::Rc, time::Duration};

use serde::Serialize;
use url::Url;

use super::{
    ClientError, ClientResponse,
    exchange::{Content, Inner},
    pool::Pool,
    settings::parse,
};
use crate::{
    Body, Bytes, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, credentials,
    header::{
        ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, LOCATION,
        PROXY_AUTHORIZATION, RANGE, USER_AGENT,
    },
    json,
    log::hide,
};

/// A request under construction. [`send`](RequestBuilder::send) reports any error in it.
#[must_use = "call `send` to send the request"]
pub struct RequestBuilder {
    client: Rc<Inner>,
    method: Method,
    url: Result<Url, ClientError>,
    headers: HeaderMap,
    body: Content,
    timeout: Option<Duration>,
}

impl RequestBuilder {
    pub(super) fn new(client: Rc<Inner>, method: Method, url: &str) -> Self {
        let url = parse(url);
        RequestBuilder {
            client,
            method,
            url,
            headers: HeaderMap::new(),
            body: Content::Bytes(Bytes::new()),
            timeout: None,
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(mut value)) => {
                if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(&name) {
                    value.set_sensitive(true);
                }
                self.headers.append(name, value);
            }
            (Err(_), _) => self.fail(ClientError::Request(format!(
                "{name:?} is not a valid header name"
            ))),
            // The value may be a secret.
            (_, Err(_)) => self.fail(ClientError::Request(format!(
                "the value of the header {name} is not valid"
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
            // No field changes nothing, not even by a `?`.
            (Ok(query), Ok(_)) if query.is_empty() => {}
            (Ok(query), Ok(url)) => {
                let before = url.query().filter(|before| !before.is_empty());
                let all = before.map_or_else(|| query.clone(), |it| format!("{it}&{query}"));
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

    /// Sends a user name and a password (RFC 7617), in place of other credentials. A name with a
    /// colon is an error: the server would take what comes behind it for a part of the password.
    /// So are control characters.
    pub fn basic_auth(mut self, name: &str, password: &str) -> Self {
        match credentials::pair(name, password) {
            Ok(value) => drop(self.headers.insert(AUTHORIZATION, value)),
            Err(wrong) => self.fail(ClientError::Request(wrong.to_owned())),
        }
        self
    }

    /// Sends a bearer token (RFC 6750), in place of other credentials.
    pub fn bearer_auth(mut self, token: &str) -> Self {
        self.headers.remove(AUTHORIZATION);
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Sets the timeout for the whole exchange: all redirects, and the body of the last response
    /// until it has been read. What came in time while the host held the thread may be read for a
    /// second longer. Without it, only single waits are limited: see [`Builder`](super::Builder).
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = Some(time);
        self
    }

    /// Sends the request and waits for the head of the response.
    ///
    /// # Errors
    /// [`ClientError`]. A response with a status of 4xx or 5xx is not an error.
    pub async fn send(self) -> Result<ClientResponse, ClientError> {
        let handle = self.client.settings.handle.clone();
        match self.timeout {
            None => self.follow().await,
            Some(timeout) => {
                let end = handle.after(timeout);
                let answered = handle.timeout_at(end, self.follow()).await;
                let mut response =
                    answered.map_err(|_| ClientError::TimedOut("the response"))??;
                response.set_end(end);
                Ok(response)
            }
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
        let settings = &client.settings;
        let mut url = url?;
        if method == Method::CONNECT {
            let message = "a request with the method CONNECT would open a tunnel";
            return Err(ClientError::Request(message.to_owned()));
        }
        if settings.decompress && !headers.contains_key(ACCEPT_ENCODING) {
            // A part of a compressed body cannot be decompressed.
            let codings = if headers.contains_key(RANGE) {
                "identity"
            } else {
                "gzip, br"
            };
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(codings));
        }
        headers
            .entry(ACCEPT)
            .or_insert(HeaderValue::from_static("*/*"));
        if let Ok(agent) = HeaderValue::from_str(&settings.user_agent) {
            headers.entry(USER_AGENT).or_insert(agent);
        }
        for _ in 0..=settings.max_redirects {
            let response = client.exchange(&method, &url, &headers, &mut body).await?;
            client.keep_cookies(&url, response.headers());
            if settings.max_redirects == 0 {
                return Ok(response);
            }
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
                // What describes the body goes with it (RFC 9110, 15.4).
                let described = headers.keys().filter(|name| describes_body(name));
                for name in described.cloned().collect::<Vec<_>>() {
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
            settings.max_redirects
        )))
    }
}

fn describes_body(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("content-")
        || matches!(
            name,
            "digest" | "expect" | "last-modified" | "repr-digest" | "trailer" | "transfer-encoding"
        )
}

/// Returns the target of a redirect (RFC 9110, 15.4). A user name and password stay with the server
/// that they are for; those that a server names are not used.
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
    let text = text_of(location.as_bytes());
    let wrong = || {
        ClientError::Redirect(format!(
            "the server redirects to {:?}, which is not allowed",
            hide(&text)
        ))
    };
    let mut next = url.join(&text).map_err(|_| wrong())?;
    if !matches!(next.scheme(), "http" | "https")
        || (url.scheme() == "https" && next.scheme() == "http")
    {
        return Err(wrong());
    }
    let same = Pool::key(&next) == Pool::key(url);
    let (name, password) = if same {
        (url.username(), url.password())
    } else {
        ("", None)
    };
    // A URL with a host takes both.
    let _ = next.set_username(name);
    let _ = next.set_password(password);
    if next.fragment().is_none() {
        next.set_fragment(url.fragment());
    }
    Ok(Some(next))
}

/// The text of a header that is a URI. Bytes that are neither ASCII nor UTF-8 go back to the server
/// as they came, percent-encoded: another character for them would be another resource.
fn text_of(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
    }
    let encoded = bytes.iter().map(|byte| match byte.is_ascii() {
        true => char::from(*byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    encoded.collect()
}

impl fmt::Debug for RequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBuilder")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}
