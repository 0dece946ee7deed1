//! An HTTP/1.1 and HTTP/2 client (feature `client`).
//!
//! ```
//! use entwined::{Standalone, transport::tcp};
//! use entwined_http::{self as http, Json, Router, client::Client};
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let sum = |Json(all): Json<Vec<i64>>| Json(all.iter().sum::<i64>());
//! let router = Router::new().post("/sum", sum);
//! let server = http::serve(tcp::listen(&handle, "127.0.0.1:0")?, router);
//!
//! let client = Client::new(&handle);
//! let url = format!("http://{}/sum", server.local_address());
//! handle.clone().spawn(async move {
//!     let mut response = client.post(&url).json(&[1, 2, 3]).send().await.expect("a response");
//!     assert_eq!(response.json::<i64>().await.expect("a number"), 6);
//!     handle.stop();
//! });
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Connections are kept and reused. HTTP/2 is used if the server offers it by ALPN, and then one
//! connection carries all requests to a host, or as many connections as its limit of streams makes
//! necessary. The client follows redirects, decompresses gzip and brotli bodies, and keeps cookies
//! if you [ask for it](Builder::cookies). Every wait has a timeout and everything that is kept has
//! a limit: see [`Builder`]. If you need a [`Deferred`](entwined::deferred::Deferred) instead of a
//! future, see [`Handle::defer`].
//!
//! A request is sent again, at most 16 times, only if that is safe and its body is in memory or was
//! not touched:
//! - if nothing of it had been sent;
//! - if the server has not processed it, and says so (GOAWAY and REFUSED_STREAM, RFC 9113, 6.8 and
//!   8.7);
//! - if it went over a kept connection that ended before anything of the response came, and the
//!   method is idempotent (RFC 9110, 9.2.2).
//!
//! A user name and password in a URL are sent in the header `Authorization`, or to a proxy in
//! `Proxy-Authorization`, and appear nowhere else.

mod connect;
mod date;
mod decode;
mod error;
mod exchange;
mod jar;
mod link;
mod pool;
mod request;
mod response;
mod settings;

use std::{fmt, future::Future, io, rc::Rc, time::Duration};

pub use error::ClientError;
pub use request::RequestBuilder;
pub use response::ClientResponse;
use url::Url;

use self::{
    exchange::Inner,
    settings::{Direct, Settings, parse, without_credentials},
};
use super::Method;
use entwined::{reactor::Handle, transport::ByteStream};

/// An HTTP client. Cheap to clone; clones share their connections and cookies.
#[derive(Clone)]
pub struct Client {
    inner: Rc<Inner>,
}

/// The settings of a [`Client`]. Created by [`Client::builder`].
#[derive(Clone)]
#[must_use = "call `build` to make the client"]
pub struct Builder {
    settings: Settings,
}

impl Client {
    /// Creates a client with the default settings of [`Builder`].
    pub fn new(handle: &Handle) -> Self {
        Client::builder(handle).build()
    }

    /// Starts to build a client with other settings.
    pub fn builder(handle: &Handle) -> Builder {
        Builder {
            settings: Settings::new(handle),
        }
    }

    /// Starts a request. [`send`](RequestBuilder::send) sends it, and also reports an invalid URL,
    /// and the method CONNECT, which would open a tunnel.
    pub fn request(&self, method: Method, url: &str) -> RequestBuilder {
        RequestBuilder::new(self.inner.clone(), method, url)
    }

    /// Starts a GET request.
    pub fn get(&self, url: &str) -> RequestBuilder {
        self.request(Method::GET, url)
    }

    /// Starts a POST request.
    pub fn post(&self, url: &str) -> RequestBuilder {
        self.request(Method::POST, url)
    }

    /// Starts a PUT request.
    pub fn put(&self, url: &str) -> RequestBuilder {
        self.request(Method::PUT, url)
    }

    /// Starts a PATCH request.
    pub fn patch(&self, url: &str) -> RequestBuilder {
        self.request(Method::PATCH, url)
    }

    /// Starts a HEAD request.
    pub fn head(&self, url: &str) -> RequestBuilder {
        self.request(Method::HEAD, url)
    }

    /// Starts a DELETE request.
    pub fn delete(&self, url: &str) -> RequestBuilder {
        self.request(Method::DELETE, url)
    }

    /// The number of open connections, both idle and in use.
    pub fn connections(&self) -> usize {
        self.inner.connections()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        f.debug_struct("Builder")
            .field("http2", &settings.http2)
            .field("max_redirects", &settings.max_redirects)
            .field("max_concurrent", &settings.max_concurrent)
            .field("proxy", &settings.proxy.as_ref().and_then(Url::host_str))
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// Trusts these certificate authorities instead of the system's.
    #[cfg(feature = "tls")]
    pub fn roots(mut self, roots: entwined::tls::Roots) -> Self {
        self.settings.roots = Some(roots);
        self
    }

    /// Sets whether HTTP/2 is offered to servers by ALPN. The default is true.
    pub fn http2(mut self, http2: bool) -> Self {
        self.settings.http2 = http2;
        self
    }

    /// Speaks HTTP/2 to every `http://` server, without negotiation.
    pub fn http2_prior_knowledge(mut self) -> Self {
        self.settings.prior_knowledge = true;
        self
    }

    /// Keeps cookies (RFC 6265) for the lifetime of the client.
    ///
    /// A domain that is shared by many owners, such as `co.uk` or `github.io`, gets no cookies for
    /// all of it. The list of these is inside the program, as it was when the crate `psl` was
    /// published, and is not updated at run time. A cookie may have 4,096 bytes, a domain 50
    /// cookies, and the client 1,000 cookies and 1 MiB; beyond that, the oldest are dropped. A
    /// response may set 50; further ones are ignored. The header `Cookie` has at most 8 KiB.
    pub fn cookies(mut self) -> Self {
        self.settings.cookies = true;
        self
    }

    /// Sets whether the client asks for gzip and brotli bodies and decompresses them. The default
    /// is true. A request with the header `Range` does not ask for them, and a part (206) is never
    /// decompressed. Brotli windows of more than 16 MiB ("large windows") are refused; those of
    /// more than 256 KiB are decompressed on a thread of the pool.
    pub fn decompress(mut self, decompress: bool) -> Self {
        self.settings.decompress = decompress;
        self
    }

    /// Sets how many redirects are followed for a request. The default is 10. With 0, none is, and
    /// the response is the redirect: see its `Location`.
    pub fn max_redirects(mut self, count: usize) -> Self {
        self.settings.max_redirects = count;
        self
    }

    /// Sets the timeout for connecting to a server, including all handshakes. The default is 10 s.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.settings.connect_timeout = time;
        self
    }

    /// Sets the timeout for the head of a response. It counts from when the whole request is sent.
    /// Before that, it limits how long the server may take none of the request's body. The default
    /// is 60 s.
    pub fn response_timeout(mut self, time: Duration) -> Self {
        self.settings.response_timeout = time;
        self
    }

    /// Sets the timeout for each piece of a response's body. The default is 60 s.
    pub fn body_timeout(mut self, time: Duration) -> Self {
        self.settings.body_timeout = time;
        self
    }

    /// Sets how many bytes of a body, decompressed, are read as a whole: by
    /// [`bytes`](ClientResponse::bytes), [`text`](ClientResponse::text) and
    /// [`json`](ClientResponse::json). The default is 64 MiB.
    pub fn max_body_size(mut self, bytes: usize) -> Self {
        self.settings.max_body_size = bytes;
        self
    }

    /// Sets how many idle connections are kept, to all hosts together. Beyond that, those that have
    /// been idle for the longest are closed. The default is 64.
    pub fn max_idle(mut self, count: usize) -> Self {
        self.settings.max_idle = count;
        self
    }

    /// Sets how many idle connections to one host are kept. The default is 8.
    pub fn max_idle_per_host(mut self, count: usize) -> Self {
        self.settings.max_idle_per_host = count;
        self
    }

    /// Sets how long an idle connection is kept, from the end of its last response. The default is
    /// 30 s.
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.settings.idle_timeout = time;
        self
    }

    /// Sets how many requests to one host may be in flight at a time; at least 1. Further requests
    /// wait in order. The default is 64.
    pub fn max_concurrent(mut self, count: usize) -> Self {
        self.settings.max_concurrent = count.max(1);
        self
    }

    /// Sets how many requests to one host may wait for their turn. Further ones fail at once with
    /// [`ClientError::TooManyWaiting`]. A request that is dropped or has timed out no longer waits.
    /// The default is 1,024.
    pub fn max_waiting(mut self, count: usize) -> Self {
        self.settings.max_waiting = count;
        self
    }

    /// Sets the value of `User-Agent`. The default is `entwined/` and the version.
    pub fn user_agent(mut self, text: &str) -> Self {
        self.settings.user_agent = text.to_owned();
        self
    }

    /// Sends everything through this HTTP proxy, such as `http://proxy.example:3128`: `http`
    /// requests directly, `https` requests through a tunnel (CONNECT, RFC 9110, 9.3.6). A user name
    /// and password in the URL are sent to the proxy.
    ///
    /// # Errors
    /// [`ClientError::Url`].
    pub fn proxy(mut self, url: &str) -> Result<Self, ClientError> {
        self.settings.proxy = Some(parse(url).and_then(|url| {
            if url.scheme() == "http" {
                Ok(url)
            } else {
                Err(ClientError::Url(format!(
                    "{} is not an HTTP proxy; its URL must begin with http://",
                    without_credentials(&url)
                )))
            }
        })?);
        Ok(self)
    }

    /// Sets the hosts that are reached without the proxy: names, each of which also covers all
    /// names below it, and IP addresses, each with or without a port; or `*` for all. How they are
    /// written does not matter: `.example.org`, `*.example.org` and `Example.ORG.` are the same,
    /// and so are `::1` and `[0::1]`. An empty one, as in a list that ends with a comma, is none.
    pub fn no_proxy(mut self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.settings.no_proxy = hosts
            .into_iter()
            .filter_map(|host| Direct::parse(&host.into()))
            .collect();
        self
    }

    /// Uses `connect` instead of TCP to make connections: for example over a Unix socket, over a
    /// socket that another program passed on, or in memory. `connect` gets the URL of the server or
    /// the proxy. For `https`, TLS runs on top of the connection; the timeouts are the same.
    ///
    /// ```
    /// # use entwined::{Handle, transport::{ByteStream, unix}};
    /// # use entwined_http::client::Client;
    /// fn of_the_container_engine(handle: &Handle) -> Client {
    ///     let socket = handle.clone();
    ///     Client::builder(handle)
    ///         .connector(move |_| {
    ///             let socket = socket.clone();
    ///             async move {
    ///                 let stream = unix::connect(&socket, "/run/docker.sock").await?;
    ///                 Ok(Box::new(stream) as Box<dyn ByteStream>)
    ///             }
    ///         })
    ///         .build()
    /// }
    /// ```
    pub fn connector<F, Fut>(mut self, connect: F) -> Self
    where
        F: Fn(&str) -> Fut + 'static,
        Fut: Future<Output = io::Result<Box<dyn ByteStream>>> + 'static,
    {
        self.settings.dial = Some(Rc::new(move |url: &Url| Box::pin(connect(url.as_str()))));
        self
    }

    /// Makes the client.
    pub fn build(self) -> Client {
        Client {
            inner: Rc::new(Inner::new(self.settings)),
        }
    }
}
