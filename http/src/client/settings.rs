//! What a client was told to do.

use std::{future::Future, io, pin::Pin, rc::Rc, time::Duration};

use entwined::{reactor::Handle, transport::ByteStream};
use url::{Host, Url};

use super::ClientError;
use crate::{authority, credentials, log::hide};

/// A caller's own connector, used in place of TCP.
pub(super) type Dial =
    dyn Fn(&Url) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn ByteStream>>>>>;

/// The settings of a client, with their defaults.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) handle: Handle,
    #[cfg(feature = "tls")]
    pub(super) roots: Option<entwined::tls::Roots>,
    pub(super) http2: bool,
    pub(super) prior_knowledge: bool,
    pub(super) cookies: bool,
    pub(super) decompress: bool,
    pub(super) max_redirects: usize,
    pub(super) connect_timeout: Duration,
    pub(super) response_timeout: Duration,
    pub(super) body_timeout: Duration,
    pub(super) max_body_size: usize,
    pub(super) max_idle: usize,
    pub(super) max_idle_per_host: usize,
    pub(super) idle_timeout: Duration,
    pub(super) max_concurrent: usize,
    pub(super) max_waiting: usize,
    pub(super) user_agent: String,
    pub(super) proxy: Option<Url>,
    pub(super) no_proxy: Vec<Direct>,
    pub(super) dial: Option<Rc<Dial>>,
}

impl Settings {
    pub(super) fn new(handle: &Handle) -> Self {
        Settings {
            handle: handle.clone(),
            #[cfg(feature = "tls")]
            roots: None,
            http2: true,
            prior_knowledge: false,
            cookies: false,
            decompress: true,
            max_redirects: 10,
            connect_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            max_body_size: 64 * 1024 * 1024,
            max_idle: 64,
            max_idle_per_host: 8,
            idle_timeout: Duration::from_secs(30),
            max_concurrent: 64,
            max_waiting: 1_024,
            user_agent: concat!("entwined/", env!("CARGO_PKG_VERSION")).to_owned(),
            proxy: None,
            no_proxy: Vec::new(),
            dial: None,
        }
    }

    /// The proxy for a URL, if it is not reached directly.
    pub(super) fn proxy_for(&self, url: &Url) -> Option<&Url> {
        self.proxy
            .as_ref()
            .filter(|_| !self.no_proxy.iter().any(|direct| direct.covers(url)))
    }
}

/// What is reached without the proxy.
#[derive(Clone)]
pub(super) enum Direct {
    All,
    /// A name with all below it, or an address; and the port, if only that one.
    Host(Host, Option<u16>),
}

impl Direct {
    /// Returns `None` for what is not a host.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == "*" {
            return Some(Direct::All);
        }
        if let Ok(address) = text.parse() {
            return Some(Direct::Host(Host::Ipv6(address), None));
        }
        let name = text.strip_prefix('*').unwrap_or(text);
        let (name, port) = authority::split(name.trim_start_matches('.'))?;
        let host = Host::parse(name.trim_end_matches('.'));
        let port = port.map(str::parse).transpose();
        let (Ok(host), Ok(port)) = (host, port) else {
            if !text.is_empty() {
                tracing::warn!(
                    host = text,
                    "this is not a host, so it is not without a proxy"
                );
            }
            return None;
        };
        Some(Direct::Host(host, port))
    }

    fn covers(&self, url: &Url) -> bool {
        let Direct::Host(host, port) = self else {
            return true;
        };
        let same = match (host, url.host()) {
            (Host::Domain(name), Some(Host::Domain(host))) => host
                .trim_end_matches('.')
                .strip_suffix(name.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            (Host::Ipv4(one), Some(Host::Ipv4(other))) => *one == other,
            (Host::Ipv6(one), Some(Host::Ipv6(other))) => *one == other,
            _ => false,
        };
        same && port.is_none_or(|port| url.port_or_known_default() == Some(port))
    }
}

/// Parses the URL of a server.
pub(super) fn parse(text: &str) -> Result<Url, ClientError> {
    let url = Url::parse(text).map_err(|error| {
        ClientError::Url(format!("{:?} is not a valid URL: {error}", hide(text)))
    })?;
    credentials::basic(url.username(), url.password().unwrap_or(""))
        .map_err(|wrong| ClientError::Url(wrong.to_owned()))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        other => Err(ClientError::Url(format!(
            "{:?} has the scheme {other:?}, not http or https",
            hide(text)
        ))),
    }
}

/// The URL without the user name and password, which belong into no request target (RFC 9110,
/// 4.2.4) and no log.
pub(super) fn without_credentials(url: &Url) -> Url {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_no_passwords() {
        for wrong in [
            "http://user:secret@",
            "http://user:secret@host:port/",
            "ftp://user:secret@host/",
            "user:secret@host",
            "http://user:sec/ret@host:99999/",
            "//user:secret@host/x",
        ] {
            let error = parse(wrong).expect_err("no URL").to_string();
            assert!(!error.contains("sec"), "{error}");
            assert!(!error.contains("ret@"), "{error}");
        }
        assert_eq!(hide("http://host/a"), "http://host/a");
    }

    #[test]
    fn a_host_without_proxy_may_be_written_as_people_do() {
        let reactor = entwined::Standalone::new().expect("a reactor");
        let direct = |names: &[&str], url: &str| {
            let builder = super::super::Client::builder(&reactor.handle());
            let builder = builder.proxy("http://proxy.test").expect("a proxy");
            let builder = builder.no_proxy(names.iter().copied());
            builder
                .settings
                .proxy_for(&parse(url).expect("a URL"))
                .is_none()
        };
        for (name, url) in [
            ("example.com", "http://example.com/"),
            ("example.com", "http://a.b.example.com/"),
            ("example.com", "http://EXAMPLE.com./"),
            ("Example.com.", "http://a.example.com/"),
            (".example.com", "http://a.example.com/"),
            ("*.example.com", "http://a.example.com/"),
            (" example.com ", "http://example.com/"),
            ("bücher.example", "http://a.xn--bcher-kva.example/"),
            ("*", "http://anything.test/"),
            ("::1", "http://[::1]:8080/"),
            ("[::1]", "http://[::1]/"),
            ("0:0::1", "http://[::1]/"),
            ("127.0.0.1", "http://127.0.0.1/"),
            ("127.0.0.1", "http://0x7f.1/"),
            ("localhost:8080", "http://localhost:8080/"),
            ("[::1]:443", "https://[::1]/"),
        ] {
            assert!(direct(&[name], url), "{name} and {url}");
        }
        for (name, url) in [
            ("example.com", "http://anexample.com/"),
            ("example.com", "http://example.com.evil.test/"),
            ("", "http://example.com./"),
            ("", "http://example.com/"),
            (".", "http://example.com./"),
            ("1", "http://127.0.0.1/"),
            ("0.0.1", "http://127.0.0.1/"),
            ("::1", "http://[::2]/"),
            ("localhost:8080", "http://localhost/"),
        ] {
            assert!(!direct(&[name], url), "{name} and {url}");
        }
    }
}
