//! HTTP/2, with clients by others.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use entwined_http::{Body, Config, Request, Response, Router, header::CONTENT_TYPE};

use crate::server::support::{LIMIT, Site, config};

const LARGE: usize = 3_000_000;

fn router() -> Router {
    Router::new()
        .get("/hello", |request: Request| {
            format!("{:?} {:?}", request.version(), request.host())
        })
        .get("/large", || vec![b'x'; LARGE])
        .post("/length", |mut request: Request| async move {
            let mut length = 0;
            while let Some(chunk) = request.chunk().await? {
                length += chunk.len();
            }
            Ok::<_, entwined_http::Error>(length.to_string())
        })
        .get("/never", std::future::pending::<()>)
        .get("/panic", || -> &'static str { panic!("in a handler") })
        .get("/live", || {
            let mut response = Response::new(Body::live(Ticks(0)));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, "text/plain".parse().expect("a value"));
            response
        })
}

/// One item, and then nothing forever.
struct Ticks(u8);

impl futures_core::Stream for Ticks {
    type Item = Result<entwined_http::Bytes, String>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0 += 1;
        if self.0 == 1 {
            std::task::Poll::Ready(Some(Ok("tick\n".into())))
        } else {
            std::task::Poll::Pending
        }
    }
}

fn curl(site: &Site, path: &str, arguments: &[&str]) -> String {
    let url = format!("http://{}{path}", site.address);
    let mut command = Command::new("curl");
    command
        .args(["-s", "--http2-prior-knowledge", "-m", "20"])
        .args(arguments)
        .arg(url);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .expect("apt-get install curl");
    String::from_utf8(output.stdout).expect("a text")
}

#[test]
fn curl_is_served_by_http2_where_it_begins_with_that() {
    let site = Site::start(|_| router());
    assert_eq!(curl(&site, "/hello", &[]), "HTTP/2.0 Some(\"127.0.0.1\")");
    assert_eq!(curl(&site, "/large", &[]).len(), LARGE);
    assert_eq!(
        curl(&site, "/panic", &["-w", " %{http_code}"]),
        "the server made a mistake\n 500"
    );
    assert_eq!(
        curl(&site, "/none", &["-w", " %{http_code} %{http_version}"]),
        "there is nothing here\n 404 2"
    );
    assert_eq!(
        curl(
            &site,
            "/hello",
            &["-I", "-o", "/dev/null", "-w", "%{http_code}"]
        ),
        "200"
    );
    let mut upload = Command::new("sh");
    let script = format!(
        "head -c 5000000 /dev/zero \
         | curl -s --http2-prior-knowledge -m 20 --data-binary @- http://{}/length",
        site.address
    );
    let output = upload.args(["-c", &script]).output().expect("sh");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "5000000");
    // HTTP/1.1 still works.
    assert_eq!(site.get("/hello").text(), "HTTP/1.1 Some(\"test\")");
    let site = Site::with(config(|config| config.http2 = false), |_| router());
    assert_eq!(curl(&site, "/hello", &[]), "");
}

#[test]
fn many_streams_of_one_connection_are_answered_at_once() {
    let site = Site::start(|_| router());
    let url = format!("http://{}/large", site.address);
    let mut command = Command::new("nghttp");
    command.args(["-n", "-s", "-m", "50", "-t", "20", &url]);
    let output = command.output().expect("apt-get install nghttp2-client");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        text.lines().filter(|line| line.contains(" 200 ")).count(),
        50,
        "{text}"
    );
    site.wait_until(|server| server.connections() == 0);
}

/// Sends the preface and these frames. Returns the connection.
pub fn say(site: &Site, frames: &[&[u8]]) -> TcpStream {
    let mut stream = TcpStream::connect(site.address).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("an option");
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .expect("written");
    for frame in frames {
        stream.write_all(frame).expect("written");
    }
    stream
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A GET request for this path on a stream, with literal headers (RFC 7541, 6.2.2).
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    // :method GET, :scheme http, :authority and :path as literals.
    let mut block = vec![0x82, 0x86, 0x01, 4];
    block.extend_from_slice(b"test");
    block.extend_from_slice(&[0x04, path.len() as u8]);
    block.extend_from_slice(path.as_bytes());
    frame(1, 5, stream, &block)
}

fn read_to_end(mut stream: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    // A reset also counts as an end.
    let _ = stream.read_to_end(&mut all);
    all
}

/// The frames that arrived, as their types and streams.
fn kinds(mut bytes: &[u8]) -> Vec<(u8, u32)> {
    let mut kinds = Vec::new();
    while bytes.len() >= 9 {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        kinds.push((
            bytes[3],
            u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]),
        ));
        bytes = bytes.get(9 + length..).unwrap_or(&[]);
    }
    kinds
}

pub const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

#[test]
fn silence_and_idleness_and_a_peer_that_takes_nothing_have_their_time() {
    let short = || {
        config(|config: &mut Config| {
            config.head_timeout = Duration::from_millis(150);
            config.idle_timeout = Duration::from_millis(300);
            config.write_timeout = Duration::from_millis(200);
        })
    };
    let site = Site::with(short(), |_| router());
    // Half a preface is treated like a slow head.
    let mut half = TcpStream::connect(site.address).expect("a connection");
    half.set_read_timeout(Some(LIMIT)).expect("an option");
    half.write_all(b"PRI * HTTP/2").expect("written");
    assert!(read_to_end(&half).starts_with(b"HTTP/1.1 408 "));
    // No request at all, and none after the first.
    let start = Instant::now();
    read_to_end(&say(&site, &[SETTINGS]));
    assert!(start.elapsed() >= Duration::from_millis(150));
    let idle = say(&site, &[SETTINGS, &get(1, "/hello")]);
    let start = Instant::now();
    assert!(kinds(&read_to_end(&idle)).contains(&(1, 1)));
    assert!(
        start.elapsed() >= Duration::from_millis(290),
        "{:?}",
        start.elapsed()
    );
    // PING is not a request.
    let mut pinging = say(&site, &[SETTINGS, &get(1, "/hello")]);
    let start = Instant::now();
    while pinging.write_all(&frame(6, 0, 0, &[0; 8])).is_ok() {
        assert!(start.elapsed() < LIMIT, "PING keeps an idle connection");
        std::thread::sleep(Duration::from_millis(10));
    }
    // A window of zero: the stream is reset, and another one is answered.
    let no_window = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let mut stuck = say(&site, &[&no_window, &get(1, "/large"), &get(3, "/hello")]);
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !kinds(&seen).contains(&(3, 1)) {
        let count = stuck.read(&mut buffer).expect("frames");
        assert!(count > 0, "{:?}", kinds(&seen));
        seen.extend_from_slice(&buffer[..count]);
    }
}

/// A client may connect before it has anything to ask. What it asks then may be on its way.
#[test]
fn a_connection_without_a_request_is_told_that_it_ends() {
    let config = config(|config| config.head_timeout = Duration::from_millis(150));
    let site = Site::with(config, |_| router());
    let frames = kinds(&read_to_end(&say(&site, &[SETTINGS])));
    assert!(frames.contains(&(7, 0)), "{frames:?}");
}

/// A connection and what was read of it.
pub struct Reader(pub TcpStream, pub Vec<u8>);

impl Reader {
    /// Reads until this is true of the frames that have come.
    pub fn until(&mut self, done: impl Fn(&[(u8, u32)], usize) -> bool) {
        let mut buffer = [0; 16 * 1024];
        while !done(&kinds(&self.1), data(&self.1)) {
            let count = self.0.read(&mut buffer).expect("frames");
            assert!(count > 0, "the connection is over: {:?}", kinds(&self.1));
            self.1.extend_from_slice(&buffer[..count]);
        }
    }
}

/// How many bytes of data have come in whole frames.
fn data(mut bytes: &[u8]) -> usize {
    let mut all = 0;
    while bytes.len() >= 9 {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        let Some(rest) = bytes.get(9 + length..) else {
            break;
        };
        all += if bytes[3] == 0 { length } else { 0 };
        bytes = rest;
    }
    all
}

#[test]
fn who_reads_more_slowly_than_the_least_rate_loses_the_stream() {
    let strict = config(|config: &mut Config| {
        config.min_rate = 10_000_000;
        config.rate_grace = Duration::from_millis(100);
        config.write_timeout = Duration::from_secs(600);
    });
    let site = Site::with(strict, |_| router());
    // It has taken its window of 65,535 bytes, and gives no more.
    let mut slow = Reader(say(&site, &[SETTINGS, &get(1, "/large")]), Vec::new());
    slow.until(|frames, _| frames.contains(&(3, 1)));
    slow.0.write_all(&get(3, "/hello")).expect("written");
    slow.until(|frames, _| frames.contains(&(1, 3)));
}

#[test]
fn a_slow_download_is_not_an_idle_connection() {
    const SIZE: usize = 300_000;
    let short = config(|config: &mut Config| config.idle_timeout = Duration::from_millis(300));
    let site = Site::with(short, |_| Router::new().get("/", || vec![b'x'; SIZE]));
    let mut slow = Reader(say(&site, &[SETTINGS, &get(1, "/")]), Vec::new());
    let (mut allowed, mut read) = (65_535, 65_535);
    while allowed < SIZE {
        slow.until(|_, data| data >= read);
        // A peer that has other things to do.
        std::thread::sleep(Duration::from_millis(200));
        let window = |stream| frame(8, 0, stream, &40_000_u32.to_be_bytes());
        slow.0.write_all(&window(0)).expect("written");
        slow.0.write_all(&window(1)).expect("written");
        allowed += 40_000;
        read = allowed.min(SIZE);
    }
    slow.until(|_, data| data == SIZE);
    // Then it is.
    let start = Instant::now();
    read_to_end(&slow.0);
    assert!(
        start.elapsed() >= Duration::from_millis(200),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn the_server_ends_in_order() {
    let site = Site::start(|_| router());
    let live = say(&site, &[SETTINGS, &get(1, "/live")]);
    let idle = say(&site, &[SETTINGS, &get(1, "/hello")]);
    site.wait_until(|server| server.requests() == 2);
    site.stop();
    // Data, the end of the stream, GOAWAY.
    let frames = kinds(&read_to_end(&live));
    assert!(
        frames.contains(&(0, 1)) && frames.iter().any(|frame| frame.0 == 7),
        "{frames:?}"
    );
    let frames = kinds(&read_to_end(&idle));
    assert!(frames.contains(&(1, 1)), "{frames:?}");
    site.wait_for_end();
}

#[test]
fn a_request_that_is_given_up_leaves_nothing() {
    let site = Site::start(|_| router());
    let mut peer = say(&site, &[SETTINGS]);
    for number in 0..5_u32 {
        peer.write_all(&get(2 * number + 1, "/never"))
            .expect("written");
        site.wait_until(|server| server.requests() > 0);
        peer.write_all(&frame(3, 0, 2 * number + 1, &[0, 0, 0, 8]))
            .expect("written");
    }
    peer.write_all(&get(11, "/hello")).expect("written");
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !kinds(&seen).contains(&(0, 11)) {
        let count = peer.read(&mut buffer).expect("frames");
        seen.extend_from_slice(&buffer[..count]);
    }
}

/// The kernel throws away what is on its way when something arrives for a socket that is closed.
#[test]
fn what_is_on_its_way_is_not_lost_when_a_connection_ends_during_an_upload() {
    let config = config(|config| config.max_requests = 1);
    let site = Site::with(config, |_| Router::new().post("/", || vec![b'x'; LARGE]));
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = (payload.len() as u32).to_be_bytes();
        let head = [
            length[1], length[2], length[3], kind, flags, 0, 0, 0, stream,
        ];
        [&head[..], payload].concat()
    };
    let window = 16_000_000_u32.to_be_bytes();
    let settings = [&[0, 4][..], &window].concat();
    // POST / of http://a
    let block = [0x83, 0x84, 0x86, 0x41, 1, b'a'];
    let begin = [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &frame(4, 0, 0, &settings),
        &frame(8, 0, 0, &window),
        &frame(4, 1, 0, &[]),
        &frame(1, 4, 1, &block),
    ];
    let mut stream = TcpStream::connect(site.address).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("an option");
    stream.write_all(&begin.concat()).expect("written");
    let (mut all, mut received, mut buffer) = (Vec::new(), 0, vec![0; 64 * 1024]);
    while received < LARGE {
        // The upload goes on.
        let _ = stream.write_all(&frame(0, 0, 1, b"x"));
        let count = stream.read(&mut buffer).expect("it is not reset");
        assert!(count > 0, "{received} bytes have come");
        all.extend_from_slice(&buffer[..count]);
        while let [a, b, c, kind, _, _, _, _, _, ..] = all[..] {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if all.len() < 9 + length {
                break;
            }
            match kind {
                0 => received += length,
                // A PING, without which it does not end.
                6 => drop(stream.write_all(&frame(6, 1, 0, &all[9..17]))),
                _ => {}
            }
            all.drain(..9 + length);
        }
    }
}
