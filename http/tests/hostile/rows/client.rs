//! What a server sends to the client.

use std::io::{Read, Write};

use entwined::transport::{ByteStream, tcp};
use entwined_http::client::Client;
use flate2::{Compression, write::GzEncoder};

use super::{CALLBACK, answer};
use crate::{
    Row, Victim,
    attack::{self, Target},
    victim,
};

/// A client that reads a page piece by piece, and says how many bytes it has, or the error.
const STREAM: victim::Client = |handle, address| {
    Box::pin(async move {
        let asked = Client::new(&handle).get(&format!("http://{address}/"));
        let mut response = match asked.send().await {
            Ok(response) => response,
            Err(error) => return format!("error: {error}"),
        };
        let mut count = 0;
        loop {
            match response.chunk().await {
                Ok(Some(piece)) => count += piece.len(),
                Ok(None) => return format!("{count} bytes"),
                Err(error) => return format!("error after {count} bytes: {error}"),
            }
        }
    })
};

/// A client that reads JSON.
const JSON: victim::Client = |handle, address| {
    Box::pin(async move {
        let asked = Client::new(&handle).get(&format!("http://{address}/"));
        let mut response = match asked.send().await {
            Ok(response) => response,
            Err(error) => return format!("error: {error}"),
        };
        match response.json::<Vec<u8>>().await {
            Ok(numbers) => format!("{} numbers", numbers.len()),
            Err(error) => format!("error: {error}"),
        }
    })
};

/// A client with cookies that asks thirty hosts, which are all the attacker.
const COOKIES: victim::Client = |handle, address| {
    Box::pin(async move {
        let to = handle.clone();
        let client = Client::builder(&handle).cookies().connector(move |_| {
            let to = to.clone();
            async move {
                let stream = tcp::connect(&to, address).await?;
                Ok(Box::new(stream) as Box<dyn ByteStream>)
            }
        });
        let client = client.build();
        for host in 0..HOSTS {
            let asked = client.get(&format!("http://h{host}.example.com/"));
            if let Err(error) = asked.send().await {
                return format!("error: {error}");
            }
        }
        "all".to_owned()
    })
};

const HOSTS: usize = 30;

fn packed(target: &Target, coding: &str, body: &[u8]) -> String {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    answer(target, &[head.as_bytes(), body].concat())
}

fn gzip(content: &mut dyn Read) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    std::io::copy(content, &mut packed).expect("in memory");
    packed.finish().expect("in memory")
}

fn brotli(content: &mut dyn Read, window: u32) -> Vec<u8> {
    let mut packed = brotli::CompressorWriter::new(Vec::new(), 65_536, 3, window);
    std::io::copy(content, &mut packed).expect("in memory");
    packed.into_inner()
}

fn zeros(count: u64) -> impl Read {
    std::io::repeat(0).take(count)
}

/// Bytes that pack by half, so that each step decodes codes.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'a' + (state >> 28) as u8
    };
    (0..count).map(|_| next()).collect()
}

macro_rules! row {
    ($name:literal, $victim:expr, $answer:literal, $memory:expr, $attack:expr) => {
        Row {
            name: $name,
            victim: Victim::Client($victim),
            attack: $attack,
            answer: $answer,
            max_callback: CALLBACK,
            max_memory: $memory,
        }
    };
}

pub const ROWS: &[Row] = &[
    row!(
        "a brotli stream with a large window",
        STREAM,
        "error after 0 bytes: the body cannot be decoded: the window of the brotli stream",
        2048,
        |target: Target| packed(&target, "br", &[0x11, 0x1e, 0x03, 0xff, 0xff, 0xff])
    ),
    row!(
        "100 MB of zeros in brotli with a window of 16 MiB",
        STREAM,
        "100000000 bytes",
        48 * 1024,
        |target: Target| packed(&target, "br", &brotli(&mut zeros(100_000_000), 24))
    ),
    row!(
        "100 MB of zeros in brotli with a window of 256 KiB",
        STREAM,
        "100000000 bytes",
        2048,
        |target: Target| packed(&target, "br", &brotli(&mut zeros(100_000_000), 18))
    ),
    row!(
        "5 MB of noise in brotli",
        STREAM,
        "5000000 bytes",
        2048,
        |target: Target| packed(&target, "br", &brotli(&mut &noise(5_000_000)[..], 18))
    ),
    row!(
        "bytes behind a brotli stream",
        STREAM,
        "error after 100 bytes: the body cannot be decoded: there are bytes behind",
        2048,
        |target: Target| {
            let mut body = brotli(&mut zeros(100), 18);
            body.extend([7; 100_000]);
            packed(&target, "br", &body)
        }
    ),
    row!(
        "200 MB of zeros in gzip",
        STREAM,
        "200000000 bytes",
        2048,
        |target: Target| packed(&target, "gzip", &gzip(&mut zeros(200_000_000)))
    ),
    row!(
        "5 MB of noise in gzip",
        STREAM,
        "5000000 bytes",
        2048,
        |target: Target| packed(&target, "gzip", &gzip(&mut &noise(5_000_000)[..]))
    ),
    row!(
        "200,000 empty gzip members",
        STREAM,
        "0 bytes",
        2048,
        |target: Target| packed(&target, "gzip", &gzip(&mut zeros(0)).repeat(200_000))
    ),
    row!(
        "a gzip header with a name of 100 MB",
        STREAM,
        "error after 0 bytes: ",
        2048,
        |target: Target| {
            let mut stream = target.connect();
            attack::read(&mut stream, 1);
            attack::send(
                &mut stream,
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\
                  \x1f\x8b\x08\x08\0\0\0\0\0\x03",
            );
            let block = vec![b'x'; 100_000];
            for _ in 0..1_000 {
                if stream.write_all(&block).is_err() {
                    break;
                }
            }
            String::new()
        }
    ),
    row!(
        "a gzip stream that is cut off",
        STREAM,
        "error after ",
        2048,
        |target: Target| {
            let body = gzip(&mut &noise(100_000)[..]);
            packed(&target, "gzip", &body[..body.len() - 1])
        }
    ),
    row!(
        "a body in 500,000 chunks of one byte",
        STREAM,
        "500000 bytes",
        12 * 1024,
        |target: Target| {
            let mut body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            body.extend(b"1\r\nx\r\n".repeat(500_000));
            body.extend(b"0\r\n\r\n");
            answer(&target, &body)
        }
    ),
    row!(
        "200,000 responses 100 before the response",
        STREAM,
        "0 bytes",
        2048,
        |target: Target| {
            let mut body = b"HTTP/1.1 100 \r\n\r\n".repeat(200_000);
            body.extend(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            answer(&target, &body)
        }
    ),
    row!(
        "JSON of 4 MB in the smallest pieces",
        JSON,
        "2000000 numbers",
        128 * 1024,
        |target: Target| {
            let json = format!("[{}1]", "1,".repeat(1_999_999));
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", json.len());
            answer(&target, format!("{head}{json}").as_bytes())
        }
    ),
    row!(
        "10,000 responses 103 before the response",
        STREAM,
        "",
        2048,
        |target: Target| {
            let mut body = b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n".repeat(10_000);
            body.extend(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            answer(&target, &body)
        }
    ),
    row!(
        "990 cookies in each response",
        COOKIES,
        "all",
        2048,
        |target: Target| {
            for host in 0..HOSTS {
                let mut head = "HTTP/1.1 200 OK\r\nconnection: close\r\n".to_owned();
                for number in 0..990 {
                    let line = format!("Set-Cookie:n{number}=v;Domain=h{host}.example.com\r\n");
                    head.push_str(&line);
                }
                answer(
                    &target,
                    format!("{head}content-length: 0\r\n\r\n").as_bytes(),
                );
            }
            String::new()
        }
    ),
];
