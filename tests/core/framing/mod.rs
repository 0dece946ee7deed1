//! Framing: what counts as a frame, however the input is split; and frames over connections, in
//! simulated time.

mod reference;
mod turns;
mod whole;

use std::{
    cell::RefCell,
    fmt::Debug,
    future::{Future, poll_fn},
    io::Write,
    pin::Pin,
    process::{Command, Stdio},
    rc::Rc,
    task::Poll,
};

use entwined::{
    framing::{
        Delimited, FrameError, FramedError, FramedStream, Frames, Framing, Lines, Netstrings,
        Prefixed, Width,
    },
    protocol::{self, Connection, End, FrameReceiver, Framed, Lost},
    simulation::Simulation,
    transport::memory::{self, Link},
};
use futures_io::AsyncRead;

/// Everything that a framing finds in the pieces, and its result at the end.
fn found<F: Framing>(framing: F, pieces: &[&[u8]]) -> Vec<Result<Vec<u8>, FrameError>> {
    let mut frames = Frames::new(framing);
    let mut all = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        loop {
            match frames.next(&mut input) {
                Ok(None) => break,
                Ok(Some(frame)) => all.push(Ok(frame.to_vec())),
                Err(error) => {
                    let fatal = error.is_fatal();
                    all.push(Err(error));
                    if fatal {
                        return all;
                    }
                }
            }
        }
        assert!(input.is_empty());
    }
    match frames.finish() {
        Ok(None) => {}
        Ok(Some(frame)) => all.push(Ok(frame.to_vec())),
        Err(error) => all.push(Err(error)),
    }
    all
}

/// Checks what is found in `input` if it comes in one piece, split at every position, and byte by
/// byte.
fn check<F: Framing + Clone + Debug>(
    framing: &F,
    input: &[u8],
    expected: &[Result<&[u8], FrameError>],
) {
    let expected: Vec<_> = expected
        .iter()
        .map(|frame| frame.clone().map(<[u8]>::to_vec))
        .collect();
    let what = format!("{framing:?} on {:?}", String::from_utf8_lossy(input));
    assert_eq!(found(framing.clone(), &[input]), expected, "{what}");
    for cut in 0..=input.len() {
        let (front, back) = input.split_at(cut);
        assert_eq!(
            found(framing.clone(), &[front, back]),
            expected,
            "{what}, cut at {cut}"
        );
    }
    let bytes: Vec<_> = input.chunks(1).collect();
    assert_eq!(
        found(framing.clone(), &bytes),
        expected,
        "{what}, a byte at a time"
    );
}

fn too_long(limit: usize, skipped: bool) -> Result<&'static [u8], FrameError> {
    Err(FrameError::TooLong { limit, skipped })
}

#[test]
fn lines() {
    let lines = Lines::new(5);
    check(&lines, b"", &[]);
    check(
        &lines,
        b"one\ntwo\r\n\n\r\n",
        &[Ok(b"one"), Ok(b"two"), Ok(b""), Ok(b"")],
    );
    check(&lines, b"one\ntwo", &[Ok(b"one"), Ok(b"two")]);
    check(&lines, b"a\rb\nc\r\r\n", &[Ok(b"a\rb"), Ok(b"c\r")]);
    check(&lines, b"12345\n12345\r\n", &[Ok(b"12345"), Ok(b"12345")]);
    check(&lines, b"123456\nnext\n", &[too_long(5, true), Ok(b"next")]);
    check(
        &lines,
        b"12345\rmore and more\nnext\n",
        &[too_long(5, true), Ok(b"next")],
    );
    check(&lines, b"ok\n1234567890", &[Ok(b"ok"), too_long(5, true)]);
}

#[test]
fn lines_and_what_comes_between_them() {
    let mut lines = Lines::new(100);
    lines.set_raw(Some(7));
    // Raw pieces are returned as they arrive, so only their concatenation is the same for every
    // split.
    for cut in 0..=11 {
        let input = b"\nraw\n\n!line\n";
        let (front, back) = input.split_at(cut);
        let all = found(lines.clone(), &[front, back])
            .into_iter()
            .map(|frame| frame.expect("a frame"))
            .collect::<Vec<_>>();
        assert_eq!(all.last().expect("a line"), b"line");
        assert_eq!(all[..all.len() - 1].concat(), b"\nraw\n\n!");
    }
    assert!(lines.is_raw());
    assert_eq!(
        found(lines.clone(), &[b"short"]),
        [Ok(b"short".to_vec()), Err(FrameError::Unfinished)]
    );
    lines.set_lines();
    check(&lines, b"line\n", &[Ok(b"line")]);
    lines.set_raw(None);
    assert_eq!(
        found(lines, &[b"a\nb", b"\n"]),
        [Ok(b"a\nb".to_vec()), Ok(b"\n".to_vec())]
    );
}

#[test]
fn netstrings() {
    let netstrings = Netstrings::new(12);
    check(
        &netstrings,
        b"0:,3:abc,12:hello world!,",
        &[Ok(b""), Ok(b"abc"), Ok(b"hello world!")],
    );
    check(&netstrings, b"3:a,b,1::,", &[Ok(b"a,b"), Ok(b":")]);
    check(&netstrings, b"3:ab", &[Err(FrameError::Unfinished)]);
    check(&netstrings, b"13:", &[too_long(12, false)]);
    check(
        &netstrings,
        b"99999999999999999999999999",
        &[too_long(12, false)],
    );
    for wrong in [
        &b"3:abc;"[..],
        b"01:a,",
        b"00:,",
        b":,",
        b"x",
        b"3 :abc,",
        b"-1:,",
        b"+1:a,",
    ] {
        let all = found(netstrings.clone(), &[wrong]);
        assert!(
            matches!(all[..], [Err(FrameError::Malformed(_))]),
            "{wrong:?}: {all:?}"
        );
        check(
            &netstrings,
            wrong,
            &[all[0]
                .as_ref()
                .map(|frame| &frame[..])
                .map_err(Clone::clone)],
        );
    }
}

#[test]
fn lengths_in_front() {
    check(
        &Prefixed::new(Width::U8, 1_000),
        b"\0\x03abc\x01d",
        &[Ok(b""), Ok(b"abc"), Ok(b"d")],
    );
    check(
        &Prefixed::new(Width::U16, 1_000),
        b"\0\0\0\x03abc\0\x01d",
        &[Ok(b""), Ok(b"abc"), Ok(b"d")],
    );
    check(
        &Prefixed::new(Width::U32, 1_000),
        b"\0\0\0\0\0\0\0\x03abc",
        &[Ok(b""), Ok(b"abc")],
    );
    check(
        &Prefixed::new(Width::U32, 2),
        b"\0\0\0\x03abc",
        &[too_long(2, false)],
    );
    check(
        &Prefixed::new(Width::U32, usize::MAX),
        b"\xff\xff\xff\xff",
        &[Err(FrameError::Unfinished)],
    );
    check(
        &Prefixed::new(Width::U16, 10),
        b"\0",
        &[Err(FrameError::Unfinished)],
    );
    let mut output = Vec::new();
    assert!(
        Prefixed::new(Width::U8, 1_000)
            .encode(&[0; 256], &mut output)
            .is_err()
    );
    assert!(output.is_empty());
    Prefixed::new(Width::U8, 1_000)
        .encode(&[7; 255], &mut output)
        .expect("the longest");
    assert_eq!((output.len(), output[0]), (256, 255));
}

#[test]
fn delimiters() {
    let framing = Delimited::new(b"\r\n.\r\n", 10);
    check(
        &framing,
        b"one\r\n.\r\n\r\n.\r\ntwo\r\n.\r\n",
        &[Ok(b"one"), Ok(b""), Ok(b"two")],
    );
    check(&framing, b"a\r\n\r\n.\r\r\n.\r\n", &[Ok(b"a\r\n\r\n.\r")]);
    check(&framing, b"1234567890\r\n.\r\n", &[Ok(b"1234567890")]);
    check(&framing, b"12345678901\r\n.\r\n", &[too_long(10, false)]);
    check(&framing, b"open\r\n.", &[Err(FrameError::Unfinished)]);
    check(
        &Delimited::new(b"aa", 10),
        b"baaab",
        &[Ok(b"b"), Err(FrameError::Unfinished)],
    );
    let mut output = Vec::new();
    for wrong in [&b"a\r\n.\r\nb"[..], b"12345678901"] {
        assert!(framing.encode(wrong, &mut output).is_err());
    }
    // The end of the frame and the start of the delimiter together form a delimiter.
    assert!(
        Delimited::new(b"aa", 10)
            .encode(b"ba", &mut output)
            .is_err()
    );
    assert!(output.is_empty());
}

#[test]
fn what_is_encoded_is_decoded() {
    fn round<F: Framing + Clone + Debug>(framing: &F, frames: &[&[u8]]) {
        let mut output = Vec::new();
        for frame in frames {
            framing.encode(frame, &mut output).expect("a frame");
        }
        check(
            framing,
            &output,
            &frames.iter().map(|frame| Ok(*frame)).collect::<Vec<_>>(),
        );
    }
    let frames: [&[u8]; 4] = [b"", b"a", b"some more", &[0xff; 40]];
    round(&Lines::new(100), &frames);
    round(&Netstrings::new(100), &frames);
    round(&Prefixed::new(Width::U8, 100), &frames);
    round(&Prefixed::new(Width::U16, 100), &frames);
    round(&Prefixed::new(Width::U32, 100), &frames);
    round(&Delimited::new(b"--", 100), &frames);
}

/// Records how many bytes it was shown more than once.
#[derive(Debug)]
struct Counted<F>(F, Rc<RefCell<(usize, usize)>>);

impl<F: Framing> Framing for Counted<F> {
    fn decode(&mut self, input: &[u8]) -> Result<entwined::framing::Found, FrameError> {
        let mut counts = self.1.borrow_mut();
        *counts = (counts.0 + 1, counts.1.max(input.len()));
        drop(counts);
        self.0.decode(input)
    }

    fn encode(&self, frame: &[u8], output: &mut Vec<u8>) -> Result<(), FrameError> {
        self.0.encode(frame, output)
    }
}

#[test]
fn what_is_kept_is_bounded_by_the_limit() {
    let counts = Rc::new(RefCell::new((0, 0)));
    let mut frames = Frames::new(Counted(Lines::new(1_000), counts.clone()));
    // A peer whose line never ends.
    for _ in 0..10_000 {
        let mut input = &[b'x'; 700][..];
        while let Err(error) = frames.next(&mut input) {
            assert!(!error.is_fatal());
        }
        assert!(frames.pending() <= 2_000, "{}", frames.pending());
    }
    assert!(counts.borrow().1 <= 2_000, "{:?}", counts.borrow());
}

struct Collect {
    log: Rc<RefCell<Vec<String>>>,
}

impl Collect {
    fn note(&self, what: impl Into<String>) {
        self.log.borrow_mut().push(what.into());
    }
}

impl FrameReceiver<Lines> for Collect {
    fn frame_received(&mut self, connection: &Connection, framing: &mut Lines, frame: &[u8]) {
        let frame = String::from_utf8_lossy(frame);
        if let Some(count) = frame.strip_prefix("raw ") {
            framing.set_raw(Some(count.parse().expect("a number")));
        }
        match &*frame {
            "pause" => connection.pause_reading(),
            "close" => connection.close(),
            _ => {}
        }
        self.note(frame);
    }

    fn frame_failed(&mut self, _: &Connection, error: &FrameError) {
        self.note(error.to_string());
    }

    fn connection_lost(&mut self, why: &Lost) {
        self.note(why.to_string());
    }
}

fn start(
    simulation: &Simulation,
    link: Link,
) -> (Connection, memory::MemoryStream, Rc<RefCell<Vec<String>>>) {
    let log = Rc::new(RefCell::new(Vec::new()));
    let (near, far) = memory::pair_over(&simulation.handle(), link);
    let protocol = Framed::new(Lines::new(20), Collect { log: log.clone() });
    (
        protocol::start(&simulation.handle(), near, protocol),
        far,
        log,
    )
}

fn write(
    simulation: &Simulation,
    far: memory::MemoryStream,
    bytes: &'static [u8],
) -> memory::MemoryStream {
    let writing = simulation.handle().spawn(async move {
        let mut far = far;
        let count = std::future::poll_fn(|cx| {
            futures_io::AsyncWrite::poll_write(std::pin::Pin::new(&mut far), cx, bytes)
        });
        assert_eq!(count.await.expect("written"), bytes.len());
        far
    });
    let far = simulation.run_until(writing).expect("an end");
    simulation.drive();
    far
}

#[test]
fn a_receiver_gets_frames_one_by_one_and_may_rest_between_them() {
    for fragment in [usize::MAX, 3, 1] {
        let simulation = Simulation::new();
        let link = Link {
            fragment,
            ..Link::default()
        };
        let (connection, far, log) = start(&simulation, link);
        let far = write(&simulation, far, b"one\npause\ntwo\r\nraw 3\n\n\n\nthree\n");
        assert_eq!(log.take(), ["one", "pause"]);
        connection.resume_reading();
        simulation.drive();
        let all = log.take();
        assert_eq!(
            (&all[..2], all[2..all.len() - 1].concat().as_str()),
            (&["two".into(), "raw 3".into()][..], "\n\n\n")
        );
        assert_eq!(all.last().expect("a line"), "three");
        drop(write(
            &simulation,
            far,
            b"this line is longer than twenty bytes\nrest",
        ));
        simulation.drive();
        let end = [
            "the peer sent a frame of more than 20 bytes",
            "rest",
            "the connection was closed",
        ];
        assert_eq!(log.take(), end);
    }
}

#[test]
fn nothing_comes_after_the_receiver_has_closed() {
    let simulation = Simulation::new();
    let (_, far, log) = start(&simulation, Link::default());
    write(&simulation, far, b"close\nmore\n");
    assert_eq!(log.take(), ["close", "the connection was closed"]);
}

#[test]
fn frames_over_a_stream_both_ways_at_once() {
    let simulation = Simulation::new();
    let mut link = Link::default();
    (link.fragment, link.capacity) = (100, 1_000);
    let (near, far) = memory::pair_over(&simulation.handle(), link);
    let talk = |stream, first: u8| {
        let mut framed = FramedStream::new(stream, Prefixed::new(Width::U16, 10_000));
        async move {
            for round in 0..200_usize {
                framed.send(&vec![first; round * 13]).await.expect("sent");
                let other = framed.next().await.expect("a frame").expect("no error");
                assert_eq!(other, vec![b'a' + b'b' - first; round * 13]);
            }
            framed.close().await.expect("closed");
            assert!(framed.next().await.is_none());
            assert!(framed.next().await.is_none());
        }
    };
    let handle = simulation.handle();
    let (one, other) = (
        handle.spawn(talk(near, b'a')),
        handle.spawn(talk(far, b'b')),
    );
    simulation.run_until(one).expect("no panic");
    simulation.run_until(other).expect("no panic");
}

#[test]
fn a_stream_tells_what_is_wrong_and_gives_back_what_is_left() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, far) = memory::pair(&handle);
    let far = write(&simulation, far, b"first\nsecond\nthi");
    let reading = handle.spawn(async move {
        let mut framed = FramedStream::new(near, Lines::new(20));
        assert_eq!(
            framed.next().await.expect("a frame").expect("no error"),
            b"first"
        );
        framed.into_parts()
    });
    let (near, left) = simulation.run_until(reading).expect("no panic");
    assert_eq!(left, b"second\nthi");
    drop(write(&simulation, far, b"01:x,"));
    let reading = handle.spawn(async move {
        let mut framed = FramedStream::new(near, Netstrings::new(20));
        let refused = framed.send(&[0; 21]).await.expect_err("too long");
        assert!(matches!(
            refused,
            FramedError::Frame(FrameError::CannotEncode(_))
        ));
        let error = framed
            .next()
            .await
            .expect("an error")
            .expect_err("no frame");
        assert_eq!(
            error.to_string(),
            "the peer sent an invalid frame: the length starts with a zero"
        );
        assert!(framed.next().await.is_none());
    });
    simulation.run_until(reading).expect("no panic");
}

/// Twisted's receivers read our frames and send back the same frames in reverse order.
const TWISTED: &str = r"
import sys
from twisted.protocols.basic import (NetstringReceiver, Int8StringReceiver, Int16StringReceiver,
                                     Int32StringReceiver, LineReceiver)
from twisted.internet.testing import StringTransport
kind = {'netstring': NetstringReceiver, 'u8': Int8StringReceiver, 'u16': Int16StringReceiver,
        'u32': Int32StringReceiver, 'lines': LineReceiver}[sys.argv[1]]
frames = []
class Receiver(kind):
    def stringReceived(self, frame):
        frames.append(frame)
    lineReceived = stringReceived
receiver, connection = Receiver(), StringTransport()
receiver.makeConnection(connection)
receiver.dataReceived(sys.stdin.buffer.read())
for frame in reversed(frames):
    (receiver.sendLine if kind is LineReceiver else receiver.sendString)(frame)
sys.stdout.buffer.write(connection.value())
";

#[test]
fn twisted_speaks_the_same() {
    fn exchange<F: Framing + Clone>(name: &str, framing: &F) {
        let frames: [&[u8]; 4] = [b"hello", b"", b"some more of it", b"\xfe\xff\0"];
        let mut output = Vec::new();
        for frame in frames {
            framing.encode(frame, &mut output).expect("a frame");
        }
        let mut command = Command::new("/usr/bin/python3");
        command
            .args(["-c", TWISTED, name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut python = command.spawn().expect("apt-get install python3-twisted");
        python
            .stdin
            .take()
            .expect("a pipe")
            .write_all(&output)
            .expect("written");
        let answer = python.wait_with_output().expect("an end").stdout;
        let expected: Vec<_> = frames
            .iter()
            .rev()
            .map(|frame| Ok(frame.to_vec()))
            .collect();
        assert_eq!(found(framing.clone(), &[&answer]), expected, "{name}");
    }
    exchange("netstring", &Netstrings::new(1_000));
    exchange("u8", &Prefixed::new(Width::U8, 1_000));
    exchange("u16", &Prefixed::new(Width::U16, 1_000));
    exchange("u32", &Prefixed::new(Width::U32, 1_000));
    exchange("lines", &Lines::new(1_000));
}

/// Each side sends more than the wire and the buffers hold before it reads anything.
#[test]
fn halves_of_a_stream_send_and_receive_at_once() {
    const FRAMES: u32 = 20_000;
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let mut link = Link::default();
    (link.fragment, link.capacity) = (1_000, 5_000);
    let (near, far) = memory::pair_over(&handle, link);
    let readers: Vec<_> = [near, far]
        .into_iter()
        .map(|stream| {
            let (mut reader, mut writer) =
                FramedStream::new(stream, Prefixed::new(Width::U8, 255)).split();
            let send = async move {
                for number in 0..FRAMES {
                    writer.send(&number.to_be_bytes()).await.expect("sent");
                }
                writer.close().await.expect("closed");
            };
            handle.spawn(send);
            handle.spawn(async move {
                for number in 0..FRAMES {
                    assert_eq!(
                        reader.next().await.expect("a frame").expect("no error"),
                        number.to_be_bytes()
                    );
                }
                assert!(reader.next().await.is_none());
            })
        })
        .collect();
    for reader in readers {
        simulation.run_until(reader).expect("no panic");
    }
}

/// A receiver that ignores errors, and is not called again after one.
struct Careless(Rc<RefCell<Vec<String>>>);

impl FrameReceiver<Netstrings> for Careless {
    fn frame_received(&mut self, _: &Connection, _: &mut Netstrings, _: &[u8]) {
        self.0.borrow_mut().push("frame".to_owned());
    }

    fn frame_failed(&mut self, _: &Connection, error: &FrameError) {
        self.0.borrow_mut().push(error.to_string());
    }

    fn end_received(&mut self, _: &Connection) -> End {
        self.0.borrow_mut().push("end".to_owned());
        End::Close
    }

    fn connection_lost(&mut self, why: &Lost) {
        self.0.borrow_mut().push(why.to_string());
    }
}

#[test]
fn a_connection_that_ends_within_a_frame_is_aborted() {
    for (input, expected) in [
        (
            &b"1:x,"[..],
            &["frame", "end", "the connection was closed"][..],
        ),
        (
            b"1:x,3:y",
            &[
                "frame",
                "the peer stopped in the middle of a frame",
                "the connection was aborted",
            ],
        ),
        (
            b"x",
            &[
                "the peer sent an invalid frame: a length must be digits and a colon",
                "the connection was aborted",
            ],
        ),
    ] {
        let simulation = Simulation::new();
        let log = Rc::new(RefCell::new(Vec::new()));
        let (near, far) = memory::pair(&simulation.handle());
        protocol::start(
            &simulation.handle(),
            near,
            Framed::new(Netstrings::new(100), Careless(log.clone())),
        );
        drop(write(&simulation, far, input));
        simulation.drive();
        assert_eq!(log.take(), expected);
    }
}

/// Each call that was given up left its frame behind, without a limit.
#[test]
fn frames_whose_sending_was_given_up_do_not_pile_up() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (here, there) = memory::pair(&handle);
    let (_reader, mut writer) = FramedStream::new(here, Prefixed::new(Width::U16, 5_000)).split();
    let sending = handle.spawn(async move {
        let mut sent = 0;
        for _ in 0..1_000 {
            let mut send = Box::pin(writer.send(&[7; 4_094]));
            let done =
                std::future::poll_fn(|cx| std::task::Poll::Ready(send.as_mut().poll(cx))).await;
            sent += u32::from(done.is_ready());
        }
        (sent, writer)
    });
    let (sent, mut writer) = simulation.run_until(sending).expect("an end");
    handle.spawn(async move { writer.close().await });
    let mut there = FramedStream::new(there, Prefixed::new(Width::U16, 5_000));
    let taking = handle.spawn(async move {
        let mut taken = 0;
        while let Some(frame) = there.next().await {
            assert_eq!(frame.expect("a frame").len(), 4_094);
            taken += 1;
        }
        taken
    });
    let taken = simulation.run_until(taking).expect("an end");
    assert!(taken >= sent, "{taken} of {sent}");
    // 64 KiB on the way, 64 KiB here, and one frame.
    assert!(taken <= 33, "{taken} frames were kept");
}

/// Where it had looked before the end was remembered.
#[test]
fn frames_may_be_read_again_after_an_end() {
    fn again<F: Framing>(framing: F, half: &[u8], whole: &[u8]) {
        let mut frames = Frames::new(framing);
        assert_eq!(frames.next(&mut &half[..]), Ok(None));
        let _ = frames.finish();
        let mut input = whole;
        assert!(frames.next(&mut input).expect("a frame").is_some());
    }
    again(Lines::new(100), b"half a line", b"a\n");
    again(Delimited::new(b"--", 100), b"half a frame", b"a--");
    again(Netstrings::new(100), b"12:half", b"1:a,");
    again(Prefixed::new(Width::U8, 100), b"\x0chalf", b"\x01a");
}

/// What a line that was too long had left over swallowed the first line after the end.
#[test]
fn lines_may_be_read_again_after_an_end_in_one_that_is_too_long() {
    let mut frames = Frames::new(Lines::new(3));
    assert!(frames.next(&mut &b"too long"[..]).is_err());
    assert_eq!(frames.next(&mut &b"rest"[..]), Ok(None));
    assert_eq!(frames.finish(), Ok(None));
    assert_eq!(frames.next(&mut &b"a\n"[..]), Ok(Some(&b"a"[..])));
    // Raw bytes that did not come are not awaited either.
    frames.framing_mut().set_raw(Some(10));
    assert_eq!(frames.next(&mut &b"raw"[..]), Ok(Some(&b"raw"[..])));
    assert!(frames.finish().is_err());
    assert_eq!(frames.next(&mut &b"b\n"[..]), Ok(Some(&b"b"[..])));
}

/// What was sent stayed in memory until all was sent, which a peer that reads slowly can put off.
#[test]
fn what_is_sent_takes_no_memory_though_some_always_waits() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (here, mut there) = memory::pair(&handle);
    let mut framed = FramedStream::new(here, Prefixed::new(Width::U16, 5_000));
    let sending = handle.spawn(async move {
        let (mut buffer, mut read) = ([0; 4_096], 0);
        for round in 0..1_000 {
            let mut send = Box::pin(framed.send(&[7; 4_094]));
            poll_fn(|cx| {
                let _ = send.as_mut().poll(cx);
                Poll::Ready(())
            })
            .await;
            drop(send);
            // The link is full by then.
            if round < 20 {
                continue;
            }
            let reading = poll_fn(|cx| Pin::new(&mut there).poll_read(cx, &mut buffer));
            read += reading.await.expect("bytes");
        }
        // It shows its bytes.
        (read, format!("{framed:?}").len() / "7, ".len())
    });
    let (read, bytes) = simulation.run_until(sending).expect("an end");
    assert_eq!(read, 980 * 4_096);
    // 64 KiB and a frame, and as much that was sent.
    assert!(bytes < 150_000, "{bytes} bytes");
}
