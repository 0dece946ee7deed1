//! Shows what the reactor is doing, as a web page and for Prometheus.

mod prometheus;
mod sample;

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;

use self::sample::Sampler;
use super::{
    Error, IntoResponse, Redirect, Request, Response, Router, StatusCode,
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue},
    sse,
};
use entwined::{reactor::Handle, task::Sleep};

const PAGE: &str = include_str!("page.html");
const SHARED_STYLE: &str = include_str!("style.css");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The time between updates of an open page.
const INTERVAL: Duration = Duration::from_millis(250);

/// A site that shows what a reactor is doing: how the thread's time is spent, how regular the
/// window's frames are, which callbacks held the thread for too long and where they were
/// registered, which connections are open, and what is waiting. [Nest](Router::nest) it in another
/// site:
///
/// ```
/// use entwined::Handle;
/// use entwined_http::{self as http, Router};
///
/// fn site(handle: &Handle) -> Router {
///     Router::new().get("/", || "hello").nest("/monitor", http::monitor(handle))
/// }
/// ```
///
/// `/monitor/` is the page. It is live: server-sent events update it four times a second.
/// `/monitor/metrics` returns the figures in the Prometheus text format (version 0.0.4). An open
/// page costs about 0.1 % of the thread's time, and at most 16 may be open. While no page is open,
/// nothing extra is recorded.
///
/// The page shows source lines of the program and addresses of peers, so it must not be public: put
/// it behind [`local_only`](crate::layers::local_only), behind
/// [`basic_auth`](crate::layers::basic_auth), or on a site of its own.
pub fn monitor(handle: &Handle) -> Router {
    Router::new()
        .get("/", page)
        .get("/style.css", || {
            file("text/css; charset=utf-8", SHARED_STYLE)
        })
        .get("/page.css", || file("text/css; charset=utf-8", STYLE))
        .get("/page.js", || {
            file("text/javascript; charset=utf-8", SCRIPT)
        })
        .get("/metrics", {
            let handle = handle.clone();
            move || {
                let text = prometheus::text(&handle.metrics(), &handle.stalls());
                with(
                    text.into_response(),
                    CONTENT_TYPE,
                    "text/plain; version=0.0.4; charset=utf-8",
                )
            }
        })
        .get("/live", {
            let (handle, open) = (handle.clone(), Rc::new(()));
            move || {
                // Each of them has a clone.
                if Rc::strong_count(&open) > MAX_PAGES {
                    return Err(Error::new(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "too many of these pages are open",
                    ));
                }
                Ok(sse::response(&handle, Live::new(&handle, open.clone())))
            }
        })
}

fn page(request: Request) -> Response {
    let path = request.uri().path();
    if !path.ends_with('/') {
        // Without the slash, the page's relative links would not resolve below it.
        let last = path.rsplit('/').next().unwrap_or_default();
        let query = request.uri().query();
        let query = query.map_or_else(String::new, |query| format!("?{query}"));
        // Without `./`, a name with a colon would be a scheme (RFC 3986, 4.2).
        return Redirect::permanent(format!("./{last}/{query}")).into_response();
    }
    with(
        file("text/html; charset=utf-8", PAGE),
        CONTENT_SECURITY_POLICY,
        "default-src 'self'; img-src data:",
    )
}

fn file(kind: &'static str, text: &'static str) -> Response {
    with(
        with(text.into_response(), CONTENT_TYPE, kind),
        CACHE_CONTROL,
        "no-cache",
    )
}

fn with(mut response: Response, name: HeaderName, value: &'static str) -> Response {
    response
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
    response
}

/// How many pages may be open. Each takes samples four times a second.
const MAX_PAGES: usize = 16;

/// The stream of updates for an open page.
struct Live {
    handle: Handle,
    sampler: Sampler,
    sleep: Sleep,
    _open: Rc<()>,
}

impl Live {
    fn new(handle: &Handle, open: Rc<()>) -> Self {
        Live {
            handle: handle.clone(),
            sampler: Sampler::new(handle),
            sleep: handle.sleep(Duration::ZERO),
            _open: open,
        }
    }
}

impl Stream for Live {
    type Item = sse::Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<sse::Event>> {
        let this = &mut *self;
        ready!(Pin::new(&mut this.sleep).poll(cx));
        this.sleep.reset(this.handle.now() + INTERVAL);
        let sample = this.sampler.next(&this.handle);
        Poll::Ready(Some(sse::Event::data(&sample.to_string())))
    }
}
