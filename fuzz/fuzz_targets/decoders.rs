//! Compressed responses, as the web client unpacks them: what was packed comes out, however the
//! bytes arrive; what is not a whole packed body is an error; and nothing is larger than it may be.
#![no_main]

use std::{
    io::{self, Read, Write},
    rc::Rc,
};

use arbitrary::Arbitrary;
use entwined::{Standalone, reactor::RunError, transport::ByteStream};
use entwined_http::client::{Client, ClientError};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    fragment: u8,
    coding: Coding,
    framing: Framing,
    packed: Packed<'a>,
    /// Bytes that are changed after packing: where, and how.
    changes: Vec<(u16, u8)>,
    /// How many bytes are left out at the end.
    cut: u8,
    /// What follows.
    rest: &'a [u8],
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
enum Coding {
    Gzip,
    Brotli,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Framing {
    Length,
    Chunks(u8),
    UntilTheEnd,
}

#[derive(Arbitrary, Debug)]
enum Packed<'a> {
    /// Any bytes.
    Raw(&'a [u8]),
    /// These bytes repeated, and packed at this level, in several members if it is gzip.
    Of {
        bytes: &'a [u8],
        times: u16,
        level: u8,
        members: u8,
    },
}

/// The most bytes that the client takes.
const MOST: usize = 200_000;

impl Packed<'_> {
    fn bytes(&self, coding: Coding) -> Vec<u8> {
        let Packed::Of {
            bytes,
            times,
            level,
            members,
        } = self
        else {
            let Packed::Raw(bytes) = self else {
                unreachable!("it is one or the other")
            };
            return bytes.to_vec();
        };
        let times = usize::from(*times).min(1_000_000 / (bytes.len() + 1));
        let content = bytes.repeat(times);
        match coding {
            Coding::Gzip => {
                let mut packed = Vec::new();
                for _ in 0..=members % 3 {
                    let level = flate2::Compression::new((level % 10).into());
                    let mut encoder = flate2::write::GzEncoder::new(&mut packed, level);
                    encoder.write_all(&content).expect("in memory");
                    encoder.finish().expect("in memory");
                }
                packed
            }
            Coding::Brotli => {
                let mut packed = Vec::new();
                let quality = (level % 6).into();
                brotli::CompressorWriter::new(&mut packed, 4096, quality, 22)
                    .write_all(&content)
                    .expect("in memory");
                packed
            }
        }
    }
}

/// What the reference finds in all the bytes at once, up to a limit.
fn reference(coding: Coding, packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut found = Vec::new();
    if packed.is_empty() {
        return Ok(found);
    }
    let limit = MOST as u64 + 1;
    match coding {
        Coding::Gzip => flate2::bufread::MultiGzDecoder::new(packed)
            .take(limit)
            .read_to_end(&mut found)?,
        Coding::Brotli => brotli::Decompressor::new(packed, 4096)
            .take(limit)
            .read_to_end(&mut found)?,
    };
    Ok(found)
}

fn response(case: &Case<'_>, body: &[u8]) -> Vec<u8> {
    let coding = match case.coding {
        Coding::Gzip => "gzip",
        Coding::Brotli => "br",
    };
    let mut bytes = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\n").into_bytes();
    match case.framing {
        Framing::Length => {
            bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
            bytes.extend_from_slice(body);
        }
        Framing::Chunks(length) => {
            bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
            for chunk in body.chunks(usize::from(length) + 1) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        }
        Framing::UntilTheEnd => {
            bytes.extend_from_slice(b"connection: close\r\n\r\n");
            bytes.extend_from_slice(body);
        }
    }
    bytes
}

/// What the client finds.
fn unpacked(case: &Case<'_>, body: &[u8]) -> Result<Vec<u8>, ClientError> {
    // Not a simulation: some of it is unpacked on another thread.
    let reactor = Standalone::new().expect("file descriptors");
    let handle = reactor.handle();
    let bytes = Rc::new(response(case, body));
    let fragment = case.fragment;
    let client = Client::builder(&handle)
        .connector({
            let handle = handle.clone();
            move |_| {
                // One byte at a time would take minutes for the longest.
                let fragment = if bytes.len() > 10_000 { 255 } else { fragment };
                let (near, far) = fuzz::connection(&handle, fragment);
                handle.spawn(fuzz::answer(near, bytes.to_vec()));
                async { Ok::<_, io::Error>(Box::new(far) as Box<dyn ByteStream>) }
            }
        })
        .build();
    let found = reactor.block_on(async move {
        let asked = async {
            let mut response = client.get("http://server/").send().await?;
            let bytes = response.bytes_up_to(MOST).await?;
            Ok::<_, ClientError>(bytes.to_vec())
        };
        Ok::<_, RunError>(asked.await)
    });
    assert_eq!(handle.metrics().tasks, 0);
    found.expect("no panic")
}

fuzz_target!(|case: Case<'_>| {
    let mut body = case.packed.bytes(case.coding);
    let length = body.len();
    for &(place, change) in &case.changes {
        if length > 0 {
            body[usize::from(place) % length] ^= change;
        }
    }
    body.truncate(length.saturating_sub(case.cut.into()));
    body.extend_from_slice(case.rest);
    let found = unpacked(&case, &body);
    match (reference(case.coding, &body), found) {
        (Ok(expected), Ok(found)) => assert!(
            found == expected,
            "{} bytes, {} expected",
            found.len(),
            expected.len()
        ),
        (Err(_), Ok(_)) => panic!("it cannot be unpacked"),
        // The client is stricter: about bytes behind the end, and about how much memory it takes.
        (Ok(expected), Err(error)) => assert!(
            !case.is_intact() || expected.len() > MOST,
            "it can be unpacked: {error}"
        ),
        (Err(_), Err(_)) => {}
    }
});

impl Case<'_> {
    /// Whether the body is as it was packed.
    fn is_intact(&self) -> bool {
        matches!(self.packed, Packed::Of { .. })
            && self.changes.iter().all(|change| change.1 == 0)
            && self.cut == 0
            && self.rest.is_empty()
    }
}
