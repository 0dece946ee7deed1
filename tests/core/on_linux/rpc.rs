//! Calls of a program in another language.

use std::{
    cell::RefCell,
    io::Write,
    os::unix::net::UnixStream,
    process::{Command, Stdio},
    rc::Rc,
    time::Duration,
};

use crate::{rpc::methods, run::run};
use entwined::{
    deferred::Interrupted,
    rpc::{self, CallError},
    transport::Stream,
};

const PYTHON: &str = r"
import sys, struct, msgpack
read, write = sys.stdin.buffer, sys.stdout.buffer
def send(*values):
    frame = b''.join(msgpack.packb(value) for value in values)
    write.write(struct.pack('>I', len(frame)) + frame)
    write.flush()
def receive():
    length, = struct.unpack('>I', read.read(4))
    unpacker = msgpack.Unpacker()
    unpacker.feed(read.read(length))
    return list(unpacker)
write.write(b'entwrpc\x01')
write.flush()
assert read.read(8) == b'entwrpc\x01'
send(0, 0, 'add', [2, 3])
assert receive() == [1, 0, 5]
send(0, 1, 'ehco', None)
assert receive() == [2, 1, 1, '\'ehco\'; it has \'echo\''.replace('\'', '\x22')]
send(0, 2, 'call back', 20)
kind, number, name, argument = receive()
assert (kind, name, argument) == (0, 'double', 20)
send(1, number, 40)
assert receive() == [1, 2, 41]
send(4, 3, 2, 'count', 5)
items = [receive(), receive()]
send(7, 3, 10)
items += [receive() for _ in range(4)]
assert items == [[5, 3, n] for n in range(5)] + [[6, 3]], items
";

#[test]
fn a_peer_in_another_language_understands() {
    let reactor = entwined::Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("two sockets");
    let stream = entwined::transport::Stream::from_fd(&handle, ours.into()).expect("a socket");
    let peer = rpc::start(&handle, stream, methods(&handle));
    let ended = Rc::new(RefCell::new(None));
    let (slot, stopping) = (ended.clone(), handle.clone());
    let talk = handle.defer_to_thread(move |_| {
        let input = theirs.try_clone().map_err(|error| error.to_string())?;
        let mut python = Command::new("/usr/bin/python3");
        python
            .args(["-c", PYTHON])
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(input)));
        python
            .stdout(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stderr(Stdio::piped());
        let output = python.spawn().and_then(|child| child.wait_with_output());
        output
            .map(|output| String::from_utf8_lossy(&output.stderr).into_owned())
            .map_err(|error| error.to_string())
    });
    talk.add_both(move |said| {
        *slot.borrow_mut() = Some(said);
        stopping.stop();
        Ok::<_, String>(())
    });
    reactor.run().expect("a run");
    assert_eq!(
        ended.take().expect("its end"),
        Ok(String::new()),
        "apt-get install python3-msgpack"
    );
    drop(peer);
}

/// The time of a task that held the thread counted as the peer's, whose bytes were there.
#[test]
fn a_peer_is_not_idle_while_the_thread_is_held() {
    for greets_late in [false, true] {
        run(move |handle| async move {
            let (near, mut far) = UnixStream::pair().expect("two sockets");
            let stream = Stream::from_fd(&handle, near.into()).expect("a stream");
            let config = rpc::Config {
                idle_timeout: Some(Duration::from_millis(200)),
                ..rpc::Config::default()
            };
            let peer = rpc::start_with(&handle, stream, methods(&handle), config);
            if !greets_late {
                far.write_all(b"entwrpc\x01").expect("room");
            }
            handle.sleep(Duration::from_millis(50)).await;
            far.write_all(if greets_late { b"entwrpc\x01" } else { b"\0" })
                .expect("room");
            std::thread::sleep(Duration::from_millis(300));
            handle.sleep(Duration::from_millis(50)).await;
            assert!(!peer.is_closing());
        });
    }
}

/// An answer that came in time is no late one because the thread was held when it came.
#[test]
fn an_answer_that_came_while_the_thread_was_held_is_not_late() {
    run(|handle| async move {
        let (near, mut far) = UnixStream::pair().expect("two sockets");
        let stream = Stream::from_fd(&handle, near.into()).expect("a stream");
        let peer = rpc::start(&handle, stream, methods(&handle));
        let limit = Duration::from_millis(100);
        let answer = peer.call::<u8>("seven", &()).add_timeout(&handle, limit);
        handle.sleep(Duration::from_millis(20)).await;
        far.write_all(b"entwrpc\x01\0\0\0\x03\x01\0\x07")
            .expect("room");
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(answer.await, Ok(7));
        // Without an answer it ends as before.
        let silence = peer.call::<u8>("seven", &()).add_timeout(&handle, limit);
        let late = CallError::from(Interrupted::TimedOut);
        assert_eq!(silence.await, Err(late));
    });
}
