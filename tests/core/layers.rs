//! Layers above a stream: handshakes before the first byte, and layers added later.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use entwined::{
    Standalone, forward_stream,
    framing::{Delimited, FrameError, Framing, Lines},
    protocol::{self, Connection, FrameReceiver, Framed, Lost, Protocol},
    simulation::Simulation,
    transport::{
        Address, ByteStream, UnixAddress,
        memory::{self, Link, MemoryStream},
    },
};
use futures_io::{AsyncRead, AsyncWrite};

/// A layer with a handshake of one byte from the peer, which becomes the peer's name. It swaps
/// letters in pairs: `a` becomes `b` and so on.
struct Shifted<S> {
    below: S,
    name: Option<u8>,
}

impl<S> Shifted<S> {
    fn new(below: S) -> Self {
        Shifted { below, name: None }
    }
}

fn shift(byte: u8) -> u8 {
    byte ^ 1
}

impl<S: ByteStream> AsyncRead for Shifted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_established(cx))?;
        let count = ready!(Pin::new(&mut self.below).poll_read(cx, buffer))?;
        buffer[..count]
            .iter_mut()
            .for_each(|byte| *byte = shift(*byte));
        Poll::Ready(Ok(count))
    }
}

impl<S: ByteStream> AsyncWrite for Shifted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_established(cx))?;
        let shifted: Vec<_> = buffer.iter().copied().map(shift).collect();
        Pin::new(&mut self.below).poll_write(cx, &shifted)
    }

    forward_stream!(below: poll_flush, poll_close);
}

impl<S: ByteStream> ByteStream for Shifted<S> {
    fn local_address(&self) -> Address {
        self.below.local_address()
    }

    fn peer_address(&self) -> Address {
        match self.name {
            Some(name) => Address::Unix(UnixAddress::Abstract(vec![name])),
            None => self.below.peer_address(),
        }
    }

    fn poll_established(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.below.poll_established(cx))?;
        let mut byte = [0];
        while self.name.is_none() {
            match ready!(Pin::new(&mut self.below).poll_read(cx, &mut byte))? {
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                _ if byte == *b"!" => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                _ => self.name = Some(byte[0]),
            }
        }
        Poll::Ready(Ok(()))
    }

    forward_stream!(below: abort, below);
}

type Log = Rc<RefCell<Vec<String>>>;

/// Logs what happens. On `S`, it inserts a layer, and writes below and above it.
struct Noting(Log);

impl Noting {
    fn note(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }
}

impl Protocol for Noting {
    fn connection_made(&mut self, connection: &Connection) {
        self.note(format!("made with {}", connection.peer_address()));
    }

    fn data_received(&mut self, connection: &Connection, data: &[u8]) {
        self.note(String::from_utf8_lossy(data));
        if data == b"S" {
            connection.write(b"below");
            connection.upgrade(Shifted::new);
            connection.write(b"abc");
        }
    }

    fn upgraded(&mut self, connection: &Connection) {
        self.note(format!("upgraded by {}", connection.peer_address()));
        connection.write(b"abc");
    }

    fn connection_lost(&mut self, why: &Lost) {
        self.note(why.to_string());
    }
}

fn entries(log: &Log) -> Vec<String> {
    log.take()
}

/// Writes all of it at once.
fn write(stream: &Far, bytes: &[u8]) {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let Poll::Ready(Ok(count)) = Pin::new(&mut *stream.borrow_mut()).poll_write(&mut cx, bytes)
    else {
        panic!("no room")
    };
    assert_eq!(count, bytes.len());
}

/// Reads what is available, or `None` at the end. Runs in a task, because only a task has a budget
/// to spend.
fn read(simulation: &Simulation, stream: &Far) -> Option<Vec<u8>> {
    let stream = stream.clone();
    let reading = simulation.handle().spawn(poll_fn(move |cx| {
        let (mut all, mut buffer) = (Vec::new(), [0; 64]);
        while let Poll::Ready(result) =
            Pin::new(&mut *stream.borrow_mut()).poll_read(cx, &mut buffer)
        {
            match result {
                Ok(count @ 1..) => all.extend_from_slice(&buffer[..count]),
                _ => return Poll::Ready(None),
            }
        }
        Poll::Ready(Some(all))
    }));
    simulation.run_until(reading).expect("it is not cancelled")
}

/// The peer's end.
type Far = Rc<RefCell<MemoryStream>>;

fn pair(simulation: &Simulation) -> (MemoryStream, Far) {
    let (near, far) = memory::pair(&simulation.handle());
    (near, Rc::new(RefCell::new(far)))
}

#[test]
fn a_protocol_begins_when_its_stream_is_established() {
    let (simulation, log) = (Simulation::new(), Log::default());
    let (near, far) = pair(&simulation);
    let connection = protocol::start(
        &simulation.handle(),
        Shifted::new(near),
        Noting(log.clone()),
    );
    assert_eq!(*connection.peer_address(), Address::Unknown);
    simulation.drive();
    assert_eq!(entries(&log), [""; 0]);
    write(&far, b"nabc");
    simulation.drive();
    assert_eq!(entries(&log), ["made with @n", "`cb"]);
    assert_eq!(connection.peer_address().to_string(), "@n");
}

#[test]
fn a_stream_that_cannot_be_established_has_no_protocol() {
    let (simulation, log) = (Simulation::new(), Log::default());
    for hello in [&b"!"[..], b""] {
        let (near, far) = pair(&simulation);
        let connection = protocol::start(
            &simulation.handle(),
            Shifted::new(near),
            Noting(log.clone()),
        );
        if !hello.is_empty() {
            write(&far, hello);
        }
        drop(far);
        simulation.drive();
        assert!(connection.is_closing());
        assert_eq!(entries(&log), [""; 0]);
    }
}

#[test]
fn a_stream_has_its_time_to_be_established_and_no_more() {
    let (simulation, log) = (Simulation::new(), Log::default());
    let (near, far) = pair(&simulation);
    let connection = protocol::start(
        &simulation.handle(),
        Shifted::new(near),
        Noting(log.clone()),
    );
    simulation.advance(Duration::from_secs(9));
    assert_eq!(read(&simulation, &far), Some(Vec::new()));
    simulation.advance(Duration::from_secs(1));
    assert_eq!(read(&simulation, &far), None, "the peer is not told");
    assert!(connection.is_closing());
    assert_eq!(entries(&log), [""; 0]);
}

#[test]
fn what_is_written_before_an_upgrade_goes_below_and_what_is_written_after_it_on_top() {
    let (simulation, log) = (Simulation::new(), Log::default());
    let (near, far) = pair(&simulation);
    protocol::start(&simulation.handle(), near, Noting(log.clone()));
    write(&far, b"S");
    simulation.drive();
    assert_eq!(read(&simulation, &far).expect("open"), b"below");
    assert_eq!(entries(&log), ["made with an unknown address", "S"]);
    write(&far, b"n");
    simulation.drive();
    assert_eq!(entries(&log), ["upgraded by @n"]);
    assert_eq!(read(&simulation, &far).expect("open"), b"`cb`cb");
    write(&far, b"abc");
    drop(far);
    simulation.drive();
    assert_eq!(entries(&log), ["`cb", "the connection was closed"]);
}

/// The framing looked for the end of a line behind the bytes that it had seen, which were gone.
#[test]
fn half_a_frame_before_an_upgrade_is_forgotten() {
    struct Receiver(Log);

    impl<F: Framing> FrameReceiver<F> for Receiver {
        fn frame_received(&mut self, _: &Connection, _: &mut F, frame: &[u8]) {
            let text = String::from_utf8_lossy(frame).into_owned();
            self.0.borrow_mut().push(text);
        }

        fn frame_failed(&mut self, _: &Connection, error: &FrameError) {
            self.0.borrow_mut().push(error.to_string());
        }

        fn connection_lost(&mut self, why: &Lost) {
            self.0.borrow_mut().push(why.to_string());
        }
    }

    fn receive(framing: impl Framing + 'static, half: &[u8]) -> Vec<String> {
        let (simulation, log) = (Simulation::new(), Log::default());
        let (near, far) = pair(&simulation);
        let receiver = Framed::new(framing, Receiver(log.clone()));
        let connection = protocol::start(&simulation.handle(), near, receiver);
        write(&far, half);
        simulation.drive();
        connection.upgrade(Shifted::new);
        simulation.drive();
        write(&far, b"nih\x0bih\x0b");
        simulation.drive();
        entries(&log)
    }

    let half = b"half a line";
    assert_eq!(receive(Lines::new(100), half), ["hi", "hi"]);
    assert_eq!(receive(Delimited::new(b"\n", 100), half), ["hi", "hi"]);
    // The rest of a line that is too long was skipped.
    let skipped = receive(Lines::new(5), half);
    assert_eq!(skipped[1..], ["hi", "hi"], "{skipped:?}");
}

#[test]
fn an_upgrade_that_fails_or_takes_too_long_is_the_end() {
    let (simulation, log) = (Simulation::new(), Log::default());
    for (hello, end) in [
        (&b"!"[..], "the connection failed: invalid data"),
        (
            b"",
            "the connection failed: the connection was not established in time",
        ),
    ] {
        let (near, far) = pair(&simulation);
        protocol::start(&simulation.handle(), near, Noting(log.clone()));
        write(&far, b"S");
        simulation.drive();
        if !hello.is_empty() {
            write(&far, hello);
        }
        simulation.advance(Duration::from_secs(10));
        assert_eq!(entries(&log), ["made with an unknown address", "S", end]);
    }
}

#[test]
fn an_upgrade_after_the_end_is_none() {
    let (simulation, log) = (Simulation::new(), Log::default());
    let (near, far) = pair(&simulation);
    let connection = protocol::start(&simulation.handle(), near, Noting(log.clone()));
    simulation.drive();
    connection.close();
    connection.upgrade(Shifted::new);
    simulation.drive();
    assert_eq!(read(&simulation, &far), None);
    assert_eq!(
        entries(&log),
        ["made with an unknown address", "the connection was closed"]
    );
}

/// A peer that asks for an upgrade and does not read the answer to it keeps nothing for long.
#[test]
fn an_upgrade_does_not_wait_for_ever_for_a_peer_that_does_not_read() {
    for closes in [false, true] {
        let (simulation, log) = (Simulation::new(), Log::default());
        let link = Link {
            capacity: 4,
            ..Link::default()
        };
        let (near, far) = memory::pair_over(&simulation.handle(), link);
        let far = Rc::new(RefCell::new(far));
        let connection = protocol::start(&simulation.handle(), near, Noting(log.clone()));
        // The answer has five bytes, so one of them waits.
        write(&far, b"S");
        simulation.drive();
        if closes {
            connection.close();
        }
        simulation.advance(Duration::from_secs(9));
        assert_eq!(entries(&log), ["made with an unknown address", "S"]);
        simulation.advance(Duration::from_secs(1));
        let end = match closes {
            true => "the peer did not take the last bytes in time",
            false => "the connection failed: the connection was not established in time",
        };
        simulation.advance(Duration::from_secs(if closes { 20 } else { 0 }));
        assert_eq!(entries(&log), [end]);
    }
}

/// A stream that panics when it is read.
struct Panics {
    below: MemoryStream,
}

impl AsyncRead for Panics {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        panic!("in a stream")
    }
}

impl AsyncWrite for Panics {
    forward_stream!(below: poll_write, poll_flush, poll_close);
}

impl ByteStream for Panics {
    forward_stream!(below: local_address, peer_address, poll_established, abort, below);
}

/// The reason was that the reactor had stopped.
#[test]
fn a_stream_that_panics_ends_its_connection_as_a_panic() {
    struct Why(Rc<RefCell<Option<String>>>);

    impl Protocol for Why {
        fn data_received(&mut self, _: &Connection, _: &[u8]) {}

        fn connection_lost(&mut self, why: &Lost) {
            *self.0.borrow_mut() = Some(why.to_string());
        }
    }

    let simulation = Simulation::new();
    let (below, _far) = memory::pair(&simulation.handle());
    let why = Rc::new(RefCell::new(None));
    protocol::start(&simulation.handle(), Panics { below }, Why(why.clone()));
    simulation.drive();
    assert_eq!(why.take().as_deref(), Some("the protocol panicked"));
}

/// A stream that panics when it is aborted.
struct Stubborn {
    below: MemoryStream,
}

impl AsyncRead for Stubborn {
    forward_stream!(below: poll_read);
}

impl AsyncWrite for Stubborn {
    forward_stream!(below: poll_write, poll_flush, poll_close);
}

impl ByteStream for Stubborn {
    forward_stream!(below: local_address, peer_address, poll_established, below);

    fn abort(&mut self) {
        panic!("in a stream that is aborted")
    }
}

/// It was dropped in the middle of its end, and the protocol never heard of that.
#[test]
fn a_protocol_hears_of_the_end_though_its_stream_panics_then() {
    let (simulation, log) = (Simulation::new(), Log::default());
    let handle = simulation.handle();
    let (below, _far) = memory::pair(&handle);
    protocol::start(&handle, Stubborn { below }, Noting(log.clone()));
    simulation.drive();
    handle.stop();
    simulation.drive();
    assert_eq!(
        entries(&log),
        ["made with an unknown address", "the reactor stopped"]
    );
}

/// The connection's task found the stream in use, and panicked.
#[test]
fn a_question_to_a_stream_may_make_turns() {
    for stops in [false, true] {
        let reactor = Standalone::new().expect("a reactor");
        let handle = reactor.handle();
        let (near, far) = memory::pair(&handle);
        let (log, lost) = (Log::default(), Log::default());
        let connection = protocol::start(&handle, near, Noting(log.clone()));
        let other = protocol::start(&handle, far, Noting(lost.clone()));
        let own = handle.clone();
        handle.call_soon(move || {
            let waited = connection.ask(|_: &MemoryStream| {
                other.write(b"meanwhile");
                if stops {
                    own.stop();
                }
                own.wait(own.sleep(Duration::from_millis(20))).is_ok()
            });
            assert_eq!(waited, Some(!stops));
            if !stops {
                own.call_later_with(Duration::from_millis(20), entwined::Handle::stop);
            }
        });
        reactor.run().expect("a run");
        let [made, stopped] = ["made with an unknown address", "the reactor stopped"];
        let here = match stops {
            true => vec![made, stopped],
            false => vec![made, "meanwhile", stopped],
        };
        assert_eq!(entries(&log), here);
        assert_eq!(entries(&lost), [made, stopped]);
    }
}
