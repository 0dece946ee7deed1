//! Floods of HTTP/2 frames, each of which has brought down some server. Every flood must end in a
//! GOAWAY or cost no memory, and other clients are served meanwhile.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::app::{App, Outcome};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const ENHANCE_YOUR_CALM: u32 = 11;

/// Frames of each flood, unless the server ends the connection before.
const FRAMES: u32 = 200_000;

/// How much the process may grow, in KiB.
const GROWTH: u64 = 1024;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a short payload")
        .to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET /hello` or `POST /hello` in HPACK: RFC 7541, C.
fn request(method: u8) -> Vec<u8> {
    [
        &[method, 0x86, 0x04, 6][..],
        b"/hello",
        &[0x41, 9],
        b"localhost",
    ]
    .concat()
}

const GET: u8 = 0x82;
const POST: u8 = 0x83;

/// How the flood ended.
struct Ending {
    /// Frames that were sent.
    frames: u32,
    /// The error code of a GOAWAY.
    goaway: Option<u32>,
    /// The server stopped reading.
    stuck: bool,
}

/// Sends the frames that `next` returns for each number. `reads` says whether to read the answers
/// meanwhile.
fn flood(app: &App, reads: bool, mut next: impl FnMut(u32) -> Vec<u8>) -> Ending {
    let mut stream = app.connect().stream;
    stream
        .set_write_timeout(Some(Duration::from_secs(1)))
        .expect("an option");
    let hello = [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &frame(SETTINGS, 0, 0, b""),
    ]
    .concat();
    stream.write_all(&hello).expect("the server reads");
    let reader = reads.then(|| listen(stream.try_clone().expect("a copy")));
    let (mut frames, mut stuck) = (0, false);
    while frames < FRAMES {
        let batch: Vec<u8> = (frames..frames + 100).flat_map(&mut next).collect();
        match stream.write_all(&batch) {
            Ok(()) => frames += 100,
            Err(error) => {
                stuck = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                break;
            }
        }
    }
    let reader = reader.unwrap_or_else(|| listen(stream.try_clone().expect("a copy")));
    let _ = stream.shutdown(std::net::Shutdown::Write);
    Ending {
        frames,
        goaway: reader.join().expect("it reads"),
        stuck,
    }
}

/// Reads to the end; returns the code of a GOAWAY.
fn listen(mut stream: TcpStream) -> thread::JoinHandle<Option<u32>> {
    thread::spawn(move || {
        let mut goaway = None;
        let mut head = [0; 9];
        while stream.read_exact(&mut head).is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            if stream.read_exact(&mut payload).is_err() {
                break;
            }
            if head[3] == GOAWAY {
                goaway = Some(u32::from_be_bytes(
                    payload[4..8].try_into().expect("four bytes"),
                ));
            }
        }
        goaway
    })
}

/// Returns the peak memory of the process since [`forget`], or its current memory: proc(5).
fn memory(app: &App, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", app.id())).expect("it lives");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(what))
        .expect("a line of memory");
    line.trim_start_matches(':')
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number")
}

fn forget(app: &App) {
    fs::write(format!("/proc/{}/clear_refs", app.id()), "5").expect("it is our child");
}

/// Runs a flood while another client sends requests. Returns the error code of the GOAWAY that
/// ended it, if one did.
fn survive(name: &str, reads: bool, next: impl FnMut(u32) -> Vec<u8>) -> Option<u32> {
    let mut app = App::start();
    // Pay the cost of a first connection before measuring.
    let mut number = 0;
    flood(&app, true, |frame_number| {
        number += 1;
        if number == 1 {
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &request(GET))
        } else {
            ping(frame_number)
        }
    });
    app.serves();
    forget(&app);
    let before = memory(&app, "VmRSS");
    let mut other = app.connect();
    let asking = thread::spawn(move || {
        let mut longest = Duration::ZERO;
        for _ in 0..50 {
            let start = Instant::now();
            assert_eq!(other.hello(), Outcome::Answered);
            longest = longest.max(start.elapsed());
        }
        longest
    });
    let ending = flood(&app, reads, next);
    let longest = asking.join().expect("it is answered");
    let growth = memory(&app, "VmHWM").saturating_sub(before);
    let Ending {
        frames,
        goaway,
        stuck,
    } = ending;
    println!(
        "{name}: {frames} frames, GOAWAY {goaway:?}, stuck {stuck}, {growth} KiB, \
         another client waited {longest:?}"
    );
    assert!(growth < GROWTH, "{name}: {growth} KiB");
    assert!(longest < Duration::from_secs(1), "{name}: {longest:?}");
    app.serves();
    goaway
}

fn ping(number: u32) -> Vec<u8> {
    frame(PING, 0, 0, &u64::from(number).to_be_bytes())
}

fn stream(number: u32) -> u32 {
    2 * number + 1
}

#[test]
fn rapid_resets_end_in_goaway() {
    let goaway = survive("rapid reset", true, |number| {
        let open = frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            stream(number),
            &request(GET),
        );
        [
            open,
            frame(RST_STREAM, 0, stream(number), &8_u32.to_be_bytes()),
        ]
        .concat()
    });
    assert_eq!(goaway, Some(ENHANCE_YOUR_CALM));
}

#[test]
fn heads_without_end_end_in_goaway() {
    let goaway = survive("CONTINUATION", true, |number| {
        let field = [&[0, 1, b'x', 100][..], &[b'y'; 100]].concat();
        match number {
            0 => frame(HEADERS, 0, 1, &request(GET)),
            _ => frame(CONTINUATION, 0, 1, &field),
        }
    });
    assert!(goaway.is_some());
}

#[test]
fn empty_continuations_end_in_goaway() {
    let goaway = survive("empty CONTINUATION", true, |number| match number {
        0 => frame(HEADERS, 0, 1, &request(GET)),
        _ => frame(CONTINUATION, 0, 1, b""),
    });
    assert!(goaway.is_some());
}

/// The client makes the server reset the streams, so that no reset comes from the client itself.
#[test]
fn streams_that_are_made_to_fail_end_in_goaway() {
    let goaway = survive("made-you-reset", true, |number| {
        let open = frame(HEADERS, END_HEADERS, stream(number), &request(POST));
        // A window beyond 2^31-1 is a stream error: RFC 9113, 6.9.1.
        [
            open,
            frame(
                WINDOW_UPDATE,
                0,
                stream(number),
                &0x7fff_ffff_u32.to_be_bytes(),
            ),
        ]
        .concat()
    });
    assert_eq!(goaway, Some(ENHANCE_YOUR_CALM));
}

#[test]
fn empty_data_cost_no_memory() {
    survive("empty DATA", true, |number| match number {
        0 => frame(HEADERS, END_HEADERS, 1, &request(POST)),
        _ => frame(DATA, 0, 1, b""),
    });
}

#[test]
fn pings_whose_answers_nobody_reads_cost_no_memory() {
    survive("PING", false, ping);
}

#[test]
fn settings_whose_answers_nobody_reads_cost_no_memory() {
    // SETTINGS_INITIAL_WINDOW_SIZE, with a new value each time.
    survive("SETTINGS", false, |number| {
        frame(
            SETTINGS,
            0,
            0,
            &[&[0, 4][..], &number.to_be_bytes()].concat(),
        )
    });
}

#[test]
fn priorities_cost_no_memory() {
    survive("PRIORITY", true, |number| {
        frame(PRIORITY, 0, stream(number), &[0, 0, 0, 0, 7])
    });
}

#[test]
fn window_updates_cost_no_memory() {
    survive("WINDOW_UPDATE", true, |_| {
        frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())
    });
}
