//! A GTK window that draws each frame, with a server of each kind in its thread.

use std::{
    cell::RefCell,
    error::Error,
    fmt::Write,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use entwined::{
    Handle,
    broadcast::{Broadcast, Received},
    process::Command,
    protocol::{self, Echo},
    reactor::Histogram,
    rpc::{self, Failure, Methods},
    tls::{self, Acceptor, development},
    transport::{Address, tcp},
};
use entwined_http::{
    self as http, Body, Bytes, Config, Error as HttpError, Json, Request, Router, sse, websocket,
};
use gtk4::{Application, ApplicationWindow, DrawingArea, gio, glib, prelude::*};
use soak::{Addresses, Figures};

/// The length of a large response in bytes.
const LARGE: usize = 4 * 1024 * 1024;

/// The time between two events.
const TICK: Duration = Duration::from_millis(100);

/// How many items a stream of calls has.
const ITEMS: u32 = 100;

/// How many connections the report of a failure lists.
const SHOWN: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    soak::raise_descriptors();
    gtk4::init()?;
    let application = Application::builder()
        .flags(gio::ApplicationFlags::NON_UNIQUE)
        .build();
    let handle = entwined_gtk4::attach(&application)?.keep();
    let router = routes(&handle, &application);
    let identity = development::identity(["localhost"])?;
    let addresses = serve(&handle, &*router, &identity)?;
    println!("listening on {}", serde_json::to_string(&addresses)?);
    application.connect_activate(open_window);
    application.run_with_args::<&str>(&[]);
    Ok(())
}

/// Starts the servers, which run until the window closes.
fn serve(
    handle: &Handle,
    router: &dyn Fn() -> Router,
    identity: &tls::Identity,
) -> Result<Addresses, Box<dyn Error>> {
    let listen = || tcp::listen(handle, "127.0.0.1:0");
    let acceptor = |protocols: &[&str]| {
        Acceptor::builder(identity.clone())
            .protocols(protocols)
            .build()
    };
    // Short, so that peers that stall meet them in every minute.
    let config = Config {
        head_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_secs(8),
        write_timeout: Duration::from_secs(8),
        ..Config::default()
    };
    let plain = http::serve_with(listen()?, router(), config);
    let secure = acceptor(&["h2", "http/1.1"])?.listen(listen()?);
    let secure = http::serve_with(secure, router(), config);
    let echo = protocol::serve(listen()?, |_| Some(Echo));
    let tls_echo = protocol::serve(acceptor(&[])?.listen(listen()?), |_| Some(Echo));
    let calls = serve_calls(listen()?);
    let addresses = Addresses {
        http: socket(plain.local_address())?,
        https: socket(secure.local_address())?,
        echo: socket(echo.local_address())?,
        tls_echo: socket(tls_echo.local_address())?,
        rpc: socket(calls.local_address())?,
        certificates: identity
            .certificates()
            .iter()
            .map(|certificate| certificate.to_vec())
            .collect(),
    };
    plain.keep();
    secure.keep();
    echo.keep();
    tls_echo.keep();
    calls.keep();
    Ok(addresses)
}

fn socket(address: &Address) -> Result<SocketAddr, &'static str> {
    address.tcp().ok_or("it listens on TCP")
}

fn serve_calls(listener: entwined::transport::Listener) -> rpc::Server {
    rpc::serve(listener, |_: &rpc::Peer| {
        let mut methods = Methods::new();
        methods.add("add", |_, (one, other): (u64, u64)| async move {
            Ok::<_, Failure>(one.wrapping_add(other))
        });
        methods.add("wait", |_, (): ()| async {
            std::future::pending::<()>().await;
            Ok::<_, Failure>(())
        });
        methods.add_stream(
            "count",
            |_, (): (), items: rpc::Items<(u32, Vec<u8>)>| async move {
                for number in 0..ITEMS {
                    items.send(&(number, vec![0; 1_000])).await?;
                }
                Ok(())
            },
        );
        methods
    })
}

/// Returns what makes the routes of a server.
fn routes(handle: &Handle, application: &Application) -> Rc<dyn Fn() -> Router> {
    let ticks = Broadcast::<u64>::new(10);
    let mut tick = 0;
    handle.call_every(TICK, {
        let ticks = ticks.clone();
        move |_| {
            tick += 1;
            ticks.send(tick);
        }
    });
    let start = Instant::now();
    let large = Bytes::from(vec![b'x'; LARGE]);
    let (application, earlier) = (application.clone(), Rc::new(RefCell::default()));
    Rc::new(move || {
        let (ticks, earlier, application) = (ticks.clone(), earlier.clone(), application.clone());
        Router::new()
            .get("/hello", || "hello, world")
            .post("/echo", |mut request: Request| async move {
                request.bytes().await
            })
            .get("/large", {
                let large = large.clone();
                move || Body::from(large.clone())
            })
            .get("/events", move |request: Request| {
                sse::follow(&request, &ticks, |received| match received {
                    Received::Message { message, .. } => {
                        Some(sse::Event::data(&message.to_string()))
                    }
                    Received::Missed(_) => None,
                })
            })
            .get("/socket", |request: Request| {
                websocket::upgrade(request, |mut socket| async move {
                    while let Some(Ok(message)) = socket.next().await {
                        if socket.send(message).await.is_err() {
                            break;
                        }
                    }
                })
            })
            .get("/child", |request: Request| {
                run(request, Command::new("echo").arg("child"))
            })
            // Nobody waits for its end: it is killed when the peer has gone.
            .get("/long-child", |request: Request| {
                run(request, Command::new("sleep").arg("600"))
            })
            .get("/figures", move |request: Request| {
                Json(figures(request.handle(), start, &earlier))
            })
            .get("/census", |request: Request| census(request.handle()))
            .post("/end", move || application.quit())
    })
}

async fn run(request: Request, command: Command) -> Result<Vec<u8>, HttpError> {
    let output = command
        .die_with_parent(true)
        .output(request.handle(), 1_000)
        .await
        .map_err(HttpError::internal)?;
    Ok(output.stdout)
}

fn figures(handle: &Handle, start: Instant, earlier: &RefCell<Histogram>) -> Figures {
    let metrics = handle.metrics();
    let gaps = metrics.frames.gaps.since(&earlier.borrow());
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let figures = Figures {
        tasks: metrics.tasks,
        timers: metrics.timers,
        sources: metrics.sources,
        connections: metrics.connections,
        opened: metrics.connections_opened,
        drawn: metrics.frames.drawn,
        lost: metrics.frames.lost,
        time: milliseconds(start.elapsed()),
        waited: milliseconds(metrics.waited),
        gap_p99: milliseconds(gaps.quantile(0.99)),
    };
    earlier.replace(metrics.frames.gaps);
    figures
}

/// What there is now, for the report of a failure.
fn census(handle: &Handle) -> String {
    let census = handle.census();
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| {
        writeln!(text, "{line}").expect("a string takes everything");
    };
    for (origin, count) in census.tasks {
        line(format_args!("{count} tasks: {origin}"));
    }
    for (origin, count, _) in census.timers {
        line(format_args!("{count} timers: {origin}"));
    }
    line(format_args!(
        "{} tasks sleep or have a limit",
        census.sleeping
    ));
    line(format_args!(
        "{} connections, such as",
        census.connections.len()
    ));
    for connection in census.connections.iter().take(SHOWN) {
        line(format_args!(
            "  from {} for {:.1} s, {} bytes received, {} sent",
            connection.peer,
            (handle.now() - connection.since).as_secs_f64(),
            connection.received,
            connection.sent,
        ));
    }
    text
}

/// Opens a window that is redrawn in each frame.
fn open_window(application: &Application) {
    let area = DrawingArea::new();
    let window = ApplicationWindow::builder()
        .application(application)
        .default_width(400)
        .default_height(300)
        .child(&area)
        .build();
    area.set_draw_func(|area, cairo, width, height| {
        let time = area.frame_clock().map_or(0, |clock| clock.frame_time());
        let at = (time % 1_000_000) as f64 / 1e6;
        cairo.rectangle(at * f64::from(width), 0.0, 20.0, f64::from(height));
        let _ = cairo.fill();
    });
    area.add_tick_callback(|area, _| {
        area.queue_draw();
        glib::ControlFlow::Continue
    });
    window.present();
}
