//! Routers: which handler answers for a host, a method and a path.

mod layer;
mod routes;

use std::{collections::BTreeMap, fmt, rc::Rc};

pub use self::layer::{Layer, Next};
use self::routes::{BELOW, Endpoint, Methods, Target, endpoint};
pub(crate) use self::routes::{Found, Routes, nothing};
use crate::{Handler, Method, authority, path};

/// Maps methods and paths to handlers.
///
/// A path may have parameters: `/users/{id}` matches one segment, `/files/{*path}` matches the rest
/// of the path. A fixed segment wins over a parameter. The handler of `GET` also answers `HEAD`,
/// and its body is not sent. If a path exists but not with this method, the response is 405 with
/// `Allow`. If the path does not exist, the [fallback](Router::fallback) answers; by default that
/// is 404.
///
/// How a client spells a path does not matter: requests are matched in their [canonical
/// form](crate::Request::path), and so are the paths of routes. `/é`, `/%C3%A9` and `/%c3%a9` are
/// one route. So a layer around `/private` cannot be passed by `/%70rivate`, `//private` or
/// `/public/../private`.
///
/// Routers can be combined: one [merged](Router::merge) with another, one [nested](Router::nest)
/// below a path, or one for each [host](Router::host). [Layers](Router::layer) are around the whole
/// of a router, including the routers in it.
///
/// Cheap enough to clone while a site is built: handlers and layers are shared.
#[derive(Clone, Default)]
#[must_use = "a router answers requests once it is served"]
pub struct Router {
    routes: BTreeMap<String, Methods>,
    nested: BTreeMap<String, Rc<Routes>>,
    hosts: Vec<(String, Rc<Routes>)>,
    fallback: Option<Endpoint>,
    layers: Vec<Rc<dyn Layer>>,
}

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
    pub fn route<M>(mut self, method: Method, path: &str, handler: impl Handler<M>) -> Self {
        let path = &canonical(path);
        self.methods(path).add(path, method, endpoint(handler));
        self.checked(path)
    }

    /// Routes every method on `path` that has no handler of its own to `handler`.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    pub fn any<M>(mut self, path: &str, handler: impl Handler<M>) -> Self {
        let path = &canonical(path);
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
    pub fn merge(mut self, router: Router) -> Self {
        let Router {
            routes,
            nested,
            hosts,
            fallback,
            layers,
        } = router;
        let inside = |routes: Rc<Routes>| {
            let mut routes = Rc::unwrap_or_clone(routes);
            routes.layers.extend(layers.iter().cloned());
            // Use the fallback as it is: `routes` has the layers around it already.
            routes.outer = routes.outer.take().or_else(|| fallback.clone());
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
        for (name, routes) in hosts {
            self = self.hosted(name, inside(routes));
        }
        if let Some(endpoint) = fallback {
            let before = self.fallback.replace(endpoint.inside(&layers));
            assert!(before.is_none(), "there are two fallbacks");
        }
        self
    }

    /// Routes everything at `prefix` and below it to `router`, which matches on the rest of the
    /// path. If it has no handler for a request, this router's fallback answers, with the path and
    /// the parameters that this router sees.
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
    pub fn nest(self, prefix: &str, router: Router) -> Self {
        assert!(
            prefix.starts_with('/') && !prefix.ends_with('/'),
            "{prefix:?} is not a valid prefix: it must begin with \"/\" and must not end with it"
        );
        self.nested(&canonical(prefix), Rc::new(router.build()))
    }

    #[track_caller]
    fn nested(mut self, prefix: &str, routes: Rc<Routes>) -> Self {
        let before = self.nested.insert(prefix.to_owned(), routes);
        assert!(before.is_none(), "{prefix} has two routers");
        self.checked(prefix)
    }

    /// Routes everything at `prefix` and below it to `handler`, with any method.
    /// [`Request::path_below`](crate::Request::path_below) is the rest of the path. At `/`, the
    /// handler gets what no route of this router matches, as with [`fallback`](Router::fallback).
    ///
    /// # Panics
    /// As [`nest`](Router::nest).
    #[track_caller]
    pub fn mount<M>(self, prefix: &str, handler: impl Handler<M>) -> Self {
        if prefix == "/" {
            self.fallback(handler)
        } else {
            self.nest(prefix, Router::new().fallback(handler))
        }
    }

    /// Routes every request for this host (RFC 9110, 7.2) to `router`. The name is for example
    /// `example.org`, or `*.example.org` for all hosts below it. The port does not matter, nor how
    /// a client spells the host: in upper case, or with a final dot. This router answers for all
    /// other hosts, and for requests of HTTP/1.0 that name none. A name wins over a `*`, and a
    /// longer one after the `*` over a shorter one.
    ///
    /// # Panics
    /// Panics if the host has a router already.
    /// Panics if this is not a name or an address of a host.
    #[track_caller]
    pub fn host(self, name: &str, router: Router) -> Self {
        let form = match name.strip_prefix("*.") {
            Some(below) => authority::host(below).map(|host| format!("*.{host}")),
            None => authority::host(name),
        };
        let form = form.unwrap_or_else(|| panic!("{name:?} is not a host"));
        self.hosted(form, Rc::new(router.build()))
    }

    #[track_caller]
    fn hosted(mut self, name: String, routes: Rc<Routes>) -> Self {
        let known = self.hosts.iter().any(|(other, _)| *other == name);
        assert!(!known, "the host {name} has two routers");
        self.hosts.push((name, routes));
        self
    }

    /// Routes `GET` (and `HEAD`) on `path` to `handler`.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    pub fn get<M>(self, path: &str, handler: impl Handler<M>) -> Self {
        self.route(Method::GET, path, handler)
    }

    /// Routes `POST` on `path` to `handler`.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    pub fn post<M>(self, path: &str, handler: impl Handler<M>) -> Self {
        self.route(Method::POST, path, handler)
    }

    /// Routes `PUT` on `path` to `handler`.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    pub fn put<M>(self, path: &str, handler: impl Handler<M>) -> Self {
        self.route(Method::PUT, path, handler)
    }

    /// Routes `PATCH` on `path` to `handler`.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    pub fn patch<M>(self, path: &str, handler: impl Handler<M>) -> Self {
        self.route(Method::PATCH, path, handler)
    }

    /// Routes `DELETE` on `path` to `handler`.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    pub fn delete<M>(self, path: &str, handler: impl Handler<M>) -> Self {
        self.route(Method::DELETE, path, handler)
    }

    /// Routes whatever no route matches to `handler`, with any method.
    #[track_caller]
    pub fn fallback<M>(mut self, handler: impl Handler<M>) -> Self {
        self.fallback = Some(endpoint(handler));
        self
    }

    /// Puts a layer around the whole router, including routes that are added later and the
    /// responses for requests without a handler. If there are several layers, the last one added is
    /// the outermost.
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

    pub(crate) fn build(self) -> Routes {
        let tree = self
            .tree()
            .expect("each route was checked when it was added");
        Routes {
            tree,
            hosts: self.hosts,
            fallback: self.fallback,
            outer: None,
            layers: self.layers,
        }
    }
}

/// The form of a route's path in which it is matched.
#[track_caller]
fn canonical(path: &str) -> String {
    path::pattern(path).unwrap_or_else(|| {
        panic!(
            "the path {path:?} cannot be routed: it has an empty segment, \".\", \"..\", \"\\\" or \
             malformed percent-encoding, so no request would match it"
        )
    })
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.routes.keys())
            .entries(self.nested.keys())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
