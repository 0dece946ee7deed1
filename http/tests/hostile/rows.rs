//! The table.

mod client;
mod framing;
mod http2;
mod server;
mod tls;
mod websocket;

use std::time::Duration;

use entwined::{Handle, transport::tcp};
use entwined_http::{self as http, Router, client::Client};

use crate::{
    Row, Victim,
    attack::{self, Target},
    victim,
};

/// No callback may take longer on a quiet machine.
const CALLBACK: Duration = Duration::from_millis(4);

const SITE: victim::Server = |handle: &Handle| {
    let listener = tcp::listen(handle, "127.0.0.1:0").expect("a port");
    let router = Router::new()
        .get("/", || "hello")
        .post("/", |body: String| body.len().to_string());
    let server = http::serve(listener, router);
    let address = server.local_address().tcp().expect("TCP");
    (address, Box::new(server))
};

/// A client that asks for a page, and says its status and length, or the error.
const READER: victim::Client = |handle, address| {
    Box::pin(async move {
        let asked = Client::new(&handle).get(&format!("http://{address}/"));
        match asked.send().await {
            Ok(mut response) => match response.bytes().await {
                Ok(body) => format!("{} with {} bytes", response.status(), body.len()),
                Err(error) => format!("error: {error}"),
            },
            Err(error) => format!("error: {error}"),
        }
    })
};

/// Reads the client's request, sends `answer`, and waits until the client is gone.
fn answer(target: &Target, answer: &[u8]) -> String {
    let mut stream = target.connect();
    attack::read(&mut stream, 1);
    attack::send(&mut stream, answer);
    attack::read(&mut stream, usize::MAX);
    String::new()
}

/// All rows.
pub fn all() -> impl Iterator<Item = &'static Row> {
    [
        ROWS,
        client::ROWS,
        framing::ROWS,
        server::ROWS,
        http2::ROWS,
        tls::ROWS,
        websocket::ROWS,
    ]
    .into_iter()
    .flatten()
}

const ROWS: &[Row] = &[
    Row {
        name: "a head of 70 KiB",
        victim: Victim::Server(SITE),
        attack: |target: Target| {
            let head = format!(
                "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
                "x".repeat(70 * 1024)
            );
            attack::ask(&target, head.as_bytes())
        },
        answer: "HTTP/1.1 431",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "a body of 3 MiB where 2 MiB are allowed",
        victim: Victim::Server(SITE),
        attack: |target: Target| {
            let mut request =
                b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3145728\r\n\r\n".to_vec();
            request.resize(request.len() + 3 * 1024 * 1024, b'x');
            attack::ask(&target, &request)
        },
        answer: "HTTP/1.1 413",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "a response with a head of 1 MiB",
        victim: Victim::Client(READER),
        attack: |target: Target| {
            let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(1024 * 1024));
            answer(&target, head.as_bytes())
        },
        answer: "error: ",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
];
