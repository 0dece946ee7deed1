//! A client of HTTP/1.1 and HTTP/2 (feature `client`).
//!
//! ```
//! use entwined::{Standalone, transport::tcp};
//! use entwined_http::{self as http, Json, Router, client::Client};
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let router = Router::new().post("/sum", |Json(all): Json<Vec<i64>>| Json(all.iter().sum::<i64>()));
//! let server = http::serve(tcp::listen(&handle, ([127, 0, 0, 1], 0).into())?, router);
//!
//! let client = Client::new(&handle);
//! let url = format!("http://{}/sum", server.local_address());
//! handle.clone().spawn(async move {
//!     let mut response = client.post(&url).json(&[1, 2, 3]).send().await.expect("a response");
//!     assert_eq!(response.json::<i64>().await.expect("a number"), 6);
//!     handle.stop().expect("the reactor runs");
//! }).detach();
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Connections are kept and used again; of HTTP/2, which is spoken where the server offers it by
//! ALPN, one carries all requests to a host. Redirects are followed, cookies are kept if that is
//! [asked for](Builder::cookies), bodies that come by gzip or brotli are unpacked. What waits has a
//! limit of time, and what is kept one of number: see [`Builder`]. For a
//! [`Deferred`](entwined::deferred::Deferred) instead of a future see [`Handle::defer`].
//!
//! A request is sent a second time only when that does no harm: when nothing of it had been sent,
//! or when its connection had been kept, the server closed it at that moment, and the method is
//! idempotent (RFC 9110, 9.2.2).

mod connect;
mod decode;
mod error;
mod pool;
mod request;
mod response;

use std::{cell::RefCell, fmt, future::Future, io, rc::Rc, time::Duration};

pub use error::ClientError;
pub use request::RequestBuilder;
pub use response::ClientResponse;
use url::Url;

use self::{
    connect::{Dial, Secure},
    pool::Pool,
};
use super::Method;
use entwined::{reactor::Handle, transport::ByteStream};

/// A client. Cheap to clone; clones share their connections and cookies.
#[derive(Clone)]
pub struct Client {
    inner: Rc<Inner>,
}

struct Inner {
    handle: Handle,
    settings: Builder,
    pool: Rc<Pool>,
    cookies: RefCell<cookie_store::CookieStore>,
    connector: Secure,
}

/// How a client behaves. Made by [`Client::builder`].
#[derive(Clone)]
#[must_use = "it makes a client when it is built"]
pub struct Builder {
    handle: Handle,
    #[cfg(feature = "tls")]
    roots: Option<entwined::tls::Roots>,
    http2: bool,
    prior_knowledge: bool,
    cookies: bool,
    decompress: bool,
    redirects: usize,
    connect_timeout: Duration,
    response_timeout: Duration,
    body_timeout: Duration,
    idle: usize,
    idle_timeout: Duration,
    at_a_time: usize,
    user_agent: String,
    proxy: Option<Url>,
    no_proxy: Vec<String>,
    dial: Option<Rc<Dial>>,
}

impl Client {
    /// A client as [`Builder`] begins.
    pub fn new(handle: &Handle) -> Self {
        Client::builder(handle).build()
    }

    /// For a client that behaves otherwise.
    pub fn builder(handle: &Handle) -> Builder {
        Builder {
            handle: handle.clone(),
            #[cfg(feature = "tls")]
            roots: None,
            http2: true,
            prior_knowledge: false,
            cookies: false,
            decompress: true,
            redirects: 10,
            connect_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            idle: 8,
            idle_timeout: Duration::from_secs(30),
            at_a_time: 64,
            user_agent: concat!("entwined/", env!("CARGO_PKG_VERSION")).to_owned(),
            proxy: None,
            no_proxy: Vec::new(),
            dial: None,
        }
    }

    /// A request; it is sent by [`send`](RequestBuilder::send). A wrong address is told then.
    pub fn request(&self, method: Method, url: &str) -> RequestBuilder {
        RequestBuilder::new(self.clone(), method, url)
    }

    /// A GET request.
    pub fn get(&self, url: &str) -> RequestBuilder {
        self.request(Method::GET, url)
    }

    /// A POST request.
    pub fn post(&self, url: &str) -> RequestBuilder {
        self.request(Method::POST, url)
    }

    /// A PUT request.
    pub fn put(&self, url: &str) -> RequestBuilder {
        self.request(Method::PUT, url)
    }

    /// A DELETE request.
    pub fn delete(&self, url: &str) -> RequestBuilder {
        self.request(Method::DELETE, url)
    }

    /// Connections that are kept, in use or not.
    pub fn connections(&self) -> usize {
        self.inner.pool.len()
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
        f.debug_struct("Builder").finish_non_exhaustive()
    }
}

impl Builder {
    /// Trusts these authorities, instead of those of the system.
    #[cfg(feature = "tls")]
    pub fn roots(mut self, roots: entwined::tls::Roots) -> Self {
        self.roots = Some(roots);
        self
    }

    /// Whether HTTP/2 is offered to servers by ALPN. True.
    pub fn http2(mut self, http2: bool) -> Self {
        self.http2 = http2;
        self
    }

    /// Speaks HTTP/2 to every `http://`, also without having asked.
    pub fn http2_prior_knowledge(mut self) -> Self {
        self.prior_knowledge = true;
        self
    }

    /// Keeps cookies (RFC 6265), as long as the client is there.
    pub fn cookies(mut self) -> Self {
        self.cookies = true;
        self
    }

    /// Whether bodies by gzip and brotli are asked for and unpacked. True.
    pub fn decompress(mut self, decompress: bool) -> Self {
        self.decompress = decompress;
        self
    }

    /// How many redirects are followed. 10.
    pub fn redirects(mut self, most: usize) -> Self {
        self.redirects = most;
        self
    }

    /// How long it may take to reach a server, with all handshakes. 10 s.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// How long the head of a response may take, from when the request is sent. 60 s.
    pub fn response_timeout(mut self, time: Duration) -> Self {
        self.response_timeout = time;
        self
    }

    /// How long each piece of a response's body may take. 60 s.
    pub fn body_timeout(mut self, time: Duration) -> Self {
        self.body_timeout = time;
        self
    }

    /// Connections to a host that are kept while they are not used, and for how long. 8, 30 s.
    pub fn idle(mut self, most: usize, time: Duration) -> Self {
        (self.idle, self.idle_timeout) = (most, time);
        self
    }

    /// Requests to a host that are under way at a time; more wait, in order. 64.
    pub fn at_a_time(mut self, most: usize) -> Self {
        self.at_a_time = most.max(1);
        self
    }

    /// What `User-Agent` says. `entwined/` and the version.
    pub fn user_agent(mut self, text: &str) -> Self {
        self.user_agent = text.to_owned();
        self
    }

    /// Sends everything by this HTTP proxy, such as `http://proxy.example:3128`: `http` requests as
    /// they are, `https` through a tunnel (CONNECT, RFC 9110, 9.3.6). A name and a password in it
    /// are told to the proxy.
    ///
    /// # Errors
    /// [`ClientError::Url`].
    pub fn proxy(mut self, url: &str) -> Result<Self, ClientError> {
        self.proxy = Some(parse(url).and_then(|url| {
            if url.scheme() == "http" {
                Ok(url)
            } else {
                Err(ClientError::Url(format!("{url} is no HTTP proxy")))
            }
        })?);
        Ok(self)
    }

    /// Hosts that are reached without the proxy: names, which stand for all below them too.
    pub fn no_proxy(mut self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.no_proxy = hosts
            .into_iter()
            .map(|host| host.into().trim_start_matches('.').to_ascii_lowercase())
            .collect();
        self
    }

    /// Has `connect` make the connections instead of TCP to the address's host: over a Unix socket,
    /// over one that another program handed on, or in memory. It is told the address of the server,
    /// or of the proxy. TLS comes above it for `https`, and the limits of time are the same.
    ///
    /// ```
    /// # use entwined::{Handle, transport::{ByteStream, unix}};
    /// # use entwined_http::client::Client;
    /// fn of_the_container_engine(handle: &Handle) -> Client {
    ///     let socket = handle.clone();
    ///     Client::builder(handle)
    ///         .connector(move |_| {
    ///             let socket = socket.clone();
    ///             async move { Ok(Box::new(unix::connect(&socket, "/run/docker.sock").await?) as Box<dyn ByteStream>) }
    ///         })
    ///         .build()
    /// }
    /// ```
    pub fn connector<F, Fut>(mut self, connect: F) -> Self
    where
        F: Fn(&str) -> Fut + 'static,
        Fut: Future<Output = io::Result<Box<dyn ByteStream>>> + 'static,
    {
        self.dial = Some(Rc::new(move |url: &Url| Box::pin(connect(url.as_str()))));
        self
    }

    /// The client.
    pub fn build(self) -> Client {
        let pool = Pool::new(&self.handle, self.idle, self.idle_timeout, self.at_a_time);
        let (cookies, connector) = (RefCell::default(), Secure::default());
        let inner = Inner {
            handle: self.handle.clone(),
            settings: self,
            pool,
            cookies,
            connector,
        };
        Client {
            inner: Rc::new(inner),
        }
    }

    fn proxy_for(&self, url: &Url) -> Option<&Url> {
        let host = url.host_str().unwrap_or("").to_ascii_lowercase();
        let below = |name: &str| {
            host.strip_suffix(name)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.proxy
            .as_ref()
            .filter(|_| !self.no_proxy.iter().any(|name| below(name)))
    }
}

fn parse(text: &str) -> Result<Url, ClientError> {
    let url = Url::parse(text)
        .map_err(|error| ClientError::Url(format!("{text:?} is no address: {error}")))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        other => Err(ClientError::Url(format!(
            "{text:?} is of the kind {other:?}, not http or https"
        ))),
    }
}
