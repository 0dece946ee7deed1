//! Readiness: behaviours 27 to 32.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io::{self, Read, Write},
    net::Shutdown,
    pin::Pin,
    rc::Rc,
    task::Poll,
};

use futures_io::{AsyncRead, AsyncWrite};

use super::{
    rig::{Count, Rig, ms, pattern},
    sys::{self, Socket},
    timers::assert_all_served_and,
};
use entwined::{
    Handle,
    reactor::{Direction, Interest, Registration},
    transport::Stream,
};

/// Makes two connected sockets. The first is non-blocking.
fn sockets() -> (Socket, Socket) {
    let (ours, theirs) = sys::pair();
    ours.set_nonblocking(true).expect("an option");
    (ours, theirs)
}

fn watched(handle: &Handle, interest: Interest) -> (Registration<Socket>, Socket) {
    let (ours, theirs) = sockets();
    (
        Registration::new(handle, ours, interest).expect("it can be watched"),
        theirs,
    )
}

async fn read(source: &Registration<Socket>, count: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; count];
    let received = source
        .io(Direction::Read, |mut socket| socket.read(&mut buffer))
        .await?;
    buffer.truncate(received);
    Ok(buffer)
}

/// Checks once, without waiting.
async fn is_ready(source: &Registration<Socket>, direction: Direction) -> bool {
    poll_fn(|cx| Poll::Ready(source.poll_ready(cx, direction).is_ready())).await
}

pub(super) fn b27_readable_is_delivered() {
    let rig = Rig::new();
    let (source, mut theirs) = watched(&rig.handle, Interest::READABLE);
    let handle = rig.handle.clone();
    rig.complete(async move {
        for round in 0..20_u8 {
            assert!(
                !is_ready(&source, Direction::Read).await,
                "ready for reading, but empty"
            );
            handle.call_later(ms(1), {
                let mut theirs = theirs.try_clone().expect("a socket");
                move || theirs.write_all(&[round]).expect("written")
            });
            assert_eq!(read(&source, 8).await.expect("data"), [round]);
            // Empty again: the source reports it, and must become ready anew.
            let empty = source.object().read(&mut [0]).expect_err("empty");
            assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
            source.clear(Direction::Read);
        }
        theirs.write_all(b"last").expect("written");
        theirs.shutdown(Shutdown::Write).expect("shut down");
        assert_eq!(read(&source, 8).await.expect("data"), b"last");
        assert_eq!(read(&source, 8).await.expect("the end"), b"");
    });
}

pub(super) fn b27_writable_is_delivered() {
    let rig = Rig::new();
    let (source, theirs) = watched(&rig.handle, Interest::WRITABLE);
    theirs.set_nonblocking(true).expect("an option");
    rig.complete(async move {
        for _ in 0..20 {
            let chunk = [7; 4096];
            let mut full = 0;
            // Write until it would block ...
            loop {
                source.ready(Direction::Write).await;
                match source.object().write(&chunk) {
                    Ok(count) => full += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        break source.clear(Direction::Write);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(full > 0, "writable, but full");
            // ... and then make room.
            let mut left = full;
            while left > 0 {
                left -= (&theirs).read(&mut [0; 4096]).expect("what was written");
            }
            source.ready(Direction::Write).await;
        }
    });
}

async fn send_all(stream: &RefCell<Stream>, bytes: &[u8]) {
    let mut sent = 0;
    while sent < bytes.len() {
        sent += poll_fn(|cx| Pin::new(&mut *stream.borrow_mut()).poll_write(cx, &bytes[sent..]))
            .await
            .expect("sent");
    }
}

async fn receive_exactly(stream: &RefCell<Stream>, count: usize) -> Vec<u8> {
    let mut received = Vec::new();
    let mut buffer = vec![0; 32 * 1024];
    while received.len() < count {
        let more = poll_fn(|cx| Pin::new(&mut *stream.borrow_mut()).poll_read(cx, &mut buffer))
            .await
            .expect("data");
        assert!(more > 0, "the end came after {} bytes", received.len());
        received.extend_from_slice(&buffer[..more]);
    }
    received
}

pub(super) fn b27_both_directions_at_once_lose_no_wake_up() {
    let rig = Rig::new();
    let [a, b] = <[_; 2]>::from(sys::pair())
        .map(|socket| Stream::from_fd(&rig.handle, socket.into()).expect("a connected socket"));
    let bytes = Rc::new(pattern(4 * 1024 * 1024));
    let done = Count::default();
    for stream in [a, b].map(|stream| Rc::new(RefCell::new(stream))) {
        let (reader, writer) = (stream.clone(), stream);
        let (expected, sent) = (bytes.clone(), bytes.clone());
        let (read, written) = (done.clone(), done.clone());
        rig.handle.spawn(async move {
            assert!(
                receive_exactly(&reader, expected.len()).await == *expected,
                "what came is not what was sent"
            );
            read.add(1);
        });
        rig.handle.spawn(async move {
            send_all(&writer, &sent).await;
            written.add(1);
        });
    }
    rig.complete(done.reached(4));
}

pub(super) fn b28_after_deregistering_nothing_more_comes_though_it_was_taken_already() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    rig.complete(async move {
        for _ in 0..20 {
            let (mine, mut to_me) = watched(&handle, Interest::READABLE);
            let (other, mut to_other) = watched(&handle, Interest::READABLE);
            let slots = [mine, other].map(|source| Rc::new(RefCell::new(Some(Rc::new(source)))));
            let (heard, ended) = (Count::default(), Count::default());
            // The first task takes the other's source away.
            for (own, others) in [(0, 1), (1, 0)] {
                let (own, others) = (slots[own].clone(), slots[others].clone());
                let (heard, ended) = (heard.clone(), ended.clone());
                let waiting = poll_fn(move |cx| {
                    let Some(source) = own.borrow().clone() else {
                        return Poll::Ready(());
                    };
                    std::task::ready!(source.poll_ready(cx, Direction::Read));
                    heard.add(1);
                    drop(others.take());
                    Poll::Ready(())
                });
                handle.spawn(async move {
                    waiting.await;
                    ended.add(1);
                });
            }
            handle.sleep(ms(1)).await;
            // Both become ready in one turn.
            to_me.write_all(b"!").expect("written");
            to_other.write_all(b"!").expect("written");
            ended.reached(2).await;
            assert_eq!(heard.get(), 1, "a deregistered source was woken");
        }
    });
}

pub(super) fn b28_a_source_given_back_is_silent() {
    let rig = Rig::new();
    let (source, mut theirs) = watched(&rig.handle, Interest::BOTH);
    let handle = rig.handle.clone();
    rig.complete(async move {
        let sources = handle.metrics().sources;
        source.ready(Direction::Write).await;
        let socket = source.into_inner();
        assert_eq!(handle.metrics().sources, sources - 1);
        // What a timer costs on this host is not the source's fault: see behaviour 60.
        let mut idle = Vec::new();
        for writes in [false, true] {
            let before = handle.metrics().idle_slices;
            for _ in 0..20 {
                if writes {
                    theirs.write_all(b"!").expect("written");
                }
                handle.sleep(ms(2)).await;
            }
            idle.push(handle.metrics().idle_slices - before);
        }
        assert!(
            idle[1] <= idle[0] + 8,
            "slices that found nothing to do, during 20 timers: {} while nothing was written to \
             the source, {} while something was. So it still wakes the loop",
            idle[0],
            idle[1]
        );
        drop(socket);
    });
}

pub(super) fn b29_a_reused_fd_never_gets_the_old_ones_events() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    rig.complete(async move {
        let mut reused = 0;
        for _ in 0..50 {
            let (first, mut to_first) = watched(&handle, Interest::BOTH);
            let (second, mut to_second) = watched(&handle, Interest::BOTH);
            handle.sleep(ms(1)).await;
            to_first.write_all(b"!").expect("written");
            to_second.write_all(b"!").expect("written");
            first.ready(Direction::Read).await;
            // The event of the second was taken together with that of the first.
            let number = sys::number(second.object());
            drop(second);
            let (third, _to_third) = watched(&handle, Interest::READABLE);
            reused += u32::from(sys::number(third.object()) == number);
            assert!(!is_ready(&third, Direction::Read).await);
            handle.sleep(ms(1)).await;
            assert!(
                !is_ready(&third, Direction::Read).await,
                "it got an event of its predecessor"
            );
        }
        assert!(reused > 0, "no number was used again, so nothing was shown");
    });
}

pub(super) fn b31_data_left_after_its_share_is_served_without_a_new_event() {
    let rig = Rig::new();
    let (source, mut theirs) = watched(&rig.handle, Interest::READABLE);
    let bytes = pattern(20_000);
    theirs.write_all(&bytes).expect("written at once");
    let handle = rig.handle.clone();
    rig.complete(async move {
        let turns = handle.metrics().turns;
        let mut received = Vec::new();
        while received.len() < bytes.len() {
            // Reading a byte at a time uses up the share of a turn long before the data ends, and
            // the kernel has no new event to report.
            received.extend(read(&source, 1).await.expect("data"));
        }
        assert!(received == bytes);
        assert!(
            handle.metrics().turns - turns > 10,
            "20,000 reads in one turn"
        );
        drop(theirs);
    });
}

/// A task whose source is always ready: it watches a byte that nobody reads.
fn always_ready(handle: &Handle, rounds: &Count) -> impl Future<Output = ()> + use<> {
    let (source, mut theirs) = watched(handle, Interest::READABLE);
    theirs.write_all(b"!").expect("written");
    let rounds = rounds.clone();
    async move {
        let _open = theirs;
        loop {
            source.ready(Direction::Read).await;
            rounds.add(1);
        }
    }
}

pub(super) fn b32_an_always_ready_source_starves_no_timer_call_peer_or_host() {
    let (rig, rounds) = (Rig::new(), Count::default());
    rig.handle.spawn(always_ready(&rig.handle, &rounds));
    // It is not starved either.
    assert_all_served_and(&rig, rounds.reached(100));
}

pub(super) fn b32_always_ready_sources_share() {
    let rig = Rig::new();
    let rounds: Vec<_> = (0..4).map(|_| Count::default()).collect();
    for count in &rounds {
        rig.handle.spawn(always_ready(&rig.handle, count));
    }
    let handle = rig.handle.clone();
    rig.complete(async move { handle.sleep(ms(50)).await });
    let rounds: Vec<_> = rounds.iter().map(Count::get).collect();
    let (least, most) = (
        rounds.iter().min().expect("some"),
        rounds.iter().max().expect("some"),
    );
    assert!(
        *least > 0 && most / least < 3,
        "rounds of four sources that are always ready: {rounds:?}"
    );
}
