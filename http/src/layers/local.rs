//! Protects servers that are meant for this machine's user only.

use std::fmt;

use super::{
    super::{
        Error, HeaderValue, IntoResponse, Layer, Method, Next, Request, Response, ResponseFuture,
        StatusCode,
        header::{AUTHORIZATION, COOKIE, LOCATION, ORIGIN, SET_COOKIE},
    },
    auth::same_secret,
    random::{hex, random},
};

/// Restricts a server to this machine's user. Created by [`local_only`].
#[derive(Clone)]
pub struct LocalOnly {
    names: Vec<String>,
    token: Option<String>,
}

/// Keeps foreign web pages away from a server on this machine. Listening on the loopback interface
/// is not enough: any page that the user opens can send requests there, and can read the responses
/// by DNS rebinding.
///
/// - The host of a request must be `localhost`, a loopback address, or a name that was
///   [added](LocalOnly::name). Otherwise the response is 421.
/// - A request that changes something or opens a WebSocket must come from a page of this server, or
///   not from a page at all. If its `Origin` is another one, the response is 403.
/// - With a [token](LocalOnly::token), only requests that carry the token are admitted. Others get
///   a 401. This also keeps out other users of the machine.
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
    /// Adds a name of this machine.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.names.push(name.to_ascii_lowercase());
        self
    }

    /// Requires a token, which is generated now. A client sends it as `?token=` with the first
    /// page, and then as a cookie that this sets; or as `Authorization: Bearer`.
    #[must_use]
    pub fn token(mut self) -> Self {
        self.token = Some(hex(&random::<16>()));
        self
    }

    /// The token, if one is required.
    pub fn secret(&self) -> Option<&str> {
        self.token.as_deref()
    }

    fn is_ours(&self, host: &str) -> bool {
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_ascii_lowercase();
        let address: Option<std::net::IpAddr> = host.parse().ok();
        address.is_some_and(|address| address.is_loopback())
            || host == "localhost"
            || host.ends_with(".localhost")
            || self.names.contains(&host)
    }

    fn refusal(&self, request: &Request) -> Option<Error> {
        if request.host().is_some_and(|host| !self.is_ours(host)) {
            return Some(Error::new(
                StatusCode::MISDIRECTED_REQUEST,
                "this server only answers requests for this machine's own names",
            ));
        }
        let reads = matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS
        );
        let upgrades =
            request.headers().contains_key("upgrade") || *request.method() == Method::CONNECT;
        let origin = request.headers().get(ORIGIN)?;
        if reads && !upgrades {
            return None;
        }
        let same = origin.to_str().is_ok_and(|origin| {
            let authority = origin
                .split_once("://")
                .map_or("", |(_, authority)| authority);
            // The port counts: another server on this machine is another origin.
            !authority.is_empty()
                && request
                    .authority()
                    .is_some_and(|ours| ours.eq_ignore_ascii_case(authority))
        });
        (!same).then(|| {
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
        let bearer = request
            .headers()
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        if bearer
            .and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(is_it)
        {
            return Admitted::Yes;
        }
        let cookies = request
            .headers()
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        // A token is hexadecimal, so its value needs no decoding (RFC 6265, 4.2.1).
        let mut pairs = cookies
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        let expected = self.cookie_name(request);
        if pairs.any(|(name, value)| name == expected && is_it(value)) {
            return Admitted::Yes;
        }
        let query: Vec<(String, String)> = request.query().unwrap_or_default();
        if query
            .iter()
            .any(|(name, value)| name == "token" && is_it(value))
        {
            Admitted::ByQuery
        } else {
            Admitted::No
        }
    }

    /// Cookies do not depend on the port, and several such servers may run on one machine.
    fn cookie_name(&self, request: &Request) -> String {
        let port = request
            .authority()
            .and_then(|authority| authority.rsplit_once(':'))
            .map_or("", |(_, port)| port);
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
        let cookie = format!(
            "{}={}; HttpOnly; SameSite=Strict; Path=/",
            self.cookie_name(request),
            self.token.as_deref().unwrap_or_default()
        );
        let mut response = StatusCode::SEE_OTHER.into_response();
        // Not "//host", which would lead to another site.
        let target = format!("/{}{query}", request.path().trim_start_matches('/'));
        for (name, value) in [(LOCATION, target), (SET_COOKIE, cookie)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
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
                Error::new(StatusCode::UNAUTHORIZED, message).into_response()
            }
        };
        ResponseFuture::ready(answer)
    }
}
