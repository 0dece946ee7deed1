//! From a method and a path to a handler.

use std::{collections::BTreeMap, fmt, future::Future, panic::Location, pin::Pin, rc::Rc};

use super::{
    Error, IntoResponse, Method, Request, Response, StatusCode,
    header::{ALLOW, HeaderValue},
    request::Params,
};
use crate::reactor::{Kind, Origin};

/// The future of one response.
pub type ResponseFuture = Pin<Box<dyn Future<Output = Response>>>;

/// Answers requests. Every function from a [`Request`] to a future of something that is [`IntoResponse`] is one.
pub trait Handler {
    /// Begins to answer a request.
    fn call(&self, request: Request) -> ResponseFuture;
}

impl<F, Fut> Handler for F
where
    F: Fn(Request) -> Fut,
    Fut: Future + 'static,
    Fut::Output: IntoResponse,
{
    fn call(&self, request: Request) -> ResponseFuture {
        let future = self(request);
        Box::pin(async move { future.await.into_response() })
    }
}

/// A handler, and the line that put it into the router.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) handler: Rc<dyn Handler>,
    pub(super) origin: Origin,
}

#[derive(Clone, Default)]
struct Methods(Vec<(Method, Endpoint)>);

/// Which handler answers which method and path.
///
/// A path may have parameters: `/users/{id}` matches one segment, `/files/{*path}` the rest of the path. A fixed segment wins over a
/// parameter. `HEAD` is answered by the handler of `GET`, without its body; a path that is there with other methods only is answered by 405 with
/// `Allow`; one that is not there by the [fallback](Router::fallback), which answers 404 unless it is set.
#[derive(Default)]
pub struct Router {
    routes: BTreeMap<String, Methods>,
    fallback: Option<Endpoint>,
}

impl Router {
    /// A router that answers everything with 404.
    pub fn new() -> Self {
        Router::default()
    }

    /// Has `handler` answer `method` on `path`.
    ///
    /// # Panics
    /// When the path is malformed, is in conflict with another, or has a handler for this method.
    #[track_caller]
    #[must_use]
    pub fn route(mut self, method: Method, path: &str, handler: impl Handler + 'static) -> Self {
        let methods = self.routes.entry(path.to_owned()).or_default();
        assert!(methods.find(&method).is_none(), "{method} {path} has two handlers");
        methods.0.push((method, endpoint(handler)));
        // Building it now shows a wrong path at the line that wrote it.
        if let Err(error) = self.tree() {
            panic!("the path {path:?} cannot be routed: {error}");
        }
        self
    }

    /// Has `handler` answer `GET` (and `HEAD`) on `path`.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    #[must_use]
    pub fn get(self, path: &str, handler: impl Handler + 'static) -> Self {
        self.route(Method::GET, path, handler)
    }

    /// Has `handler` answer `POST` on `path`.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    #[must_use]
    pub fn post(self, path: &str, handler: impl Handler + 'static) -> Self {
        self.route(Method::POST, path, handler)
    }

    /// Has `handler` answer `PUT` on `path`.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    #[must_use]
    pub fn put(self, path: &str, handler: impl Handler + 'static) -> Self {
        self.route(Method::PUT, path, handler)
    }

    /// Has `handler` answer `DELETE` on `path`.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    #[must_use]
    pub fn delete(self, path: &str, handler: impl Handler + 'static) -> Self {
        self.route(Method::DELETE, path, handler)
    }

    /// Has `handler` answer whatever no route matches, with any method.
    #[track_caller]
    #[must_use]
    pub fn fallback(mut self, handler: impl Handler + 'static) -> Self {
        self.fallback = Some(endpoint(handler));
        self
    }

    fn tree(&self) -> Result<matchit::Router<Methods>, matchit::InsertError> {
        let mut tree = matchit::Router::new();
        for (path, methods) in &self.routes {
            tree.insert(path.as_str(), methods.clone())?;
        }
        Ok(tree)
    }

    pub(super) fn build(self) -> Routes {
        let tree = self.tree().expect("each route was tried when it was added");
        Routes { tree, fallback: self.fallback }
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.routes.keys()).finish()
    }
}

#[track_caller]
fn endpoint(handler: impl Handler + 'static) -> Endpoint {
    let origin = Origin { kind: Kind::Http, location: Location::caller() };
    Endpoint { handler: Rc::new(handler), origin }
}

impl Methods {
    fn find(&self, method: &Method) -> Option<&Endpoint> {
        self.0.iter().find(|entry| entry.0 == *method).map(|entry| &entry.1)
    }

    fn find_or_head(&self, method: &Method) -> Option<&Endpoint> {
        self.find(method).or_else(|| if *method == Method::HEAD { self.find(&Method::GET) } else { None })
    }

    /// The value of `Allow`: RFC 9110, 10.2.1.
    fn allow(&self) -> HeaderValue {
        let mut names: Vec<&str> = self.0.iter().map(|entry| entry.0.as_str()).collect();
        if self.find(&Method::GET).is_some() && self.find(&Method::HEAD).is_none() {
            names.push("HEAD");
        }
        HeaderValue::from_str(&names.join(", ")).expect("methods are tokens")
    }
}

/// A router that is in use.
pub(super) struct Routes {
    tree: matchit::Router<Methods>,
    fallback: Option<Endpoint>,
}

impl Routes {
    /// Who answers a request; the path's parameters are put into it.
    pub(super) fn find(&self, request: &mut Request) -> Found {
        let Ok(matched) = self.tree.at(request.path()) else {
            return match &self.fallback {
                Some(endpoint) => Found::Handler(endpoint.clone()),
                None => Found::Answer(Error::not_found("there is nothing here").into_response()),
            };
        };
        let Some(endpoint) = matched.value.find_or_head(request.method()) else {
            let message = format!("{} is not possible here", request.method());
            let mut response = Error::new(StatusCode::METHOD_NOT_ALLOWED, message).into_response();
            response.headers_mut().insert(ALLOW, matched.value.allow());
            return Found::Answer(response);
        };
        let endpoint = endpoint.clone();
        if !matched.params.is_empty() {
            let params: Option<Params> =
                matched.params.iter().map(|(name, value)| Some((name.to_owned(), decode(value)?))).collect();
            let Some(params) = params else {
                let error = Error::bad_request("the path is not UTF-8, or not rightly encoded");
                return Found::Answer(error.into_response());
            };
            request.set_params(params);
        }
        Found::Handler(endpoint)
    }
}

/// What the router has for a request.
pub(super) enum Found {
    Handler(Endpoint),
    /// There is no handler; this says why.
    Answer(Response),
}

/// Undoes percent-encoding (RFC 3986, 2.1); `None` when it is malformed or the result is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone_or_refused() {
        assert_eq!(decode("a%20b%C3%A9").as_deref(), Some("a bé"));
        assert_eq!(decode("plain").as_deref(), Some("plain"));
        for wrong in ["%", "%4", "%zz", "%+1", "%ff"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }

    #[test]
    #[should_panic(expected = "two handlers")]
    fn a_second_handler_for_the_same_route_is_refused() {
        let _ = Router::new().get("/a", |_| async {}).get("/a", |_| async {});
    }

    #[test]
    #[should_panic(expected = "cannot be routed")]
    fn a_malformed_path_is_refused() {
        let _ = Router::new().get("/{a", |_| async {});
    }
}
