//! hyper on tokio's current-thread runtime: what a Rust program would use if it had no GUI.

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use peers::{Outcome, address_from_command_line, announce, records};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

fn main() -> Outcome {
    let address = address_from_command_line()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, serve(address))
}

async fn serve(address: SocketAddr) -> Outcome {
    let listener = TcpListener::bind(address).await?;
    announce(listener.local_addr()?);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                spawn_local(converse(stream));
            }
            // Most likely out of file descriptors: tokio would report the same error again at once.
            Err(error) => {
                eprintln!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream) {
    // Errors from a peer that resets its connection do not matter in a benchmark, here and below.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| ready(Ok::<_, Infallible>(answer(&request))));
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn answer(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (content_type, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/hello") => (
            "text/plain; charset=utf-8",
            Bytes::from_static(b"hello, world"),
        ),
        (&Method::GET, "/json") => {
            let json = serde_json::to_vec(&records()).expect("records are plain data");
            ("application/json", json.into())
        }
        _ => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
    };
    let mut response = Response::new(Full::new(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
