//! An axum router inside one of Entwined's.

use std::{
    convert::Infallible,
    future::poll_fn,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    pin::Pin,
    process::Command,
    task::{Context, Poll},
};

use axum::{Json, body::Body, extract::Path, response::IntoResponse, routing};
use entwined::transport::tcp;
use entwined_http::{self as http, Bytes, HeaderMap, Router, tower};
use http_body::{Body as HttpBody, Frame};

#[test]
fn an_axum_router_serves_on_this_thread() {
    crate::run::run(|handle| async move {
        let axum = axum::Router::new()
            .route(
                "/hello/{name}",
                routing::get(|Path(name): Path<String>| async move { format!("hello, {name}") }),
            )
            .route(
                "/sum",
                routing::post(
                    |Json(all): Json<Vec<i64>>| async move { Json(all.iter().sum::<i64>()) },
                ),
            );
        let router = Router::new()
            .get("/", || "ours")
            .mount("/axum", tower(axum));
        let server = http::serve(
            tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a free port"),
            router,
        );
        let address = server.local_address().to_string();
        let asking = handle.defer_to_thread(move |_| {
            let curl = |arguments: &[&str], path: &str| {
                let url = format!("http://{address}{path}");
                let output = Command::new("curl")
                    .args(["-s", "-w", " %{http_code}"])
                    .args(arguments)
                    .arg(url)
                    .output();
                String::from_utf8_lossy(&output.expect("apt-get install curl").stdout).into_owned()
            };
            Ok::<_, String>([
                curl(&[], "/"),
                curl(&[], "/axum/hello/Ada?x=1"),
                curl(&["--http2-prior-knowledge"], "/axum/hello/Ada"),
                curl(&["--json", "[1, 2, 3]"], "/axum/sum"),
                curl(&[], "/axum/none"),
            ])
        });
        let answers = asking.await.expect("answers");
        assert_eq!(
            answers,
            [
                "ours 200",
                "hello, Ada 200",
                "hello, Ada 200",
                "6 200",
                " 404"
            ]
        );
    });
}

/// A body with the trailers of the request, as gRPC has them.
struct Trailed(Option<Bytes>, Option<HeaderMap>);

impl HttpBody for Trailed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.0.take().map(Frame::data);
        let frame = data.or_else(|| self.1.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }
}

async fn echo_trailers(request: axum::extract::Request) -> impl IntoResponse {
    let mut body = Box::pin(request.into_body());
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().expect("a value"));
    while let Some(Ok(frame)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        if let Ok(more) = frame.into_trailers() {
            trailers.extend(more);
        }
    }
    let body = Trailed(Some(Bytes::from_static(b"answer")), Some(trailers));
    ([("trailer", "grpc-status, x-echo")], Body::new(body))
}

/// Sends a request by hand, and returns all that comes.
fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_service_at_the_root_has_trailers_both_ways_and_no_upgrade() {
    crate::run::run(|handle| async move {
        let switch = || async {
            let headers = [("connection", "upgrade"), ("upgrade", "websocket")];
            (http::StatusCode::SWITCHING_PROTOCOLS, headers)
        };
        let axum = axum::Router::new()
            .route("/trailers", routing::post(echo_trailers))
            .route("/switch", routing::get(switch))
            .route("/", routing::get(|| async { "axum's root" }));
        let router = Router::new()
            .get("/ours", || "ours")
            .mount("/", tower(axum));
        let server = http::serve(
            tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a free port"),
            router,
        );
        let address = server.local_address().to_string();
        let asking = handle.defer_to_thread(move |_| {
            let two = Command::new("curl")
                .args(["-s", "-D", "-", "--http2-prior-knowledge", "-X", "POST"])
                .arg(format!("http://{address}/trailers"))
                .output()
                .expect("apt-get install curl");
            let get = |path: &str, headers: &str| {
                let close = "connection: close";
                let headers = if headers.is_empty() { close } else { headers };
                ask(
                    &address,
                    &format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n\r\n"),
                )
            };
            Ok::<_, String>([
                String::from_utf8_lossy(&two.stdout).into_owned(),
                ask(
                    &address,
                    "POST /trailers HTTP/1.1\r\nhost: x\r\nte: trailers\r\nconnection: close\r\n\
                     transfer-encoding: chunked\r\ntrailer: x-echo\r\n\r\n\
                     1\r\na\r\n0\r\nx-echo: hello\r\n\r\n",
                ),
                get(
                    "/switch",
                    "connection: upgrade, close\r\nupgrade: websocket",
                ),
                get("/", ""),
                get("/ours", ""),
            ])
        });
        let [two, one, switched, root, ours] = asking.await.expect("answers");
        assert!(
            two.contains("answer") && two.contains("grpc-status: 0"),
            "{two}"
        );
        assert!(one.contains("answer\r\n0\r\n"), "{one}");
        assert!(
            one.contains("grpc-status: 0") && one.contains("x-echo: hello"),
            "{one}"
        );
        assert!(switched.starts_with("HTTP/1.1 501"), "{switched}");
        assert!(root.ends_with("axum's root"), "{root}");
        assert!(ours.ends_with("ours"), "{ours}");
    });
}

#[test]
fn the_body_of_a_service_keeps_the_least_rate() {
    crate::run::run(|handle| async move {
        let read = |request: axum::extract::Request| async move {
            match axum::body::to_bytes(request.into_body(), 1_000_000).await {
                Ok(body) => format!("all {} bytes", body.len()),
                Err(error) => error.to_string(),
            }
        };
        let axum = axum::Router::new().route("/", routing::post(read));
        let config = http::Config {
            rate_grace: std::time::Duration::from_millis(100),
            ..http::Config::default()
        };
        let listener = tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let server = http::serve_with(listener, Router::new().mount("/", tower(axum)), config);
        let address = server.local_address().to_string();
        let asking = handle.defer_to_thread(move |_| {
            let ask = |body: &str| {
                let head = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
                ask(&address, &format!("{head}content-length: 5\r\n\r\n{body}"))
            };
            Ok::<_, String>([ask("hello"), ask("he")])
        });
        let [whole, slow] = asking.await.expect("answers");
        assert!(whole.ends_with("all 5 bytes"), "{whole}");
        assert!(slow.ends_with("the body arrives too slowly"), "{slow}");
    });
}
