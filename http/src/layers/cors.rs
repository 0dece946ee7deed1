//! Cross-origin requests (the Fetch standard, 3.2).

use std::time::Duration;

use super::super::{
    HeaderMap, HeaderName, HeaderValue, IntoResponse, Layer, Method, Next, Request, ResponseFuture,
    StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
    origin,
};

/// Which other origins may use the site. Created by [`cors`].
#[derive(Clone, Debug)]
pub struct Cors {
    origins: Option<Vec<String>>,
    methods: String,
    headers: String,
    exposed: String,
    credentials: bool,
    max_age: Duration,
}

/// Tells browsers which other origins may use the site, and answers their preflight requests. By
/// default, no other origin may.
///
/// This only restricts web pages in browsers. It does not keep other clients out.
///
/// ```
/// use entwined_http::{Router, layers};
///
/// let cors = layers::cors().origin("https://example.org");
/// let router = Router::new().get("/", || "hello").layer(cors);
/// ```
pub fn cors() -> Cors {
    Cors {
        origins: Some(Vec::new()),
        methods: "GET, HEAD, POST, PUT, PATCH, DELETE".to_owned(),
        headers: "Content-Type, Authorization".to_owned(),
        exposed: String::new(),
        credentials: false,
        max_age: Duration::from_secs(600),
    }
}

impl Cors {
    /// Allows pages of this origin, such as `https://example.org`.
    #[must_use]
    pub fn origin(mut self, origin: &str) -> Self {
        if let Some(origins) = &mut self.origins {
            origins.push(origin.to_owned());
        }
        self
    }

    /// Allows pages of every origin. [Credentials](Cors::credentials) are never allowed for them.
    #[must_use]
    pub fn any_origin(mut self) -> Self {
        self.origins = None;
        self
    }

    /// Sets the methods that they may use. The default is GET, HEAD, POST, PUT, PATCH and DELETE.
    #[must_use]
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = methods
            .into_iter()
            .map(|method| method.to_string())
            .collect::<Vec<_>>()
            .join(", ");
        self
    }

    /// Sets the headers that they may send in addition to the safelisted ones. The default is
    /// `Content-Type` and `Authorization`.
    #[must_use]
    pub fn headers(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.headers = names(headers);
        self
    }

    /// Sets the response headers that they may read in addition to the safelisted ones.
    #[must_use]
    pub fn expose(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.exposed = names(headers);
        self
    }

    /// Lets browsers send cookies.
    #[must_use]
    pub fn credentials(mut self) -> Self {
        self.credentials = true;
        self
    }

    /// Sets how long a browser may cache the answer to a preflight request. The default is 10 min.
    #[must_use]
    pub fn max_age(mut self, time: Duration) -> Self {
        self.max_age = time;
        self
    }

    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        match &self.origins {
            None => Some(HeaderValue::from_static("*")),
            Some(origins) => {
                let text = origin.to_str().ok()?;
                let mut origins = origins.iter();
                // All of them are what `any_origin` allows, without credentials.
                let known = origins.any(|allowed| allowed != "*" && origin::matches(allowed, text));
                known.then(|| origin.clone())
            }
        }
    }

    fn allow(&self, origin: HeaderValue, headers: &mut HeaderMap) {
        // The answer depends on the origin, so caches must keep the answers apart.
        if self.origins.is_some() {
            headers.append(VARY, HeaderValue::from_static("Origin"));
            if self.credentials {
                headers.insert(
                    ACCESS_CONTROL_ALLOW_CREDENTIALS,
                    HeaderValue::from_static("true"),
                );
            }
        }
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
}

fn names(headers: impl IntoIterator<Item = HeaderName>) -> String {
    headers
        .into_iter()
        .map(|name| name.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

impl Layer for Cors {
    fn call(&self, request: Request, next: Next) -> ResponseFuture {
        let allowed = request
            .headers()
            .get(ORIGIN)
            .and_then(|origin| self.allowed(origin));
        let preflight = request.method() == Method::OPTIONS
            && request.headers().contains_key(ORIGIN)
            && request
                .headers()
                .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if preflight {
            let mut response = StatusCode::NO_CONTENT.into_response();
            if let Some(origin) = allowed {
                let headers = response.headers_mut();
                self.allow(origin, headers);
                headers.insert(ACCESS_CONTROL_ALLOW_METHODS, value(&self.methods));
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, value(&self.headers));
                headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.as_secs().into());
            }
            return ResponseFuture::ready(response);
        }
        let (cors, answering) = (self.clone(), next.run(request));
        ResponseFuture::new(async move {
            let mut response = answering.await;
            match allowed {
                Some(origin) => {
                    cors.allow(origin, response.headers_mut());
                    if !cors.exposed.is_empty() {
                        response
                            .headers_mut()
                            .insert(ACCESS_CONTROL_EXPOSE_HEADERS, value(&cors.exposed));
                    }
                }
                None if cors.origins.is_some() => {
                    response
                        .headers_mut()
                        .append(VARY, HeaderValue::from_static("Origin"));
                }
                None => {}
            }
            response
        })
    }
}
