//! Forms with files. The server answers whatever it gets, and leaves nothing behind; and a handler
//! finds the parts of a well-formed form as they were sent, however the bytes arrive.
#![no_main]

use std::{cell::RefCell, rc::Rc};

use arbitrary::Arbitrary;
use entwined::{simulation::Simulation, transport::listen_once};
use entwined_http::{self as http, Error, Multipart, Router};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    fragment: u8,
    boundary: u8,
    pieces: Vec<Piece<'a>>,
    /// How much of each part the handler reads before it asks for the next; no limit for 0.
    reads: u8,
    /// How many bytes of the body are left out.
    cut: u8,
    /// Whether the body is sent in chunks rather than with its length.
    chunked: bool,
}

#[derive(Arbitrary, Debug)]
enum Piece<'a> {
    /// A part that is well-formed, unless its content contains the boundary.
    Part {
        name: u8,
        file_name: Option<u8>,
        kind: Option<u8>,
        content: &'a [u8],
    },
    /// A part with any headers.
    Headers {
        headers: &'a [u8],
        content: &'a [u8],
    },
    /// Any bytes between two parts.
    Raw(&'a [u8]),
}

const BOUNDARIES: [&str; 5] = [
    "x",
    "-",
    "----WebKitFormBoundaryA1b2",
    "a'()+_,-./:=?b",
    "--x--",
];

/// What a handler finds of a part: its name, the name of its file, its media type, its content.
#[derive(Debug, PartialEq)]
struct Found(Option<String>, Option<String>, Option<String>, Vec<u8>);

impl Piece<'_> {
    /// Writes it, and returns what a handler must find.
    fn write(&self, boundary: &str, out: &mut Vec<u8>) -> Option<Found> {
        match self {
            Piece::Part {
                name,
                file_name,
                kind,
                content,
            } => {
                let name = format!("n{name}");
                let mut head =
                    format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"");
                let file_name = file_name.map(|number| format!("f {number}.txt"));
                if let Some(name) = &file_name {
                    head += &format!("; filename=\"{name}\"");
                }
                let kind = kind.map(|number| format!("text/x-{number}"));
                if let Some(kind) = &kind {
                    head += &format!("\r\nContent-Type: {kind}");
                }
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(b"\r\n\r\n");
                out.extend_from_slice(content);
                out.extend_from_slice(b"\r\n");
                let delimiter = format!("\r\n--{boundary}");
                let around = [b"\r\n", *content, b"\r\n"].concat();
                (!contains(&around, delimiter.as_bytes()))
                    .then(|| Found(Some(name), file_name, kind, content.to_vec()))
            }
            Piece::Headers { headers, content } => {
                out.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
                out.extend_from_slice(headers);
                out.extend_from_slice(b"\r\n\r\n");
                out.extend_from_slice(content);
                out.extend_from_slice(b"\r\n");
                None
            }
            Piece::Raw(bytes) => {
                out.extend_from_slice(bytes);
                None
            }
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The bytes of the request, and what a handler must find if the form is well-formed.
fn request(case: &Case<'_>) -> (Vec<u8>, Option<Vec<Found>>) {
    let boundary = BOUNDARIES[usize::from(case.boundary) % BOUNDARIES.len()];
    let mut body = Vec::new();
    let found: Option<Vec<_>> = case
        .pieces
        .iter()
        .map(|piece| piece.write(boundary, &mut body))
        .collect();
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let found = found.filter(|found| case.cut == 0 && !found.is_empty());
    body.truncate(body.len().saturating_sub(case.cut.into()));
    let mut bytes = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: multipart/form-data; boundary=\"{boundary}\"\r\n"
    )
    .into_bytes();
    if case.chunked {
        bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
        for chunk in body.chunks(usize::from(case.fragment) + 1) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
    } else {
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(&body);
    }
    (bytes, found)
}

fuzz_target!(|case: Case<'_>| {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, far) = fuzz::connection(&handle, case.fragment);
    let found = Rc::new(RefCell::new(Vec::new()));
    let most = match case.reads {
        0 => usize::MAX,
        reads => reads.into(),
    };
    let router = Router::new().post("/", {
        let found = found.clone();
        move |mut form: Multipart| {
            let found = found.clone();
            async move {
                while let Some(mut part) = form.next().await? {
                    let text = |text: Option<&str>| text.map(str::to_owned);
                    let (name, file) = (text(part.name()), text(part.file_name()));
                    let (kind, mut content) = (text(part.content_type()), Vec::new());
                    while content.len() < most
                        && let Some(piece) = part.chunk().await?
                    {
                        content.extend_from_slice(&piece);
                    }
                    found.borrow_mut().push(Found(name, file, kind, content));
                }
                Ok::<_, Error>("all of it")
            }
        }
    });
    let server = http::serve(listen_once(&handle, far), router);
    let (bytes, expected) = request(&case);
    let response = fuzz::ask(&simulation, near, bytes);
    assert_eq!(server.connections(), 0);
    drop(server);
    simulation.drive();
    assert_eq!(handle.metrics().tasks, 0);
    let Some(expected) = expected else { return };
    assert!(
        response.ends_with(b"all of it"),
        "the answer to a well-formed form: {}",
        String::from_utf8_lossy(&response)
    );
    let mut found = found.take();
    for (found, expected) in found.iter_mut().zip(&expected) {
        // What was not read was skipped.
        if case.reads != 0 && expected.3.starts_with(&found.3) {
            found.3.clone_from(&expected.3);
        }
    }
    assert_eq!(found, expected);
});
