//! The apps' network side: the page's routes, the echo protocol, and the ticking for them.

use std::{
    cell::Cell,
    collections::BTreeMap,
    error::Error,
    fmt,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    thread,
    time::{Duration, Instant},
};

use entwined::{
    Handle,
    broadcast::{Broadcast, Received, Subscriber},
    deferred::Deferred,
    protocol::{self, Echo},
    reactor::{Observer, Phase},
    tls::{self, Acceptor},
    transport::tcp,
};
use entwined_http::{
    self as http, Body, HeaderValue, Html, IntoResponse, Json, Request, Response, Router,
    StatusCode, header, layers, sse,
    websocket::{self, Message},
};
use entwined_watchdog::Watchdog;
use futures_core::Stream;
use serde::Deserialize;

use crate::search::{Archive, Pattern, PatternError, Running};
use crate::shelf::Shelf;
use crate::{Change, Model, Options, Pixels, Report, SAMPLE_INTERVAL, Subscription, page};

/// Makes the picture of an app's window on request: at once, or with the window's next frame.
pub type Picture = Rc<dyn Fn() -> Deferred<Arc<Pixels>, String>>;

/// Asks the user at the window, in a modal dialog. Returns when the dialog is closed by a button
/// (true for "yes"), or the time is up or the window is gone (`None`). The host's loop keeps
/// running inside.
pub type Ask = Rc<dyn Fn(&str, Duration) -> Option<bool>>;

/// Returns what is known about a window: names and values.
pub type Facts = Rc<dyn Fn() -> Vec<(String, String)>>;

/// What a window does for the site.
pub struct Window {
    /// Makes its picture.
    pub picture: Picture,
    /// Opens a dialog, if the host has modal ones.
    pub ask: Option<Ask>,
    /// Returns what is known about the window from outside its toolkit.
    pub facts: Option<Facts>,
}

/// The least time between two states sent to pages: the time of a frame.
const STATE_INTERVAL: Duration = Duration::from_millis(16);

/// How long a picture may take: a window that is not visible may draw no frame.
const PICTURE_LIMIT: Duration = Duration::from_secs(2);

/// After this time the thread counts as stuck, and the watchdog reports where.
const STUCK: Duration = Duration::from_millis(500);

/// Limits, for demonstration: how long a question may stay open (seconds), and how long a handler
/// may block the thread (milliseconds).
const MOST_ASKED: u64 = 60;
const MOST_HELD: u64 = 2_000;

/// The largest message in bytes that the mirror echoes: the largest that the probes send.
const MIRROR_MESSAGES: usize = 16 * 1024 * 1024;

/// The servers of an app. They run as long as this is kept.
pub struct Network {
    address: SocketAddr,
    scheme: &'static str,
    handle: Handle,
    archive: Archive,
    _http: http::Server,
    _echo: Option<protocol::Server>,
    _ticking: Subscription,
    _telling: Subscription,
    _observer: Observer,
}

impl Network {
    /// Listens as `options` say and prints the addresses. `window` is what a window provides, if
    /// there is one.
    ///
    /// # Errors
    /// Returns an error if an address cannot be listened on (the error says what to do), or if a
    /// temporary folder cannot be created.
    pub fn start(
        handle: &Handle,
        options: &Options,
        model: &Model,
        window: Option<Window>,
    ) -> Result<Self, Box<dyn Error>> {
        // Reports errors and callbacks that blocked the thread, with their place in the program.
        let observer = handle.observe(|report| eprintln!("{report}"));
        let archive = Archive::new(handle);
        if options.watchdog {
            watch(handle);
        }
        let (states, telling) = states(handle, model);
        let router = match options.mirror {
            true => mirror(model),
            false => {
                let site = site(model, states, &archive, &Shelf::new(model)?, window)
                    .nest("/monitor", http::monitor(handle));
                // Other people's web pages can reach the loopback interface too.
                if options.http.ip().is_loopback() {
                    site.layer(layers::local_only())
                } else {
                    site
                }
            }
        };
        let listener = tcp::listen(handle, options.http)?;
        let http = if options.tls {
            let identity = tls::development::identity(["localhost", "127.0.0.1", "::1"])
                .expect("these can be names");
            let acceptor = Acceptor::builder(identity)
                .protocols(["h2", "http/1.1"])
                .build()
                .expect("it fits itself");
            http::serve(acceptor.listen(listener), router)
        } else {
            http::serve(listener, router)
        };
        let echo = match options.echo {
            None => None,
            Some(address) => Some(protocol::serve(tcp::listen(handle, address)?, |_| {
                Some(Echo)
            })),
        };
        println!("http listening on {}", http.local_address());
        if let Some(echo) = &echo {
            println!("echo listening on {}", echo.local_address());
        }
        let address = http.local_address().tcp().unwrap_or(options.http);
        Ok(Network {
            address,
            scheme: if options.tls { "https" } else { "http" },
            handle: handle.clone(),
            archive,
            _http: http,
            _echo: echo,
            _ticking: tick(handle, model),
            _telling: telling,
            _observer: observer,
        })
    }

    /// Returns the URL that HTTP is served on, with the actual port if port 0 was requested.
    pub fn url(&self) -> String {
        format!("{}://{}/", self.scheme, self.address)
    }

    /// Returns the archive that the page searches, so that a window can search it too.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Returns the report for the end of the run.
    pub fn report(&self, model: &Model) -> Report {
        let metrics = self.handle.metrics();
        let longest = metrics
            .longest_callback
            .map_or(Duration::ZERO, |(duration, _)| duration);
        Report::new(model, metrics.turns, longest)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Prints where the thread is when it is stuck, for as long as the reactor runs.
fn watch(handle: &Handle) {
    let watched = handle.clone();
    // Start it inside the run: before the run begins there are no signs of life.
    handle.call_soon(move || {
        match Watchdog::start_with(&watched, STUCK, |stuck| eprintln!("{stuck}")) {
            // The watchdog ends with the run.
            Ok(watchdog) => {
                let end = || {
                    drop(watchdog);
                    async { Ok(()) }
                };
                watched.on_shutdown(Phase::After, end).keep();
            }
            Err(error) => eprintln!("the watchdog could not start: {error}"),
        }
    });
}

/// Answers every request with a description of it, and echoes messages on `/websocket`: for probes
/// of the server itself.
fn mirror(model: &Model) -> Router {
    let model = model.clone();
    let echo = |request: Request| {
        let config = websocket::Config {
            max_message_size: MIRROR_MESSAGES,
            max_queued: 2 * MIRROR_MESSAGES,
            ..websocket::Config::default()
        };
        websocket::upgrade_with(request, config, |mut socket| async move {
            while let Some(Ok(message)) = socket.next().await {
                if socket.send(message).await.is_err() {
                    break;
                }
            }
        })
    };
    Router::new()
        .get("/websocket", echo)
        .fallback(move |mut request: Request| {
            model.request();
            async move {
                let mut length = 0;
                while let Some(chunk) = request.chunk().await? {
                    length += chunk.len();
                }
                Ok::<_, http::Error>(format!("{} {} {length}\n", request.method(), request.uri()))
            }
        })
}

fn site(
    model: &Model,
    states: Broadcast<String>,
    archive: &Archive,
    shelf: &Shelf,
    window: Option<Window>,
) -> Router {
    values(model)
        .merge(live(model, states))
        .merge(search_in(model, archive))
        .merge(looks(model, window))
        .post(
            "/hold",
            with(model, |_, request| async move { hold(&request) }),
        )
        .nest("/files", shelf.router())
}

/// The page, and the values that it shows and sets.
fn values(model: &Model) -> Router {
    Router::new()
        .get("/", with(model, |_, _| async { Html(page()) }))
        .get("/hello", with(model, |_, _| async { "hello, world" }))
        .get(
            "/state",
            with(model, |model, _| async move { Json(model.snapshot()) }),
        )
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
                Ok::<_, http::Error>(Json(model.snapshot()))
            }),
        )
}

/// The values as they change: the newest over a WebSocket, all of them as events.
fn live(model: &Model, states: Broadcast<String>) -> Router {
    let newest = states.clone();
    Router::new()
        .get(
            "/live",
            with(model, move |_, request| {
                let states = Newest(newest.subscribe_to_kept());
                let response = websocket::upgrade(request, |mut socket| async move {
                    // A page that goes away is not an error, and messages from it are ignored.
                    let _ = socket.talk(states, |_| {}).await;
                });
                async { response }
            }),
        )
        .get(
            "/events",
            with(model, move |_, request| {
                let response = sse::follow(&request, &states, |received| match received {
                    Received::Message { message, .. } => Some(sse::Event::data(&message)),
                    Received::Missed(_) => None,
                });
                async { response }
            }),
        )
}

fn search_in(model: &Model, archive: &Archive) -> Router {
    let archive = archive.clone();
    Router::new().get(
        "/search",
        with(model, move |_, request| {
            let response = search(&archive, &request);
            async { response }
        }),
    )
}

/// The window's picture, what is known about it, and what its user answers.
fn looks(model: &Model, window: Option<Window>) -> Router {
    let (picture, ask, facts) = match window {
        Some(window) => (Some(window.picture), window.ask, window.facts),
        None => (None, None, None),
    };
    let asking = Cell::new(false);
    Router::new()
        .get(
            "/window.png",
            with(model, move |_, request| {
                let picture = picture.clone();
                async move { png(request.handle(), picture).await }
            }),
        )
        .get(
            "/window",
            with(model, move |_, _| {
                let facts = facts
                    .as_ref()
                    .map(|facts| facts().into_iter().collect::<BTreeMap<_, _>>());
                async {
                    facts
                        .map(Json)
                        .ok_or_else(|| http::Error::not_found("nothing is known about a window"))
                }
            }),
        )
        .post(
            "/ask",
            with(model, move |_, request| {
                let answer = question(request, ask.as_ref(), &asking);
                async { answer }
            }),
        )
}

/// Asks the user at the window, and waits inside the handler; other requests are served meanwhile.
/// One at a time: each dialog has a loop of its own, inside those of the others.
fn question(
    request: Request,
    ask: Option<&Ask>,
    asking: &Cell<bool>,
) -> Result<Response, http::Error> {
    struct Asks<'a>(&'a Cell<bool>);
    impl Drop for Asks<'_> {
        fn drop(&mut self) {
            self.0.set(false);
        }
    }
    #[derive(Deserialize)]
    struct Query {
        text: String,
        #[serde(default = "Query::seconds")]
        seconds: u64,
    }
    impl Query {
        fn seconds() -> u64 {
            10
        }
    }
    let ask = ask.ok_or_else(|| http::Error::not_found("this app has no dialogs"))?;
    let Query { text, seconds } = request.query()?;
    let text: String = text.chars().take(crate::MAX_TEXT).collect();
    if asking.replace(true) {
        let message = "another question is open";
        return Err(http::Error::new(StatusCode::CONFLICT, message));
    }
    let _asks = Asks(asking);
    let answer = ask(&text, Duration::from_secs(seconds.min(MOST_ASKED)));
    Ok(Json(serde_json::json!({ "answer": answer })).into_response())
}

/// Blocks the thread, as no handler should, so that the monitor can name it.
fn hold(request: &Request) -> Result<String, http::Error> {
    #[derive(Deserialize)]
    struct Query {
        ms: u64,
    }
    let Query { ms } = request.query()?;
    let time = Duration::from_millis(ms.min(MOST_HELD));
    thread::sleep(time);
    Ok(format!("the thread was blocked for {time:?}"))
}

/// Wraps a handler: counts its requests and passes it the model.
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

/// Sends the states of a search as events. The search ends when the client disconnects.
fn search(archive: &Archive, request: &Request) -> Result<Response, http::Error> {
    #[derive(Deserialize)]
    struct Query {
        #[serde(default)]
        q: String,
    }
    let Query { q } = request.query()?;
    let pattern: Pattern = q
        .parse()
        .map_err(|error: PatternError| http::Error::bad_request(error.to_string()))?;
    Ok(sse::response(
        request.handle(),
        Searched(archive.search(pattern)),
    ))
}

struct Searched(Running);

impl Stream for Searched {
    type Item = sse::Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<sse::Event>> {
        let state = Pin::new(&mut self.0).poll_next(cx);
        state.map(|state| state.map(|state| sse::Event::data(&state.to_json())))
    }
}

async fn png(handle: &Handle, picture: Option<Picture>) -> Result<Response, http::Error> {
    let picture = picture.ok_or_else(|| http::Error::not_found("this app has no window"))?;
    let on_thread = handle.clone();
    // Only this thread can draw the picture. Encoding takes too long to run between two frames, so
    // it goes to another thread.
    let png =
        picture().add_callback(move |pixels| on_thread.defer_to_thread(move |_| Ok(pixels.png())));
    let png = png
        .add_timeout(handle, PICTURE_LIMIT)
        .await
        .map_err(http::Error::internal)?;
    let mut response = Body::from(png).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/png"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Broadcasts the model's states as JSON. A slow receiver gets the newest state and skips those in
/// between, so nothing queues up.
fn states(handle: &Handle, model: &Model) -> (Broadcast<String>, Subscription) {
    let states = Broadcast::new(1);
    let json =
        |model: &Model| serde_json::to_string(&model.snapshot()).expect("a snapshot is plain data");
    states.send(json(model));
    let (handle, channel, scheduled) = (handle.clone(), states.clone(), Rc::new(Cell::new(false)));
    let telling = model.on_change(move |model, _| {
        // One message for all changes before the page's next frame.
        if !scheduled.replace(true) {
            let (model, channel, scheduled) = (model.clone(), channel.clone(), scheduled.clone());
            handle.call_later(STATE_INTERVAL, move || {
                scheduled.set(false);
                channel.send(json(&model));
            });
        }
    });
    (states, telling)
}

/// The states as messages.
struct Newest(Subscriber<String>);

impl Stream for Newest {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        loop {
            match ready!(Pin::new(&mut self.0).poll_next(cx)) {
                Some(Received::Message { message, .. }) => {
                    return Poll::Ready(Some(Message::from(message.as_str())));
                }
                Some(Received::Missed(_)) => {}
                None => return Poll::Ready(None),
            }
        }
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
        handle
            .clone()
            .call_later(SAMPLE_INTERVAL, move || keep_ticking(handle, model));
    }
}
