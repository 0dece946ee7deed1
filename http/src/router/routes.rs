//! A router in use: finds the handler of a request, and calls it through the layers.

use std::rc::Rc;

use entwined::reactor::Origin;

use super::layer::{Layer, Next};
use crate::{
    Error, Handler, HeaderValue, IntoResponse, Method, Request, Response, ResponseFuture,
    StatusCode,
    handler::{AnyHandler, erased},
    header::ALLOW,
    labels::labels,
    percent::decode,
    request::{Params, Place},
};

/// A handler, and the source line that added it to the router.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) handler: AnyHandler,
    pub(crate) origin: Origin,
}

#[derive(Clone, Default)]
pub(super) struct Methods {
    pub(super) each: Vec<(Method, Endpoint)>,
    pub(super) any: Option<Endpoint>,
}

/// What a path leads to.
#[derive(Clone)]
pub(super) enum Target {
    Methods(Methods),
    /// A nested router, for this prefix and every path below it.
    Nested(Rc<Routes>),
}

/// Name of the catch-all parameter that a nested router matches on.
pub(super) const BELOW: &str = "entwined.below";

#[track_caller]
pub(super) fn endpoint<M>(handler: impl Handler<M>) -> Endpoint {
    let origin = Origin::here(labels().handler);
    Endpoint {
        handler: erased(handler),
        origin,
    }
}

impl Endpoint {
    /// Puts layers around the endpoint.
    pub(super) fn inside(self, layers: &[Rc<dyn Layer>]) -> Self {
        if layers.is_empty() {
            return self;
        }
        let origin = self.origin;
        let alone = Routes {
            fallback: Some(self),
            layers: layers.to_vec(),
            ..Routes::default()
        };
        let routes = Rc::new(alone);
        Endpoint {
            handler: Rc::new(move |request| Routes::answer_all(&routes, None, request)),
            origin,
        }
    }
}

impl Methods {
    #[track_caller]
    pub(super) fn add(&mut self, path: &str, method: Method, endpoint: Endpoint) {
        assert!(
            self.find(&method).is_none(),
            "{method} {path} has two handlers"
        );
        self.each.push((method, endpoint));
    }

    #[track_caller]
    pub(super) fn add_any(&mut self, path: &str, endpoint: Endpoint) {
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
#[derive(Clone, Default)]
pub(crate) struct Routes {
    pub(super) tree: matchit::Router<Target>,
    pub(super) hosts: Vec<(String, Rc<Routes>)>,
    pub(super) fallback: Option<Endpoint>,
    /// The fallback of a merged router that this one was nested in. It is inside of the layers
    /// here.
    pub(super) outer: Option<Endpoint>,
    pub(super) layers: Vec<Rc<dyn Layer>>,
}

/// A fallback of a router around a nested one, and where the request was in that router. It sees
/// the request as that router does, whatever the nested one has matched before it gave up.
#[derive(Clone)]
pub(crate) struct Fallback {
    endpoint: Endpoint,
    place: Place,
}

impl Fallback {
    fn take(self, request: &mut Request) -> Endpoint {
        request.go_back(self.place);
        self.endpoint
    }
}

impl Routes {
    /// Finds what answers a request, and stores the path's parameters in the request.
    pub(crate) fn find(&self, request: &mut Request) -> Found {
        let place = request.place();
        self.find_own(request).or(request, place, &self.fallback)
    }

    fn find_own(&self, request: &mut Request) -> Found {
        let place = request.place();
        if let Some(routes) = self.find_host(request) {
            return Routes::found(&routes, request, place);
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
                Routes::found(&routes, request, place)
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

    /// Looks in a router inside of another one, where the request was at `place`.
    fn found(this: &Rc<Self>, request: &mut Request, place: Place) -> Found {
        let found = if this.layers.is_empty() {
            this.find(request)
        } else {
            Found::Layered(this.clone(), None)
        };
        found.or(request, place, &this.outer)
    }

    fn find_host(&self, request: &Request) -> Option<Rc<Routes>> {
        if self.hosts.is_empty() {
            return None;
        }
        let host = request.host()?;
        let matches = |name: &str| match name.strip_prefix('*') {
            Some(end) => host.len() > end.len() && host.ends_with(end),
            None => host == name,
        };
        // The name itself wins over all that are below another, and then the longest.
        self.hosts
            .iter()
            .filter(|(name, _)| matches(name))
            .max_by_key(|(name, _)| (!name.starts_with('*'), name.len()))
            .map(|(_, routes)| routes.clone())
    }

    pub(crate) fn has_layers(&self) -> bool {
        !self.layers.is_empty()
    }

    /// Answers a request through all layers. `fallback` answers if nothing behind them does.
    pub(crate) fn answer_all(
        this: &Rc<Self>,
        fallback: Option<Fallback>,
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
    pub(crate) fn answer(next: Next, mut request: Request) -> ResponseFuture {
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
            (Found::Nothing, Some(fallback)) => Found::Handler(fallback.take(&mut request)),
            (Found::Layered(routes, None), fallback) => Found::Layered(routes, fallback),
            (found, _) => found,
        };
        match found {
            Found::Layered(routes, fallback) => Routes::answer_all(&routes, fallback, request),
            Found::Answer(response) => response.into(),
            Found::Nothing => ResponseFuture::ready(nothing(&request)),
            Found::Handler(Endpoint { handler, origin }) => {
                let handle = request.handle().clone();
                ResponseFuture::called(&handle, origin, || handler(request))
            }
        }
    }
}

/// What the router found for a request.
pub(crate) enum Found {
    Handler(Endpoint),
    /// A router with layers, and the fallback for requests that it has no handler for.
    Layered(Rc<Routes>, Option<Fallback>),
    /// There is no handler; the response says why.
    Answer(Box<Response>),
    Nothing,
}

impl Found {
    /// Falls back to this endpoint if nothing is found, now or behind the layers. It gets the
    /// request as it was at `place`.
    fn or(self, request: &mut Request, place: Place, endpoint: &Option<Endpoint>) -> Self {
        let fallback = || {
            let endpoint = endpoint.clone()?;
            Some(Fallback { endpoint, place })
        };
        match self {
            Found::Nothing => fallback().map_or(Found::Nothing, |fallback| {
                Found::Handler(fallback.take(request))
            }),
            Found::Layered(routes, None) => Found::Layered(routes, fallback()),
            found => found,
        }
    }
}

/// The answer to a request that nothing was found for.
pub(crate) fn nothing(request: &Request) -> Response {
    // Only OPTIONS has this target. It is for the server as a whole (RFC 9110, 9.3.7).
    if request.path() == "*" {
        return StatusCode::NO_CONTENT.into_response();
    }
    Error::not_found("there is nothing here").into_response()
}
