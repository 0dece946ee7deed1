//! Finds the handler for a host, a method and a path.

use std::{collections::BTreeMap, fmt, rc::Rc};

use super::{
    Error, Handler, IntoResponse, Layer, Method, Next, Request, Response, ResponseFuture,
    StatusCode,
    handler::{AnyHandler, erased},
    header::{ALLOW, HeaderValue},
    labels::labels,
    request::Params,
};
use entwined::reactor::Origin;

/// A handler, and the source line that added it to the router.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) handler: AnyHandler,
    pub(super) origin: Origin,
}

#[derive(Clone, Default)]
struct Methods {
    each: Vec<(Method, Endpoint)>,
    any: Option<Endpoint>,
}

/// What a path leads to.
#[derive(Clone)]
enum Target {
    Methods(Methods),
    /// A nested router, for this prefix and every path below it.
    Nested(Rc<Routes>),
}

/// Maps methods and paths to handlers.
///
/// A path may have parameters: `/users/{id}` matches one segment, `/files/{*path}` matches the rest
/// of the path. A fixed segment wins over a parameter. The handler of `GET` also answers `HEAD`,
/// and its body is not sent. If a path exists but not with this method, the response is 405 with
/// `Allow`. If the path does not exist, the [fallback](Router::fallback) answers; by default that
/// is 404.
///
/// Routers can be combined: one [merged](Router::merge) with another, one [nested](Router::nest)
/// below a path, or one for each [host](Router::host). [Layers](Router::layer) are around the whole
/// of a router, including the routers in it.
#[derive(Default)]
pub struct Router {
    routes: BTreeMap<String, Methods>,
    nested: BTreeMap<String, Rc<Routes>>,
    hosts: Vec<(String, Rc<Routes>)>,
    fallback: Option<Endpoint>,
    layers: Vec<Rc<dyn Layer>>,
}

/// Name of the catch-all parameter that a nested router matches on.
const BELOW: &str = "entwined.below";

impl Router {
    /// Makes a router that answers everything with 404.
    pub fn new() -> Self {
        Router::default()
    }

    /// Routes `method` on `path` to `handler`.
    ///
    /// # Panics
    /// Panics if the path is malformed, conflicts with another path, or has a handler for this
    /// method.
    #[track_caller]
    #[must_use]
    pub fn route<M>(mut self, method: Method, path: &str, handler: impl Handler<M>) -> Self {
        self.methods(path).add(path, method, endpoint(handler));
        self.checked(path)
    }

    /// Routes every method on `path` that has no handler of its own to `handler`.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    #[must_use]
    pub fn any<M>(mut self, path: &str, handler: impl Handler<M>) -> Self {
        self.methods(path).add_any(path, endpoint(handler));
        self.checked(path)
    }

    fn methods(&mut self, path: &str) -> &mut Methods {
        self.routes.entry(path.to_owned()).or_default()
    }

    /// Building the tree now reports a wrong path at the line that added it.
    #[track_caller]
    fn checked(self, path: &str) -> Self {
        if let Err(error) = self.tree() {
            panic!("the path {path:?} cannot be routed: {error}");
        }
        self
    }

    /// Adds everything of `router` to this router: its routes, the routers in it, and its fallback.
    /// Its layers stay around what it brings and do not affect the rest of this router. They are
    /// not around the 405 response either, because that covers the methods of both routers at a
    /// path.
    ///
    /// This lets a function build each part of a site:
    ///
    /// ```
    /// use entwined_http::{Router, layers};
    ///
    /// let pages = Router::new().get("/", || "a page");
    /// let state = Router::new().get("/state", || "secret").layer(layers::bearer_auth(|token| {
    ///     layers::same_secret(token, "sesame")
    /// }));
    /// let router = pages.merge(state);
    /// ```
    ///
    /// # Panics
    /// Panics if both have a handler for the same method and path, a router for the same prefix, or
    /// a fallback; or if their paths conflict.
    #[track_caller]
    #[must_use]
    pub fn merge(mut self, router: Router) -> Self {
        let Router {
            routes,
            nested,
            hosts,
            fallback,
            layers,
        } = router;
        let inside = |routes: Rc<Routes>| {
            let mut routes = Rc::into_inner(routes).expect("a router in use is in one router only");
            routes.layers.extend(layers.iter().cloned());
            // Use the fallback as it is: `routes` has the layers around it already.
            routes.fallback = routes.fallback.take().or_else(|| fallback.clone());
            Rc::new(routes)
        };
        for (path, Methods { each, any }) in routes {
            let methods = self.methods(&path);
            for (method, endpoint) in each {
                methods.add(&path, method, endpoint.inside(&layers));
            }
            if let Some(endpoint) = any {
                methods.add_any(&path, endpoint.inside(&layers));
            }
            self = self.checked(&path);
        }
        for (prefix, routes) in nested {
            self = self.nested(&prefix, inside(routes));
        }
        self.hosts.extend(
            hosts
                .into_iter()
                .map(|(name, routes)| (name, inside(routes))),
        );
        if let Some(endpoint) = fallback {
            let before = self.fallback.replace(endpoint.inside(&layers));
            assert!(before.is_none(), "there are two fallbacks");
        }
        self
    }

    /// Routes everything at `prefix` and below it to `router`, which matches on the rest of the
    /// path. If it has no handler for a request, this router's fallback answers.
    ///
    /// ```
    /// use entwined_http::Router;
    ///
    /// let api = Router::new().get("/users/{id}", || async { "a user" });
    /// let router = Router::new().get("/", || "a page").nest("/api/v1", api);
    /// ```
    ///
    /// # Panics
    /// Panics if the prefix is malformed, does not begin with `/`, ends with `/`, or conflicts with
    /// another path.
    #[track_caller]
    #[must_use]
    pub fn nest(self, prefix: &str, router: Router) -> Self {
        assert!(
            prefix.starts_with('/') && !prefix.ends_with('/'),
            "{prefix:?} is not a valid prefix: it must begin with \"/\" and must not end with it"
        );
        self.nested(prefix, Rc::new(router.build()))
    }

    #[track_caller]
    fn nested(mut self, prefix: &str, routes: Rc<Routes>) -> Self {
        let before = self.nested.insert(prefix.to_owned(), routes);
        assert!(before.is_none(), "{prefix} has two routers");
        self.checked(prefix)
    }

    /// Routes everything at `prefix` and below it to `handler`, with any method.
    /// [`Request::path_below`] is the rest of the path.
    ///
    /// # Panics
    /// As [`nest`](Router::nest).
    #[track_caller]
    #[must_use]
    pub fn mount<M>(self, prefix: &str, handler: impl Handler<M>) -> Self {
        self.nest(prefix, Router::new().fallback(handler))
    }

    /// Routes every request for this host (RFC 9110, 7.2) to `router`. The name is for example
    /// `example.org`, or `*.example.org` for all hosts below it. The port does not matter. This
    /// router answers for all other hosts.
    #[must_use]
    pub fn host(mut self, name: &str, router: Router) -> Self {
        self.hosts
            .push((name.to_ascii_lowercase(), Rc::new(router.build())));
        self
    }

    /// Routes `GET` (and `HEAD`) on `path` to `handler`.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    #[must_use]
    pub fn get<M>(self, path: &str, handler: impl Handler<M>) -> Self {
        self.route(Method::GET, path, handler)
    }

    /// Routes `POST` on `path` to `handler`.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    #[must_use]
    pub fn post<M>(self, path: &str, handler: impl Handler<M>) -> Self {
        self.route(Method::POST, path, handler)
    }

    /// Routes `PUT` on `path` to `handler`.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    #[must_use]
    pub fn put<M>(self, path: &str, handler: impl Handler<M>) -> Self {
        self.route(Method::PUT, path, handler)
    }

    /// Routes `PATCH` on `path` to `handler`.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    #[must_use]
    pub fn patch<M>(self, path: &str, handler: impl Handler<M>) -> Self {
        self.route(Method::PATCH, path, handler)
    }

    /// Routes `DELETE` on `path` to `handler`.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    #[must_use]
    pub fn delete<M>(self, path: &str, handler: impl Handler<M>) -> Self {
        self.route(Method::DELETE, path, handler)
    }

    /// Routes whatever no route matches to `handler`, with any method.
    #[track_caller]
    #[must_use]
    pub fn fallback<M>(mut self, handler: impl Handler<M>) -> Self {
        self.fallback = Some(endpoint(handler));
        self
    }

    /// Puts a layer around the whole router, including routes that are added later and the
    /// responses for requests without a handler. If there are several layers, the last one added is
    /// the outermost.
    #[must_use]
    pub fn layer(mut self, layer: impl Layer) -> Self {
        self.layers.push(Rc::new(layer));
        self
    }

    fn tree(&self) -> Result<matchit::Router<Target>, matchit::InsertError> {
        let mut tree = matchit::Router::new();
        for (path, methods) in &self.routes {
            tree.insert(path.as_str(), Target::Methods(methods.clone()))?;
        }
        for (prefix, routes) in &self.nested {
            for path in [
                prefix.clone(),
                format!("{prefix}/"),
                format!("{prefix}/{{*{BELOW}}}"),
            ] {
                tree.insert(path, Target::Nested(routes.clone()))?;
            }
        }
        Ok(tree)
    }

    pub(super) fn build(self) -> Routes {
        let tree = self
            .tree()
            .expect("each route was checked when it was added");
        Routes {
            tree,
            hosts: self.hosts,
            fallback: self.fallback,
            layers: self.layers,
        }
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.routes.keys())
            .entries(self.nested.keys())
            .finish()
    }
}

#[track_caller]
fn endpoint<M>(handler: impl Handler<M>) -> Endpoint {
    let origin = Origin::here(labels().handler);
    Endpoint {
        handler: erased(handler),
        origin,
    }
}

impl Endpoint {
    /// Puts layers around the endpoint.
    fn inside(self, layers: &[Rc<dyn Layer>]) -> Self {
        if layers.is_empty() {
            return self;
        }
        let origin = self.origin;
        let alone = Router {
            fallback: Some(self),
            layers: layers.to_vec(),
            ..Router::default()
        };
        let routes = Rc::new(alone.build());
        Endpoint {
            handler: Rc::new(move |request| Routes::answer_all(&routes, None, request)),
            origin,
        }
    }
}

impl Methods {
    #[track_caller]
    fn add(&mut self, path: &str, method: Method, endpoint: Endpoint) {
        assert!(
            self.find(&method).is_none(),
            "{method} {path} has two handlers"
        );
        self.each.push((method, endpoint));
    }

    #[track_caller]
    fn add_any(&mut self, path: &str, endpoint: Endpoint) {
        let before = self.any.replace(endpoint);
        assert!(before.is_none(), "{path} has two handlers for any method");
    }

    fn find(&self, method: &Method) -> Option<&Endpoint> {
        self.each
            .iter()
            .find(|entry| entry.0 == *method)
            .map(|entry| &entry.1)
    }

    fn find_or_head(&self, method: &Method) -> Option<&Endpoint> {
        let head = || {
            if *method == Method::HEAD {
                self.find(&Method::GET)
            } else {
                None
            }
        };
        self.find(method).or_else(head).or(self.any.as_ref())
    }

    /// Returns the value of `Allow`: RFC 9110, 10.2.1.
    fn allow(&self) -> HeaderValue {
        let mut names: Vec<&str> = self.each.iter().map(|entry| entry.0.as_str()).collect();
        if self.find(&Method::GET).is_some() && self.find(&Method::HEAD).is_none() {
            names.push("HEAD");
        }
        HeaderValue::from_str(&names.join(", ")).expect("methods are tokens")
    }
}

/// A router that is built and in use.
pub(super) struct Routes {
    tree: matchit::Router<Target>,
    hosts: Vec<(String, Rc<Routes>)>,
    fallback: Option<Endpoint>,
    layers: Vec<Rc<dyn Layer>>,
}

impl Routes {
    /// Finds what answers a request, and stores the path's parameters in the request.
    pub(super) fn find(&self, request: &mut Request) -> Found {
        match self.find_own(request) {
            Found::Nothing => match &self.fallback {
                Some(endpoint) => Found::Handler(endpoint.clone()),
                None => Found::Nothing,
            },
            Found::Layered(routes, None) => Found::Layered(routes, self.fallback.clone()),
            found => found,
        }
    }

    fn find_own(&self, request: &mut Request) -> Found {
        if let Some(routes) = self.find_host(request) {
            return Routes::found(&routes, request);
        }
        let path = request.path_below();
        let Ok(matched) = self.tree.at(path) else {
            return Found::Nothing;
        };
        let mut below = None;
        let mut params = Params::new();
        for (name, value) in matched.params.iter() {
            if name == BELOW {
                below = Some(value.len() + 1);
            } else if let Some(value) = decode(value) {
                params.push((name.to_owned(), value));
            } else {
                let error = Error::bad_request("the path is not valid percent-encoded UTF-8");
                return Found::Answer(Box::new(error.into_response()));
            }
        }
        match matched.value {
            Target::Nested(routes) => {
                let routes = routes.clone();
                // If the path is just the prefix, nothing or a slash is left.
                let left = below.unwrap_or_else(|| usize::from(path.ends_with('/')));
                request.descend(left);
                request.add_params(params);
                Routes::found(&routes, request)
            }
            Target::Methods(methods) => {
                let Some(endpoint) = methods.find_or_head(request.method()).cloned() else {
                    let message = format!("{} is not allowed here", request.method());
                    let mut response =
                        Error::new(StatusCode::METHOD_NOT_ALLOWED, message).into_response();
                    response.headers_mut().insert(ALLOW, methods.allow());
                    return Found::Answer(Box::new(response));
                };
                request.add_params(params);
                Found::Handler(endpoint)
            }
        }
    }

    fn found(this: &Rc<Self>, request: &mut Request) -> Found {
        if this.layers.is_empty() {
            this.find(request)
        } else {
            Found::Layered(this.clone(), None)
        }
    }

    fn find_host(&self, request: &Request) -> Option<Rc<Routes>> {
        if self.hosts.is_empty() {
            return None;
        }
        let host = request.host()?.to_ascii_lowercase();
        let matches = |name: &str| match name.strip_prefix('*') {
            Some(end) => host.len() > end.len() && host.ends_with(end),
            None => host == name,
        };
        self.hosts
            .iter()
            .find(|(name, _)| matches(name))
            .map(|(_, routes)| routes.clone())
    }

    pub(super) fn has_layers(&self) -> bool {
        !self.layers.is_empty()
    }

    /// Answers a request through all layers. `fallback` answers if nothing behind them does.
    pub(super) fn answer_all(
        this: &Rc<Self>,
        fallback: Option<Endpoint>,
        request: Request,
    ) -> ResponseFuture {
        Routes::answer(
            Next {
                left: this.layers.len(),
                routes: this.clone(),
                fallback,
            },
            request,
        )
    }

    /// Answers a request through the remaining layers.
    pub(super) fn answer(next: Next, mut request: Request) -> ResponseFuture {
        let Next {
            routes,
            left,
            fallback,
        } = next;
        if let Some(outer) = left.checked_sub(1) {
            let layer = routes.layers[outer].clone();
            return layer.call(
                request,
                Next {
                    routes,
                    left: outer,
                    fallback,
                },
            );
        }
        let found = match (routes.find(&mut request), fallback) {
            (Found::Nothing, Some(fallback)) => Found::Handler(fallback),
            (Found::Layered(routes, None), fallback) => Found::Layered(routes, fallback),
            (found, _) => found,
        };
        match found {
            Found::Layered(routes, fallback) => Routes::answer_all(&routes, fallback, request),
            Found::Answer(response) => response.into(),
            Found::Nothing => ResponseFuture::ready(nothing()),
            Found::Handler(Endpoint { handler, origin }) => {
                let handle = request.handle().clone();
                ResponseFuture::called(&handle, origin, || handler(request))
            }
        }
    }
}

/// What the router found for a request.
pub(super) enum Found {
    Handler(Endpoint),
    /// A router with layers, and the fallback for requests that it has no handler for.
    Layered(Rc<Routes>, Option<Endpoint>),
    /// There is no handler; the response says why.
    Answer(Box<Response>),
    Nothing,
}

pub(super) fn nothing() -> Response {
    Error::not_found("there is nothing here").into_response()
}

/// Decodes percent-encoding (RFC 3986, 2.1). Returns `None` if the text is malformed or the result
/// is not UTF-8.
pub(super) fn decode(text: &str) -> Option<String> {
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
        let _ = Router::new().get("/a", || async {}).get("/a", || async {});
    }

    #[test]
    #[should_panic(expected = "GET /a has two handlers")]
    fn a_second_handler_is_refused_when_routers_are_merged() {
        let _ = Router::new()
            .get("/a", || async {})
            .merge(Router::new().get("/a", || async {}));
    }

    #[test]
    #[should_panic(expected = "there are two fallbacks")]
    fn a_second_fallback_is_refused_when_routers_are_merged() {
        let _ = Router::new()
            .fallback(|| async {})
            .merge(Router::new().fallback(|| async {}));
    }

    #[test]
    #[should_panic(expected = "cannot be routed")]
    fn a_malformed_path_is_refused() {
        let _ = Router::new().get("/{a", || async {});
    }
}
