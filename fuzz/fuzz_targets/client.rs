//! What a server may send to the web client, in each version, with and without a proxy's tunnel:
//! the client must return a response or an error, and leave nothing behind.
#![no_main]

use std::{cell::RefCell, collections::VecDeque, io, rc::Rc};

use arbitrary::Arbitrary;
use entwined::{simulation::Simulation, transport::ByteStream};
use entwined_http::client::Client;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    fragment: u8,
    version: Version,
    /// What is sent on the first connection, the second, and so on: redirects and retries open
    /// more.
    connections: Vec<Vec<Piece<'a>>>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Version {
    One,
    Two,
    Tunnel,
}

#[derive(Arbitrary, Debug)]
enum Piece<'a> {
    Raw(&'a [u8]),
    Head {
        status: u8,
        headers: Vec<(u8, &'a [u8])>,
    },
    Chunk(&'a [u8]),
    Frame {
        kind: u8,
        flags: u8,
        stream: u8,
        payload: &'a [u8],
    },
    /// An HTTP/2 header block: `:status` and entries of HPACK's static table.
    Block {
        stream: u8,
        fields: Vec<u8>,
    },
}

const STATUS: [u16; 10] = [200, 204, 301, 302, 307, 308, 304, 100, 407, 500];
const HEADERS: [&str; 11] = [
    "content-length",
    "transfer-encoding",
    "content-encoding",
    "content-type",
    "location",
    "set-cookie",
    "connection",
    "upgrade",
    "trailer",
    "retry-after",
    "x",
];

impl Piece<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Piece::Raw(bytes) => out.extend_from_slice(bytes),
            Piece::Head { status, headers } => {
                let status = STATUS[usize::from(*status) % STATUS.len()];
                out.extend_from_slice(format!("HTTP/1.1 {status} \r\n").as_bytes());
                for (name, value) in headers {
                    out.extend_from_slice(HEADERS[usize::from(*name) % HEADERS.len()].as_bytes());
                    out.extend_from_slice(b": ");
                    out.extend_from_slice(value);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"\r\n");
            }
            Piece::Chunk(bytes) => {
                out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Piece::Frame {
                kind,
                flags,
                stream,
                payload,
            } => frame(out, *kind % 12, *flags, *stream, payload),
            Piece::Block { stream, fields } => {
                // Indexed fields of the static table (RFC 7541, 6.1): 8 is `:status: 200`.
                let mut block = vec![0x88];
                block.extend(fields.iter().map(|field| 0x80 | (field % 61 + 1)));
                frame(out, 1, 4, *stream | 1, &block);
            }
        }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
    let length = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&[
        length[1], length[2], length[3], kind, flags, 0, 0, 0, stream,
    ]);
    out.extend_from_slice(payload);
}

/// How many connections the server accepts, and how much of a body is read.
const MOST_CONNECTIONS: usize = 4;
const MOST_BODY: usize = 100_000;

fuzz_target!(|case: Case<'_>| {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let said = case
        .connections
        .iter()
        .take(MOST_CONNECTIONS)
        .map(|pieces| {
            let mut bytes = Vec::new();
            pieces.iter().for_each(|piece| piece.write(&mut bytes));
            bytes
        });
    let said: Rc<RefCell<VecDeque<_>>> = Rc::new(RefCell::new(said.collect()));
    let mut client = Client::builder(&handle).cookies().connector({
        let handle = handle.clone();
        move |_| {
            let bytes = said.borrow_mut().pop_front();
            let (near, far) = fuzz::connection(&handle, case.fragment);
            if let Some(bytes) = bytes {
                handle.spawn(fuzz::peer(near, bytes));
            }
            async { Ok::<_, io::Error>(Box::new(far) as Box<dyn ByteStream>) }
        }
    });
    let mut url = "http://server/";
    match case.version {
        Version::One => {}
        Version::Two => client = client.http2_prior_knowledge(),
        Version::Tunnel => {
            client = client.proxy("http://proxy/").expect("an address");
            url = "https://server/";
        }
    }
    let client = client.build();
    let asking = handle.spawn({
        let client = client.clone();
        async move {
            if let Ok(mut response) = client.get(url).send().await {
                let _ = response.bytes_up_to(MOST_BODY).await;
            }
        }
    });
    simulation.run_until(asking).expect("no panic");
    drop(client);
    simulation.drive();
    assert_eq!(handle.metrics().tasks, 0);
});
