//! What a peer sends to a server that parses all it can.

use std::{collections::HashMap, time::Duration};

use entwined::{Handle, transport::tcp};
use entwined_http::{
    self as http, Error, Files, Form, Json, Multipart, Query, Request, Router, State, StatusCode,
    layers::{self, Session, SessionKey},
};

use super::CALLBACK;
use crate::{
    Row, Victim,
    attack::{self, Target},
    victim,
};

/// A server with all that parses what a peer sends.
const FULL: victim::Server = |handle: &Handle| {
    let listener = tcp::listen(handle, "127.0.0.1:0").expect("a port");
    let folder = tempfile::tempdir().expect("a folder");
    for number in 0..10_000 {
        let name = format!("{number:05} {}", "&'\"ü".repeat(20));
        std::fs::write(folder.path().join(name), "").expect("a file");
    }
    let large: &'static [u8] = vec![b'x'; 20 * 1024 * 1024].leak();
    let session = |State(session): State<Session>| format!("{:?}", session.get::<u32>("a"));
    let router = Router::new()
        .post("/json", |Json(value): Json<serde::de::IgnoredAny>| {
            format!("{value:?}")
        })
        .post("/numbers", |Json(numbers): Json<Vec<f64>>| {
            numbers.len().to_string()
        })
        .post("/value", |mut request: Request| async move {
            let value: serde_json::Value = request.json().await?;
            let length = value.as_array().map_or(0, Vec::len);
            request.handle().drop_on_thread(value);
            Ok::<_, Error>(length.to_string())
        })
        .post("/form", |Form(form): Form<HashMap<String, String>>| {
            form.len().to_string()
        })
        .get("/query", |Query(query): Query<Vec<(String, String)>>| {
            query.len().to_string()
        })
        .post("/parts", |mut form: Multipart| async move {
            let mut parts = 0;
            while let Some(part) = form.next().await? {
                parts += 1 + part.name().map_or(0, str::len);
            }
            Ok::<_, Error>(parts.to_string())
        })
        .post("/small", |form: Multipart| async move {
            let mut form = form.max_size(64 * 1024);
            while form.next().await?.is_some() {}
            Ok::<_, Error>("small")
        })
        .post("/pieces", |mut request: Request| async move {
            let mut pieces = 0;
            while request.chunk().await?.is_some() {
                pieces += 1;
            }
            Ok::<_, Error>(pieces.to_string())
        })
        .get("/session", session)
        .get("/wait", |request: Request| {
            let handle = request.handle();
            let waited = handle.wait(handle.sleep(WAIT));
            waited
                .map(|()| "waited")
                .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
        })
        .mount("/list", Files::new(folder.path()).listing())
        .mount("/embedded", Files::embedded(move |_| Some(large.into())))
        .nest(
            "/list/private",
            Router::new().fallback(|| StatusCode::FORBIDDEN),
        )
        .layer(layers::sessions(SessionKey::generate()))
        .layer(layers::compression())
        .layer(layers::local_only());
    let server = http::serve(listener, router);
    let address = server.local_address().tcp().expect("TCP");
    (address, Box::new((server, folder)))
};

/// How long a handler runs the loop.
const WAIT: Duration = Duration::from_millis(500);

/// Sends a request with a body and returns the first line of the answer.
fn post(target: &Target, path: &str, kind: &str, body: &[u8]) -> String {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n\
         content-length: {length}\r\n\r\n"
    );
    attack::ask(target, &[head.as_bytes(), body].concat())
}

/// Sends a request with these headers and returns the first line of the answer, once it has arrived
/// as a whole.
fn get(target: &Target, path: &str, headers: &str) -> String {
    let mut stream = target.connect();
    let head =
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
    attack::send(&mut stream, head.as_bytes());
    let answer = attack::read(&mut stream, usize::MAX);
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or(b"");
    String::from_utf8_lossy(line).into_owned()
}

const FORM: &str = "multipart/form-data; boundary=xyz";

pub const ROWS: &[Row] = &[
    Row {
        name: "an upload in 300,000 chunks of one byte",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            let mut upload = b"POST /pieces HTTP/1.1\r\nhost: localhost\r\n\
                transfer-encoding: chunked\r\n\r\n"
                .to_vec();
            upload.extend_from_slice(&b"1\r\nx\r\n".repeat(300_000));
            upload.extend_from_slice(b"0\r\n\r\n");
            attack::ask(&target, &upload)
        },
        answer: "HTTP/1.1 200",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "100,000 requests without a pause",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            let all = b"GET /query HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100_000);
            let answers = attack::exchange(&target, &all);
            let answers = String::from_utf8_lossy(&answers);
            format!("{} answers", answers.matches("HTTP/1.1 200").count())
        },
        answer: "100000 answers",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "2,000 requests whose handlers run the loop",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            let mut streams: Vec<_> = (0..2_000).map(|_| target.connect()).collect();
            for stream in &mut streams {
                attack::send(stream, b"GET /wait HTTP/1.1\r\nhost: localhost\r\n\r\n");
            }
            let answered = |stream: &mut _| !attack::read(stream, 1).is_empty();
            let answers = streams
                .iter_mut()
                .filter_map(|stream| answered(stream).then_some(()));
            format!("{} answers", answers.count())
        },
        answer: "2000 answers",
        max_callback: CALLBACK,
        max_memory: 32 * 1024,
    },
    Row {
        name: "8 MB of empty lines before a request",
        victim: Victim::Server(FULL),
        attack: |target: Target| attack::ask(&target, &b"\r\n".repeat(4_000_000)),
        answer: "HTTP/1.1 431",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "a head of a part that never ends",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            let mut body = b"--xyz\r\nContent-Disposition: form-data; name=\"".to_vec();
            body.resize(16 * 1024 * 1024, b'x');
            post(&target, "/parts", FORM, &body)
        },
        answer: "HTTP/1.1 400",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "a part that is skipped and larger than the form may be",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            let mut head = b"POST /small HTTP/1.1\r\nhost: localhost\r\n\
                transfer-encoding: chunked\r\n\
                content-type: multipart/form-data; boundary=xyz\r\n\r\n\
                7fffffff\r\n--xyz\r\nContent-Disposition: form-data; name=a\r\n\r\n"
                .to_vec();
            head.resize(head.len() + 16 * 1024 * 1024, b'\r');
            attack::ask(&target, &head)
        },
        answer: "HTTP/1.1 413",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "a part full of beginnings of its boundary",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            let mut body = b"--xyz\r\nContent-Disposition: form-data; name=a\r\n\r\n".to_vec();
            body.extend(b"\r\n--xy\r".repeat(1024 * 1024));
            body.extend(b"\r\n--xyz--");
            post(&target, "/parts", FORM, &body)
        },
        answer: "HTTP/1.1 200",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "a form of 100,000 parts",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            let body = b"--xyz\r\n\r\n\r\n".repeat(100_000);
            post(&target, "/parts", FORM, &body)
        },
        answer: "HTTP/1.1 413",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "JSON of 1.8 MB",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            let body = format!("[{}0]", "{\"\":[]},".repeat(200_000));
            post(&target, "/json", "application/json", body.as_bytes())
        },
        answer: "HTTP/1.1 200",
        max_callback: CALLBACK,
        max_memory: 16 * 1024,
    },
    Row {
        name: "JSON of 900,000 numbers",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            let body = format!("[{}0]", "0,".repeat(900_000));
            post(&target, "/numbers", "application/json", body.as_bytes())
        },
        answer: "HTTP/1.1 200",
        max_callback: CALLBACK,
        max_memory: 32 * 1024,
    },
    Row {
        name: "JSON of 600,000 empty lists as a Value",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            let body = format!("[{}[]]", "[],".repeat(600_000));
            post(&target, "/value", "application/json", body.as_bytes())
        },
        answer: "HTTP/1.1 200",
        max_callback: CALLBACK,
        max_memory: 128 * 1024,
    },
    Row {
        name: "JSON of 450,000 short texts as a Value",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            let body = format!("[{}\"a\"]", "\"a\",".repeat(450_000));
            post(&target, "/value", "application/json", body.as_bytes())
        },
        answer: "HTTP/1.1 200",
        max_callback: CALLBACK,
        max_memory: 128 * 1024,
    },
    Row {
        name: "JSON of 250,000 small objects as a Value",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            let body = format!("[{}0]", "{\"\":0},".repeat(250_000));
            post(&target, "/value", "application/json", body.as_bytes())
        },
        answer: "HTTP/1.1 200",
        max_callback: CALLBACK,
        // Each object takes more than 600 bytes.
        max_memory: 256 * 1024,
    },
    Row {
        name: "a form of 1.8 MB",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            let body = format!("a={}&", "b".repeat(198)).repeat(9_000);
            post(
                &target,
                "/form",
                "application/x-www-form-urlencoded",
                body.as_bytes(),
            )
        },
        answer: "HTTP/1.1 200",
        max_callback: CALLBACK,
        max_memory: 16 * 1024,
    },
    Row {
        name: "a form of 450,000 fields",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            let body = "a=b&".repeat(450_000);
            post(
                &target,
                "/form",
                "application/x-www-form-urlencoded",
                body.as_bytes(),
            )
        },
        answer: "HTTP/1.1 413",
        max_callback: CALLBACK,
        max_memory: 16 * 1024,
    },
    Row {
        name: "a query of 60 KiB",
        victim: Victim::Server(FULL),
        attack: |target: Target| get(&target, &format!("/query?{}", "a&".repeat(30_000)), ""),
        answer: "HTTP/1.1 400",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "a thousand session cookies",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            let cookie = format!("session={}AA; ", "A".repeat(44));
            get(
                &target,
                "/session",
                &format!("cookie: {}\r\n", cookie.repeat(1_000)),
            )
        },
        answer: "HTTP/1.1 200",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "thousands of codings, media types, tags and ranges",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            let list = |text: &str| text.repeat(12 * 1024 / text.len());
            let headers = format!(
                "accept-encoding: {}br\r\naccept: {}\r\n\
                 if-none-match: {}\r\nrange: bytes={}0-1\r\n",
                list("a;q=.1,"),
                list("text/x;q=0,"),
                list("W/\"\","),
                list("0-1,"),
            );
            get(&target, "/list/none", &headers)
        },
        answer: "HTTP/1.1 404",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "a listing of 10,000 names",
        victim: Victim::Server(FULL),
        attack: |target: Target| get(&target, "/list/", "accept-encoding: br\r\n"),
        answer: "HTTP/1.1 200",
        max_callback: CALLBACK,
        max_memory: 24 * 1024,
    },
    Row {
        name: "an embedded file of 20 MiB",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            get(
                &target,
                "/embedded/a.bin",
                "if-none-match: \"x\"\r\nrange: bytes=0-1\r\n",
            )
        },
        answer: "HTTP/1.1 206",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "a path of 60 KiB of dots and slashes",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            get(
                &target,
                &format!("/list{}/private/x", "/a//%2e/..".repeat(6_000)),
                "",
            )
        },
        answer: "HTTP/1.1 403",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "a path with a slash in a name",
        victim: Victim::Server(FULL),
        attack: |target: Target| get(&target, "/list/private%2Fx", ""),
        answer: "HTTP/1.1 400",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "a request of another page",
        victim: Victim::Server(FULL),
        attack: |target: Target| get(&target, "/list/", "sec-fetch-site: same-site\r\n"),
        answer: "HTTP/1.1 403",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
    Row {
        name: "a hundred requests of HTTP/2 in one packet, with heads of 60 KiB",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            let mut stream = target.connect();
            let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
                let length = u32::try_from(payload.len())
                    .expect("a short frame")
                    .to_be_bytes();
                [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
            };
            let literal = |indexed: u8, name: &str, value: &str| {
                let mut field = vec![indexed, name.len() as u8];
                field.extend(name.bytes());
                // RFC 7541, 5.1: a length in several bytes.
                let mut rest = value.len();
                if rest < 127 {
                    field.push(rest as u8);
                } else {
                    field.push(127);
                    rest -= 127;
                    while rest >= 128 {
                        field.push(rest as u8 | 128);
                        rest >>= 7;
                    }
                    field.push(rest as u8);
                }
                field.extend(value.bytes());
                field
            };
            let usual = [
                literal(0, ":method", "GET"),
                literal(0, ":scheme", "http"),
                literal(0, ":path", "/session"),
                literal(0, ":authority", "localhost"),
            ]
            .concat();
            let value = "a,".repeat(1_900);
            let first = [usual.clone(), literal(0x40, "accept-encoding", &value)].concat();
            let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            bytes.extend(frame(4, 0, 0, &[]));
            bytes.extend(frame(1, 5, 1, &first));
            for number in 1..100 {
                // The first field of the dynamic table, again and again.
                let again = [usual.clone(), vec![0x80 | 62; 14]].concat();
                bytes.extend(frame(1, 5, 2 * number + 1, &again));
            }
            attack::send(&mut stream, &bytes);
            let (mut answer, mut statuses) = (Vec::new(), 0);
            while statuses < 100 {
                let more = attack::read(&mut stream, 1);
                if more.is_empty() {
                    break;
                }
                answer.extend(more);
                // The heads of frames; 0x88 is the status 200.
                statuses = 0;
                let mut rest = &answer[..];
                while let [a, b, c, kind, _, _, _, _, _, payload @ ..] = rest {
                    let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                    if payload.len() < length {
                        break;
                    }
                    statuses += usize::from(*kind == 1 && payload[..length].contains(&0x88));
                    rest = &payload[length..];
                }
            }
            format!("{statuses} answers")
        },
        answer: "100 answers",
        max_callback: CALLBACK,
        max_memory: 16 * 1024,
    },
    Row {
        name: "an upload that goes on after its answer",
        victim: Victim::Server(FULL),
        attack: |target: Target| {
            let mut stream = target.connect();
            let head = b"POST /none HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                content-length: 9000000000\r\n\r\n";
            attack::send(&mut stream, head);
            let answer = attack::read(&mut stream, 1);
            let piece = vec![b'x'; 64 * 1024];
            let mut sent: u64 = 0;
            while std::io::Write::write_all(&mut stream, &piece).is_ok() {
                sent += piece.len() as u64;
                if sent > 1024 * 1024 * 1024 {
                    return "it reads all".to_owned();
                }
            }
            String::from_utf8_lossy(&answer[..12]).into_owned()
        },
        answer: "HTTP/1.1 404",
        max_callback: CALLBACK,
        max_memory: 2048,
    },
];
