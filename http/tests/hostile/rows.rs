//! The table.

use std::time::Duration;

use entwined::{Handle, transport::tcp};
use entwined_http::{self as http, Router};

use crate::{
    Row, Victim,
    attack::{self, Target},
    victim::Server,
};

/// No callback may take longer on a quiet machine.
const CALLBACK: Duration = Duration::from_millis(4);

const SITE: Server = |handle: &Handle| {
    let listener = tcp::listen(handle, ([127, 0, 0, 1], 0).into()).expect("a port");
    let router = Router::new()
        .get("/", || "hello")
        .post("/", |body: String| body.len().to_string());
    let server = http::serve(listener, router);
    let address = server.local_address().tcp().expect("TCP");
    (address, Box::new(server))
};

pub const ROWS: &[Row] = &[
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
        max_memory: 4096,
    },
];
