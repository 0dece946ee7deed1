//! What a peer may send to a web server, in each version: the server must answer or close the
//! connection, and leave nothing behind.
#![no_main]

use arbitrary::Arbitrary;
use entwined::{simulation::Simulation, transport::listen_once};
use entwined_http::{
    self as http, Error, Files, Form, Json, Multipart, Path, Query, Request, Router, State,
    layers::{self, Session, SessionKey},
    sse, websocket,
};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    fragment: u8,
    pieces: Vec<Piece<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Piece<'a> {
    Raw(&'a [u8]),
    Request {
        method: u8,
        path: u8,
        rest_of_path: &'a str,
        headers: Vec<(u8, &'a [u8])>,
        body: Body<'a>,
    },
    /// The HTTP/2 connection preface.
    Preface,
    Frame {
        kind: u8,
        flags: u8,
        stream: u8,
        payload: &'a [u8],
    },
}

#[derive(Arbitrary, Debug)]
enum Body<'a> {
    None,
    Length(&'a [u8]),
    Chunked(Vec<&'a [u8]>),
    Parts(Vec<(&'a [u8], &'a [u8])>),
}

const METHODS: [&str; 6] = ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE"];
const PATHS: [&str; 9] = [
    "/files/", "/form", "/json", "/parts", "/query?", "/path/", "/ws", "/session", "/events",
];
const HEADERS: [&str; 18] = [
    "range",
    "if-range",
    "if-none-match",
    "if-match",
    "if-modified-since",
    "accept-encoding",
    "cookie",
    "origin",
    "authorization",
    "content-type",
    "connection",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "expect",
    "last-event-id",
    "access-control-request-method",
];

impl Piece<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Piece::Raw(bytes) => out.extend_from_slice(bytes),
            Piece::Preface => out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            Piece::Frame {
                kind,
                flags,
                stream,
                payload,
            } => {
                let length = (payload.len() as u32).to_be_bytes();
                out.extend_from_slice(&[
                    length[1],
                    length[2],
                    length[3],
                    kind % 12,
                    *flags,
                    0,
                    0,
                    0,
                    *stream,
                ]);
                out.extend_from_slice(payload);
            }
            Piece::Request {
                method,
                path,
                rest_of_path,
                headers,
                body,
            } => {
                let method = METHODS[usize::from(*method) % METHODS.len()];
                let path = PATHS[usize::from(*path) % PATHS.len()];
                out.extend_from_slice(
                    format!("{method} {path}{rest_of_path} HTTP/1.1\r\nhost: localhost\r\n")
                        .as_bytes(),
                );
                for (name, value) in headers {
                    out.extend_from_slice(HEADERS[usize::from(*name) % HEADERS.len()].as_bytes());
                    out.extend_from_slice(b": ");
                    out.extend_from_slice(value);
                    out.extend_from_slice(b"\r\n");
                }
                body.write(out);
            }
        }
    }
}

impl Body<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Body::None => out.extend_from_slice(b"\r\n"),
            Body::Length(body) => {
                out.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
                out.extend_from_slice(body);
            }
            Body::Chunked(chunks) => {
                out.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
                for chunk in chunks {
                    out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    out.extend_from_slice(chunk);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"0\r\n\r\n");
            }
            Body::Parts(parts) => {
                let mut body = Vec::new();
                for (headers, content) in parts {
                    body.extend_from_slice(b"--x\r\ncontent-disposition: form-data; ");
                    body.extend_from_slice(headers);
                    body.extend_from_slice(b"\r\n\r\n");
                    body.extend_from_slice(content);
                    body.extend_from_slice(b"\r\n");
                }
                body.extend_from_slice(b"--x--\r\n");
                let head = "content-type: multipart/form-data; boundary=x";
                out.extend_from_slice(
                    format!("{head}\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(),
                );
                out.extend_from_slice(&body);
            }
        }
    }
}

fn router() -> Router {
    let files = Files::embedded(|name| match name {
        "a.txt" => Some(b"0123456789".as_slice().into()),
        "b/index.html" => Some(b"<p>".as_slice().into()),
        _ => None,
    });
    type Fields = std::collections::HashMap<String, String>;
    Router::new()
        .mount("/files", files)
        .any("/form", |Form(fields): Form<Fields>| {
            fields.len().to_string()
        })
        .any("/json", |Json(numbers): Json<Vec<i64>>| Json(numbers))
        .any("/parts", |mut form: Multipart| async move {
            let mut all = 0;
            while let Some(mut part) = form.next().await? {
                all += part.bytes(1_000).await?.len();
            }
            Ok::<_, Error>(all.to_string())
        })
        .any("/query", |Query(fields): Query<Fields>| {
            fields.len().to_string()
        })
        .any("/path/{number}", |Path(number): Path<u32>| {
            number.to_string()
        })
        .any("/session", |State(session): State<Session>| {
            let count = session.get::<u32>("count").unwrap_or(0) + 1;
            session.set("count", &count)?;
            Ok::<_, Error>(count.to_string())
        })
        .any("/events", |request: Request| {
            sse::follow(
                &request,
                &entwined::broadcast::Broadcast::<u8>::new(1),
                |_| None,
            )
        })
        .any("/ws", |request: Request| {
            websocket::upgrade(request, |mut socket| async move {
                while let Some(Ok(message)) = socket.next().await {
                    if socket.send(message).await.is_err() {
                        break;
                    }
                }
            })
        })
        .layer(layers::sessions(
            SessionKey::from_bytes(&[7; 64]).expect("long enough"),
        ))
        .layer(layers::compression().min_size(0))
        .layer(layers::cors().origin("http://localhost"))
        .layer(layers::local_only())
}

fuzz_target!(|case: Case<'_>| {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, far) = fuzz::connection(&handle, case.fragment);
    let server = http::serve(listen_once(&handle, far), router());
    let mut bytes = Vec::new();
    for piece in &case.pieces {
        piece.write(&mut bytes);
    }
    fuzz::say(&simulation, near, bytes);
    assert_eq!(server.connections(), 0);
});
