//! What the apps have on the network: the page's routes, the echo protocol, and the ticking that goes with them.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use entwined::{
    Handle,
    deferred::Deferred,
    http::{
        self, Body, Error, HeaderValue, Html, IntoResponse, Json, Request, Response, Router, header, sse, websocket,
    },
    protocol::{self, Echo},
    signal::{self, Signals},
    transport::{ListenError, tcp},
};
use futures_core::Stream;
use serde::Deserialize;

use crate::search::{Archive, Pattern, PatternError, Running};
use crate::{Change, Model, Options, Report, SAMPLE_INTERVAL, Subscription, page};

/// The picture of an app's window as a PNG, made when it is asked for: at once, or with the window's next frame.
pub type Picture = Rc<dyn Fn() -> Deferred<Vec<u8>, String>>;

/// How long a picture may take: a window that nobody sees may draw no frame.
const PICTURE_LIMIT: Duration = Duration::from_secs(2);

/// Bytes of a message that the mirror says again: the probes' largest.
const MIRROR_MESSAGES: usize = 16 * 1024 * 1024;

/// The servers of an app, as long as it is kept.
pub struct Network {
    address: SocketAddr,
    handle: Handle,
    archive: Archive,
    _http: http::Server,
    _echo: Option<protocol::Server>,
    _ticking: Subscription,
}

impl Network {
    /// Listens as `options` say and prints the addresses. `picture` is asked for the window's picture, where there is a window.
    ///
    /// # Errors
    /// An address that cannot be listened on, with what to do about it.
    pub fn start(
        handle: &Handle,
        options: &Options,
        model: &Model,
        picture: Option<Picture>,
    ) -> Result<Self, ListenError> {
        let archive = Archive::new(handle);
        let router = if options.mirror { mirror(model) } else { site(handle, model, &archive, picture) };
        let http = http::serve(tcp::listen(handle, options.http)?, router);
        let echo = match options.echo {
            None => None,
            Some(address) => Some(protocol::serve(tcp::listen(handle, address)?, |_peer: &_| Some(Echo))),
        };
        println!("http listening on {}", http.local_address());
        if let Some(echo) = &echo {
            println!("echo listening on {}", echo.local_address());
        }
        let address = http.local_address().tcp().unwrap_or(options.http);
        Ok(Network {
            address,
            handle: handle.clone(),
            archive,
            _http: http,
            _echo: echo,
            _ticking: tick(handle, model),
        })
    }

    /// The address that HTTP is served on, with the port that was chosen for port 0.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// What the page searches, for a window to search too.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// What there is to report at the end.
    pub fn report(&self, model: &Model) -> Report {
        let metrics = self.handle.metrics();
        let longest = metrics.longest_callback.map_or(Duration::ZERO, |(duration, _)| duration);
        Report::new(model, metrics.turns, longest)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Has `end` called when the process is asked to end (SIGINT, SIGTERM): for apps whose host knows nothing of signals.
///
/// # Errors
/// When there are no file descriptors left.
pub fn on_termination(handle: &Handle, end: impl FnOnce() + 'static) -> io::Result<()> {
    let interrupt = Signals::new(handle, signal::SIGINT)?;
    let terminate = Signals::new(handle, signal::SIGTERM)?;
    let asked = poll_fn(move |cx| {
        // Both are asked, so that each wakes the task.
        let asked = [interrupt.poll_next(cx), terminate.poll_next(cx)];
        if asked.iter().any(Poll::is_ready) { Poll::Ready(()) } else { Poll::Pending }
    });
    handle
        .spawn(async move {
            asked.await;
            end();
        })
        .detach();
    Ok(())
}

/// Every request is answered by what it was, and `/websocket` says what it is told: for probes of the server itself.
fn mirror(model: &Model) -> Router {
    let model = model.clone();
    let echo = |request: Request| {
        let mut config = websocket::Config::default();
        config.message_limit = MIRROR_MESSAGES;
        config.queue_limit = 2 * MIRROR_MESSAGES;
        websocket::upgrade_with(request, config, |mut socket| async move {
            while let Some(Ok(message)) = socket.next().await {
                if socket.send(message).await.is_err() {
                    break;
                }
            }
        })
    };
    Router::new().get("/websocket", echo).fallback(move |mut request: Request| {
        model.request();
        async move {
            let mut length = 0;
            while let Some(chunk) = request.chunk().await? {
                length += chunk.len();
            }
            Ok::<_, Error>(format!("{} {} {length}\n", request.method(), request.uri()))
        }
    })
}

fn site(handle: &Handle, model: &Model, archive: &Archive, picture: Option<Picture>) -> Router {
    let handle = handle.clone();
    let archive = archive.clone();
    Router::new()
        .get("/", with(model, |_, _| async { Html(page()) }))
        .get("/hello", with(model, |_, _| async { "hello, world" }))
        .get("/state", with(model, |model, _| async move { Json(model.snapshot()) }))
        .post(
            "/count",
            with(model, |model, _| async move {
                model.add();
                Json(model.snapshot())
            }),
        )
        .put(
            "/text",
            with(model, |model, mut request| async move {
                model.set_text(&request.text().await?);
                Ok::<_, Error>(Json(model.snapshot()))
            }),
        )
        .get(
            "/events",
            with(model, move |model, _| {
                let response = sse::response(&handle, States::of(model));
                async { response }
            }),
        )
        .get(
            "/search",
            with(model, move |_, request| {
                let response = search(&archive, &request);
                async { response }
            }),
        )
        .get(
            "/window.png",
            with(model, move |_, request| {
                let picture = picture.clone();
                async move { png(request.handle(), picture).await }
            }),
        )
}

/// A handler that counts its requests and is given the model.
fn with<F, Fut>(model: &Model, handler: F) -> impl Fn(Request) -> Fut + 'static
where
    F: Fn(Model, Request) -> Fut + 'static,
{
    let model = model.clone();
    move |request| {
        model.request();
        handler(model.clone(), request)
    }
}

/// The states of a search as events. It ends when the client goes.
fn search(archive: &Archive, request: &Request) -> Result<Response, Error> {
    #[derive(Deserialize)]
    struct Query {
        #[serde(default)]
        q: String,
    }
    let Query { q } = request.query()?;
    let pattern: Pattern = q.parse().map_err(|error: PatternError| Error::bad_request(error.to_string()))?;
    Ok(sse::response(request.handle(), Searched(archive.search(pattern))))
}

struct Searched(Running);

impl Stream for Searched {
    type Item = sse::Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<sse::Event>> {
        let state = Pin::new(&mut self.0).poll_next(cx);
        state.map(|state| state.map(|state| sse::Event::data(&state.to_json())))
    }
}

async fn png(handle: &Handle, picture: Option<Picture>) -> Result<Response, Error> {
    let picture = picture.ok_or_else(|| Error::not_found("this app has no window"))?;
    let png = handle.limit(PICTURE_LIMIT, picture()).await.map_err(Error::internal)?;
    let mut response = Body::from(png).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/png"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The model's state, each time it has changed. A reader that is slow gets the newest and skips what was in between, so
/// nothing queues up for it.
struct States {
    model: Model,
    news: Rc<News>,
    _subscription: Subscription,
}

struct News {
    fresh: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl States {
    fn of(model: Model) -> Self {
        let news = Rc::new(News { fresh: Cell::new(true), waker: RefCell::default() });
        let subscription = model.on_change({
            let news = news.clone();
            move |_, _| {
                news.fresh.set(true);
                let waker = news.waker.borrow_mut().take();
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        });
        States { model, news, _subscription: subscription }
    }
}

impl Stream for States {
    type Item = sse::Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<sse::Event>> {
        if self.news.fresh.replace(false) {
            let snapshot = serde_json::to_string(&self.model.snapshot()).expect("a snapshot is plain data");
            return Poll::Ready(Some(sse::Event::data(&snapshot)));
        }
        *self.news.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Samples the model's rates as long as they change; then sleeps until there is a request again.
fn tick(handle: &Handle, model: &Model) -> Subscription {
    let handle = handle.clone();
    model.on_change(move |model, change| {
        if change == Change::Awake {
            keep_ticking(handle.clone(), model.clone());
        }
    })
}

fn keep_ticking(handle: Handle, model: Model) {
    if model.tick(Instant::now()) {
        handle.clone().call_later(SAMPLE_INTERVAL, move || keep_ticking(handle, model));
    }
}
