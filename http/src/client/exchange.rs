//! One request and its response, over a kept connection or a new one.

use std::{
    cell::RefCell,
    error::Error as _,
    io::{self, ErrorKind},
    rc::Rc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::body::Incoming;
use url::Url;

use super::{
    ClientError, ClientResponse,
    connect::{Secure, SendRequest, connect, proxy_credentials},
    pool::Pool,
    settings::Settings,
};
use crate::{
    Body, Bytes, HeaderMap, HeaderValue, Method,
    header::{AUTHORIZATION, COOKIE, HOST, PROXY_AUTHORIZATION, SET_COOKIE},
};

/// What the clones of a client share.
pub(super) struct Inner {
    pub(super) settings: Settings,
    pool: Rc<Pool>,
    cookies: RefCell<cookie_store::CookieStore>,
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
}

impl Inner {
    pub(super) fn new(settings: Settings) -> Self {
        let pool = Pool::new(
            &settings.handle,
            settings.max_idle,
            settings.idle_timeout,
            settings.max_concurrent,
        );
        Inner {
            settings,
            pool,
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
        loop {
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
            let request = request(
                &sender,
                self.head(method, url, headers)?,
                body,
                url,
                by_proxy,
            );
            let sending = send(&mut sender, request);
            let timeout = settings.response_timeout;
            let sent = settings.handle.timeout(timeout, sending).await;
            match sent.map_err(|_| ClientError::TimedOut("the response"))? {
                Ok(response) => {
                    self.pool.put(&key, sender);
                    let (handle, patience) = (settings.handle.clone(), settings.body_timeout);
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
        let (settings, cookies) = (&self.settings, self.cookies.borrow());
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

    pub(super) fn keep_cookies(&self, url: &Url, headers: &HeaderMap) {
        if !self.settings.cookies {
            return;
        }
        let values = headers
            .get_all(SET_COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let cookies =
            values.filter_map(|value| cookie_store::RawCookie::parse(value.to_owned()).ok());
        self.cookies
            .borrow_mut()
            .store_response_cookies(cookies, url);
    }
}

/// Puts a request into the form that its connection needs: RFC 9112, 3.2.
fn request(
    sender: &SendRequest,
    mut head: ::http::request::Parts,
    body: Body,
    url: &Url,
    by_proxy: bool,
) -> ::http::Request<Body> {
    if let SendRequest::One(_) = sender {
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
    sender: &mut SendRequest,
    request: ::http::Request<Body>,
) -> Result<::http::Response<Incoming>, Unsent> {
    let sent = match sender {
        SendRequest::One(sender) => sender.try_send_request(request).await,
        SendRequest::Two(sender) => sender.try_send_request(request).await,
    };
    sent.map_err(|mut error| {
        let message = error.take_message();
        (error.into_error(), message)
    })
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
