//! What a client was told to do.

use std::{future::Future, io, pin::Pin, rc::Rc, time::Duration};

use entwined::{reactor::Handle, transport::ByteStream};
use url::Url;

use super::ClientError;

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
    pub(super) no_proxy: Vec<String>,
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

/// Parses the URL of a server.
pub(super) fn parse(text: &str) -> Result<Url, ClientError> {
    let url = Url::parse(text).map_err(|error| {
        ClientError::Url(format!("{:?} is not a valid URL: {error}", hide(text)))
    })?;
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

/// Hides what may be a user name and password in a text that may not be a URL.
pub(super) fn hide(text: &str) -> String {
    let begin = text.find("//").map_or(0, |place| place + 2);
    let end = text[begin..].find(['/', '?', '#']);
    let end = end.map_or(text.len(), |place| begin + place);
    // A password may contain the characters that end an authority, if somebody forgot to encode it.
    let at = text[begin..end].rfind('@').map(|place| begin + place);
    match at.or_else(|| text.rfind('@').filter(|place| *place >= begin)) {
        Some(at) => format!("{}***{}", &text[..begin], &text[at..]),
        None => text.to_owned(),
    }
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
}
