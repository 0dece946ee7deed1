//! Protects servers that are meant for this machine's user only.

use std::fmt;

use super::{
    super::{
        Error, HeaderValue, IntoResponse, Layer, Method, Next, Request, Response, ResponseFuture,
        StatusCode, authority,
        header::{LOCATION, SET_COOKIE, WWW_AUTHENTICATE},
        origin,
    },
    auth::{credentials, same_secret},
    cookies,
    random::{hex, random},
};

/// Restricts a server to this machine's user. Created by [`local_only`].
#[derive(Clone)]
pub struct LocalOnly {
    names: Vec<String>,
    origins: Vec<String>,
    token: Option<String>,
}

/// Keeps foreign web pages, and other machines, away from a server on this machine. Listening on
/// the loopback interface is not enough: any page that the user opens can send requests there, and
/// can read the responses by DNS rebinding.
///
/// - The host of a request must be `localhost`, a loopback address, or a name that was
///   [added](LocalOnly::name). Otherwise, or if the request names no host, the response is 421.
/// - A request must come from a page of this server, or from no page at all. Browsers tell: if
///   `Origin` is another one, or `Sec-Fetch-Site` is `cross-site` or `same-site` (another port of
///   this machine), the response is 403, for every method. This also keeps pages from embedding
///   scripts, images and frames of this server, and from measuring its answers. Other pages may be
///   [allowed](LocalOnly::origin).
/// - One such request is admitted: to follow a link, that is GET with `Sec-Fetch-Mode: navigate`
///   and `Sec-Fetch-Dest: document`. Links in mails and on other pages work; so **GET must not
///   change anything**.
/// - A peer on another machine gets 403, unless a name was added or a token is required: whoever
///   adds a name wants to be reached by it.
/// - With a [token](LocalOnly::token), only requests that carry the token are admitted. Others get
///   a 401. This also keeps out other users of the machine.
///
/// Browsers older than 2023 do not send `Sec-Fetch-Site` (nor do others to names that are not
/// loopback, without TLS). They can still embed what is there; a token keeps them out.
///
/// ```
/// use entwined_http::{Router, layers};
///
/// let local = layers::local_only().token();
/// println!("http://localhost:8080/?token={}", local.secret().expect("it has one"));
/// let router = Router::new().get("/", || "hello").layer(local);
/// ```
pub fn local_only() -> LocalOnly {
    LocalOnly {
        names: Vec::new(),
        origins: Vec::new(),
        token: None,
    }
}

/// Without the token.
impl fmt::Debug for LocalOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalOnly")
            .field("names", &self.names)
            .field("token", &self.token.is_some())
            .finish_non_exhaustive()
    }
}

impl LocalOnly {
    /// Adds a name or an address of this machine. How it is written does not matter, and neither
    /// does a port.
    ///
    /// # Panics
    /// Panics if this is not a name or an address of a host.
    #[must_use]
    #[track_caller]
    pub fn name(mut self, name: &str) -> Self {
        let form = authority::host(name).unwrap_or_else(|| panic!("{name:?} is not a host"));
        self.names.push(form);
        self
    }

    /// Admits scripts on pages of this origin, such as `https://example.org`. They also need
    /// [`cors`](super::cors) to read responses; put that layer inside of this one.
    #[must_use]
    pub fn origin(mut self, origin: &str) -> Self {
        self.origins.push(origin.to_owned());
        self
    }

    /// Requires a token, which is generated now. A client sends it as `?token=` with the first
    /// page, and then as a cookie that this sets; or as `Authorization: Bearer`. Each call makes a
    /// new token, so pages that were opened before the program was started again are refused; see
    /// [`with_token`](LocalOnly::with_token).
    #[must_use]
    pub fn token(mut self) -> Self {
        self.token = Some(hex(&random::<16>()));
        self
    }

    /// Requires this token: the [secret](LocalOnly::secret) of an earlier start, which the program
    /// has kept where only its user can read it. Pages that stay open then go on after a restart.
    ///
    /// # Panics
    /// If it has fewer than 16 characters, or others than letters, digits, `-` and `_`: it must not
    /// be guessed, and it stands in URLs and cookies.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        assert!(
            token.len() >= 16 && token.bytes().all(fine),
            "a token has at least 16 letters, digits, `-` and `_`"
        );
        self.token = Some(token.to_owned());
        self
    }

    /// The token, if one is required.
    pub fn secret(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// `host` is in its canonical form.
    fn is_ours(&self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address: Option<std::net::IpAddr> = bare.parse().ok();
        address.is_some_and(|address| address.is_loopback())
            || host == "localhost"
            || host.ends_with(".localhost")
            || self.names.iter().any(|name| name == host)
    }

    fn refusal(&self, request: &Request) -> Option<Error> {
        if request.host().is_none_or(|host| !self.is_ours(host)) {
            return Some(Error::new(
                StatusCode::MISDIRECTED_REQUEST,
                "this server only answers requests for this machine's own names",
            ));
        }
        let peer = request.peer_address().tcp();
        let is_far = peer.is_some_and(|peer| !peer.ip().to_canonical().is_loopback());
        if is_far && self.names.is_empty() && self.token.is_none() {
            return Some(Error::new(
                StatusCode::FORBIDDEN,
                "this server only answers requests from this machine",
            ));
        }
        let foreign = match origin::of(request, &self.origins) {
            origin::From::Allowed => false,
            origin::From::Elsewhere => true,
            origin::From::Here | origin::From::Unnamed => {
                is_of_another_page(request) && !follows_a_link(request)
            }
        };
        foreign.then(|| {
            Error::new(
                StatusCode::FORBIDDEN,
                "pages of other sites must not send this request",
            )
        })
    }

    /// Whether the request carries the token, and whether in the query.
    fn admitted(&self, request: &Request) -> Admitted {
        let Some(token) = &self.token else {
            return Admitted::Yes;
        };
        let is_it = |given: &str| same_secret(given, token);
        if credentials(request, "bearer").is_some_and(is_it) {
            return Admitted::Yes;
        }
        // A token is hexadecimal, so its value needs no decoding (RFC 6265, 4.2.1).
        if cookies::values(request, &self.cookie_name(request)).any(is_it) {
            return Admitted::Yes;
        }
        let query = request.uri().query().unwrap_or("");
        let mut given = query
            .split('&')
            .filter_map(|pair| pair.strip_prefix("token="));
        if given.any(is_it) {
            Admitted::ByQuery
        } else {
            Admitted::No
        }
    }

    /// Cookies do not depend on the port, and several such servers may run on one machine.
    fn cookie_name(&self, request: &Request) -> String {
        let port = request
            .authority()
            .and_then(authority::split)
            .and_then(|(_, port)| port)
            .unwrap_or("");
        format!("entwined-token-{port}")
    }

    /// Sets the token as a cookie, and redirects to the URL without it.
    fn keep(&self, request: &Request) -> Response {
        let rest: Vec<_> = request
            .uri()
            .query()
            .unwrap_or("")
            .split('&')
            .filter(|pair| !pair.starts_with("token="))
            .collect();
        let query = if rest.is_empty() {
            String::new()
        } else {
            format!("?{}", rest.join("&"))
        };
        // Otherwise it would go to whoever answers for this name without TLS.
        let secure = if request.is_secure() { "; Secure" } else { "" };
        let cookie = format!(
            "{}={}; HttpOnly; SameSite=Strict; Path=/{secure}",
            self.cookie_name(request),
            self.token.as_deref().unwrap_or_default()
        );
        let mut response = StatusCode::SEE_OTHER.into_response();
        // Not "//host", which would lead to another site.
        let target = format!("/{}{query}", request.path().trim_start_matches('/'));
        for (name, value) in [(LOCATION, target), (SET_COOKIE, cookie)] {
            if let Ok(mut value) = HeaderValue::from_str(&value) {
                // `Debug` does not show the cookie.
                value.set_sensitive(name == SET_COOKIE);
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// Whether the browser says that another page sends this (Fetch Metadata Request Headers, 2.3).
fn is_of_another_page(request: &Request) -> bool {
    let mut sites = request.headers().get_all("sec-fetch-site").iter();
    let own = |site: &HeaderValue| site == "same-origin" || site == "none";
    !sites.all(own)
}

/// Whether the browser says that a window goes to another address.
fn follows_a_link(request: &Request) -> bool {
    *request.method() == Method::GET
        && request.header("sec-fetch-mode") == Some("navigate")
        && request.header("sec-fetch-dest") == Some("document")
        && !request.headers().contains_key("upgrade")
}

enum Admitted {
    Yes,
    ByQuery,
    No,
}

impl Layer for LocalOnly {
    fn call(&self, request: Request, next: Next) -> ResponseFuture {
        let answer = match (self.refusal(&request), self.admitted(&request)) {
            (Some(refusal), _) => refusal.into_response(),
            (None, Admitted::Yes) => return next.run(request),
            (None, Admitted::ByQuery)
                if *request.method() == Method::GET
                    && !request.headers().contains_key("upgrade") =>
            {
                self.keep(&request)
            }
            (None, Admitted::ByQuery) => return next.run(request),
            (None, Admitted::No) => {
                let message =
                    "open this page with the URL that the program printed; it contains a token";
                let challenge = HeaderValue::from_static("Bearer realm=\"local\"");
                Error::new(StatusCode::UNAUTHORIZED, message)
                    .with_header(WWW_AUTHENTICATE, challenge)
                    .into_response()
            }
        };
        ResponseFuture::ready(answer)
    }
}
