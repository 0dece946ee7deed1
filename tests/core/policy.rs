//! Policies, in simulated time.

use std::{
    cell::RefCell,
    fmt,
    future::{Future, poll_fn},
    io,
    net::Ipv4Addr,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use entwined::{
    Standalone, forward_stream,
    policy::{Bucket, IdleTimeout, PerPeer, RateLimited, TokenBucket, TrafficLog},
    protocol::{self, Connection, Echo, Lost, Protocol},
    simulation::Simulation,
    task::Sleep,
    transport::{
        ByteStream, Listen, Stream,
        memory::{self, MemoryStream},
        tcp,
    },
};
use futures_io::{AsyncRead, AsyncWrite};

use crate::streams::{flush, read, write_all};

#[derive(Clone, Default)]
struct Ended(Rc<RefCell<Option<String>>>);

impl Protocol for Ended {
    fn data_received(&mut self, connection: &Connection, data: &[u8]) {
        connection.write(data);
    }

    fn connection_lost(&mut self, why: &Lost) {
        *self.0.borrow_mut() = Some(why.to_string());
    }
}

#[test]
fn a_silent_connection_is_ended_and_one_that_speaks_is_not() {
    let (simulation, ended) = (Simulation::new(), Ended::default());
    let handle = simulation.handle();
    let (near, mut far) = memory::pair(&handle);
    protocol::start(
        &handle,
        IdleTimeout::new(&handle, near, Duration::from_secs(10)),
        ended.clone(),
    );
    let talking = handle.clone();
    let talk = handle.spawn(async move {
        let mut buffer = [0; 4];
        for _ in 0..5 {
            talking.sleep(Duration::from_secs(9)).await;
            write_all(&mut far, b"!").await.expect("written");
            assert_eq!(read(&mut far, &mut buffer).await.expect("an echo"), 1);
        }
        far
    });
    let far = simulation.run_until(talk).expect("no panic");
    simulation.advance(Duration::from_secs(9));
    assert_eq!(*ended.0.borrow(), None);
    simulation.advance(Duration::from_secs(1));
    let why = "the connection failed: the connection was idle for too long";
    assert_eq!(ended.0.borrow().as_deref(), Some(why));
    drop(far);
}

#[test]
fn a_connection_lasts_no_longer_than_it_may_whether_it_speaks_or_not() {
    for speaks in [true, false] {
        let (simulation, ended) = (Simulation::new(), Ended::default());
        let handle = simulation.handle();
        let (near, mut far) = memory::pair(&handle);
        let near = IdleTimeout::new(&handle, near, Duration::from_secs(100))
            .total(Duration::from_secs(30));
        protocol::start(&handle, near, ended.clone());
        let (talking, start) = (handle.clone(), handle.now());
        let talk = handle.spawn(async move {
            loop {
                talking.sleep(Duration::from_secs(7)).await;
                if speaks && write_all(&mut far, b"!").await.is_err() {
                    break;
                }
                if talking.now() - start >= Duration::from_secs(60) {
                    break;
                }
            }
        });
        simulation.advance(Duration::from_secs(29));
        assert_eq!(*ended.0.borrow(), None);
        simulation.advance(Duration::from_secs(1));
        let why = "the connection failed: the connection has reached its time limit";
        assert_eq!(ended.0.borrow().as_deref(), Some(why), "speaks: {speaks}");
        simulation.run_until(talk).expect("no panic");
    }
}

/// The timeout was checked only by reads, and nobody reads after the end of input.
#[test]
fn a_peer_that_has_ended_and_does_not_read_is_not_waited_for() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, mut far) = memory::pair(&handle);
    let mut near = IdleTimeout::new(&handle, near, Duration::from_secs(10));
    let writing = handle.spawn(async move {
        poll_fn(|cx| Pin::new(&mut far).poll_close(cx))
            .await
            .expect("an end");
        assert_eq!(read(&mut near, &mut [0; 4]).await.expect("an end"), 0);
        let error = write_all(&mut near, &vec![0; 10_000_000])
            .await
            .expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(far);
    });
    let start = handle.now();
    simulation.run_until(writing).expect("no panic");
    assert_eq!(handle.now() - start, Duration::from_secs(10));
}

/// Takes all that is written, and does not get rid of it: TLS to a peer that does not read.
#[derive(Debug)]
struct Swallows {
    below: MemoryStream,
}

impl AsyncRead for Swallows {
    forward_stream!(below: poll_read);
}

impl AsyncWrite for Swallows {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl ByteStream for Swallows {
    forward_stream!(below: local_address, peer_address, abort, below);
}

/// Only reads and writes were watched.
#[test]
fn what_is_to_be_flushed_to_a_peer_that_does_not_read_is_not_waited_for() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    for closes in [false, true] {
        let (near, far) = memory::pair(&handle);
        let mut near = IdleTimeout::new(&handle, Swallows { below: near }, Duration::from_secs(10));
        let start = handle.now();
        let sleeping = handle.clone();
        let writing = handle.spawn(async move {
            write_all(&mut near, b"hello").await.expect("it is taken");
            // The silence before does not count.
            sleeping.sleep(Duration::from_secs(15)).await;
            let waited = if closes {
                poll_fn(|cx| Pin::new(&mut near).poll_close(cx)).await
            } else {
                flush(&mut near).await
            };
            drop(far);
            waited.expect_err("nobody reads").kind()
        });
        let kind = simulation.run_until(writing).expect("no panic");
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert_eq!(handle.now() - start, Duration::from_secs(25));
    }
}

/// The time for what is to be sent ran on, whatever came.
#[test]
fn a_peer_that_sends_is_not_idle_while_something_is_to_be_flushed() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, mut far) = memory::pair(&handle);
    let mut near = IdleTimeout::new(&handle, Swallows { below: near }, Duration::from_secs(10));
    let sleeping = handle.clone();
    handle.spawn(async move {
        for _ in 0..5 {
            sleeping.sleep(Duration::from_secs(6)).await;
            write_all(&mut far, b"!").await.expect("it is there");
        }
        sleeping.sleep(Duration::from_secs(600)).await;
    });
    let start = handle.now();
    let both = handle.spawn(poll_fn(move |cx| {
        let mut byte = [0];
        loop {
            match Pin::new(&mut near).poll_read(cx, &mut byte) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Pin::new(&mut near).poll_flush(cx),
            }
        }
    }));
    let result = simulation.run_until(both).expect("no panic");
    let error = result.expect_err("it does not read");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(handle.now() - start, Duration::from_secs(40));
}

/// How long it takes to send `bytes` bytes over each of several streams that share a bucket.
fn time_of(streams: usize, bytes: usize, input: bool) -> Duration {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let bucket = Bucket::new(10_000, 5_000);
    let start = handle.now();
    let tasks: Vec<_> = (0..streams)
        .flat_map(|_| {
            let (near, mut far) = memory::pair(&handle);
            let limit = Some(bucket.clone());
            let (limits, all) = (
                if input { (limit, None) } else { (None, limit) },
                vec![0; bytes],
            );
            let mut near = RateLimited::new(&handle, near, limits.0, limits.1);
            let (reader, writer): (Counting, Counting) = if input {
                (
                    Box::pin(async move { count(&mut near, bytes).await }),
                    Box::pin(async move { send(&mut far, all).await }),
                )
            } else {
                (
                    Box::pin(async move { count(&mut far, bytes).await }),
                    Box::pin(async move { send(&mut near, all).await }),
                )
            };
            [handle.spawn(reader), handle.spawn(writer)]
        })
        .collect();
    for task in tasks {
        assert_eq!(simulation.run_until(task).expect("no panic"), bytes);
    }
    handle.now() - start
}

type Counting = Pin<Box<dyn Future<Output = usize>>>;

async fn count(stream: &mut (impl AsyncRead + Unpin), bytes: usize) -> usize {
    let (mut all, mut buffer) = (0, vec![0; 3_000]);
    while all < bytes {
        all += read(stream, &mut buffer).await.expect("bytes");
    }
    all
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: Vec<u8>) -> usize {
    write_all(stream, &bytes).await.expect("written");
    bytes.len()
}

#[test]
fn rates_hold_in_both_directions_and_for_all_who_share_a_bucket() {
    for input in [true, false] {
        assert_eq!(time_of(1, 5_000, input), Duration::ZERO);
        // Each may be ahead by a piece of 1 KiB.
        let alone = time_of(1, 25_000, input);
        assert!((1_897..=2_001).contains(&alone.as_millis()), "{alone:?}");
        let shared = time_of(5, 25_000, input);
        assert!(
            (11_488..=12_001).contains(&shared.as_millis()),
            "{shared:?}"
        );
    }
}

/// The first task to be woken took everything each time, and the others got nothing.
#[test]
fn streams_that_share_a_bucket_have_a_like_share() {
    for input in [true, false] {
        let simulation = Simulation::new();
        let handle = simulation.handle();
        let bucket = Bucket::new(10_000, 5_000);
        let counts = Rc::new(RefCell::new([0_usize; 5]));
        for stream in 0..5 {
            let (near, mut far) = memory::pair(&handle);
            let limit = Some(bucket.clone());
            let (limits, counts) = (
                if input { (limit, None) } else { (None, limit) },
                counts.clone(),
            );
            let mut near = RateLimited::new(&handle, near, limits.0, limits.1);
            let (mut buffer, data) = ([0; 4_096], [0; 4_096]);
            handle.spawn(async move {
                loop {
                    let (reader, writer): (&mut dyn Reading, &mut dyn Writing) = if input {
                        (&mut near, &mut far)
                    } else {
                        (&mut far, &mut near)
                    };
                    poll_fn(|cx| Pin::new(&mut *writer).poll_write(cx, &data))
                        .await
                        .expect("written");
                    counts.borrow_mut()[stream] +=
                        read(&mut &mut *reader, &mut buffer).await.expect("bytes");
                }
            });
        }
        simulation.advance(Duration::from_secs(60));
        let counts = *counts.borrow();
        let sum: usize = counts.iter().sum();
        // The rate and the burst, and a piece of 1 KiB for each stream that was ahead of its time.
        assert!((595_000..=605_000 + 5 * 1_024).contains(&sum), "{counts:?}");
        assert!(counts.iter().all(|count| *count * 6 > sum), "{counts:?}");
    }
}

trait Reading: AsyncRead + Unpin {}
impl<T: AsyncRead + Unpin> Reading for T {}
trait Writing: AsyncWrite + Unpin {}
impl<T: AsyncWrite + Unpin> Writing for T {}

#[test]
fn a_rate_holds_also_for_streams_that_come_new() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (bucket, start) = (Bucket::new(10_000, 5_000), handle.now());
    for _ in 0..100 {
        let (near, mut far) = memory::pair(&handle);
        let mut near = RateLimited::new(&handle, near, None, Some(bucket.clone()));
        let one = handle.spawn(async move {
            let sent = send(&mut near, vec![0; 1_000]).await;
            count(&mut far, sent).await
        });
        assert_eq!(simulation.run_until(one).expect("no panic"), 1_000);
    }
    // Everything but the burst, and the last piece on credit.
    let time = handle.now() - start;
    assert!((9_400..=9_500).contains(&time.as_millis()), "{time:?}");
}

#[test]
fn token_buckets_keep_their_rate() {
    let start = std::time::Instant::now();
    let after = |millis| start + Duration::from_millis(millis);
    let mut bucket = TokenBucket::new(1_000, 300, start);
    // However it is used, at most the burst plus the rate passes in one second.
    let mut gone = 0;
    for millis in 0..=1_000 {
        let available = bucket.available(after(millis));
        assert!(available <= 300);
        let take = if millis % 7 == 0 {
            available
        } else {
            available / 3
        };
        bucket.take(take, after(millis));
        gone += take;
    }
    assert!((1_000..=1_300).contains(&gone), "{gone}");
    assert_eq!(bucket.available(after(1_000_000_000)), 300);
    // A clock that runs backwards adds nothing.
    bucket.take(300, after(2_000_000_000));
    assert_eq!(bucket.available(start), 0);
    let mut strange = TokenBucket::new(0, 0, start);
    assert_eq!(strange.when(u64::MAX, start), start);
    strange.take(1, start);
    assert_eq!(strange.when(u64::MAX, start), after(1_000));
    // A debt is repaid first, and it has no limit.
    strange.take(1, start);
    assert_eq!(
        (
            strange.available(after(1_999)),
            strange.available(after(2_000))
        ),
        (0, 1)
    );
    strange.take(u64::MAX, start);
    assert_eq!(strange.available(after(2_000)), 0);
    assert!(strange.when(1, start) > after(1_000_000_000_000));
    assert_eq!(
        TokenBucket::new(u64::MAX, u64::MAX, start).available(after(1_000)),
        u64::MAX
    );
}

#[test]
fn a_peer_has_so_many_connections_and_no_more() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let peers = PerPeer::new(2);
    let (table, told) = (peers.clone(), peers.clone());
    let listener = tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_address().tcp().expect("TCP");
    let server = protocol::serve(
        listener.map_stream(move |stream| table.wrap(stream)),
        |_| Some(Echo),
    );
    let stopping = handle.clone();
    let task = handle.clone().spawn(async move {
        let connect = || async { tcp::connect(&stopping, address).await.expect("a server") };
        let mut buffer = [0; 4];
        let (mut one, mut two) = (connect().await, connect().await);
        for stream in [&mut one, &mut two] {
            write_all(stream, b"!").await.expect("written");
            assert_eq!(read(stream, &mut buffer).await.expect("an echo"), 1);
        }
        let mut third = connect().await;
        // An end of the stream or a reset.
        assert!(!matches!(read(&mut third, &mut buffer).await, Ok(1..)));
        assert_eq!((told.peers(), told.refused()), (1, 1));
        // Another address counts as another peer.
        let other = std::net::SocketAddr::from((Ipv4Addr::new(127, 0, 0, 9), 0));
        let socket = rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::STREAM,
            None,
        );
        let socket = socket.expect("a socket");
        rustix::net::bind(&socket, &other).expect("an address");
        rustix::net::connect(&socket, &address).expect("a server");
        let mut other = Stream::from_fd(&stopping, socket).expect("connected");
        write_all(&mut other, b"!").await.expect("written");
        assert_eq!(read(&mut other, &mut buffer).await.expect("an echo"), 1);
        assert_eq!(told.peers(), 2);
        drop((one, two, other));
        while told.peers() > 0 {
            stopping.sleep(Duration::from_millis(1)).await;
        }
        let mut again = connect().await;
        write_all(&mut again, b"!").await.expect("written");
        assert_eq!(read(&mut again, &mut buffer).await.expect("an echo"), 1);
        drop(server);
        stopping.stop();
    });
    reactor.run().expect("a run");
    task.take().expect("its end").expect("no panic");
}

/// Collects the events of this thread.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Events {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "entwined::traffic"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                self.0.push_str(&format!("{}={value:?} ", field.name()));
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0
            .lock()
            .expect("no panic")
            .push(line.0.trim_end().to_owned());
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn traffic_is_shown_in_pieces_that_are_not_too_long() {
    let events = Events::default();
    tracing::subscriber::with_default(events.clone(), || {
        let simulation = Simulation::new();
        let handle = simulation.handle();
        let (near, far): (MemoryStream, MemoryStream) = memory::pair(&handle);
        protocol::start(&handle, TrafficLog::new(near), Echo);
        let talk = handle.spawn(async move {
            let mut far = far;
            for said in [&b"hello\r\n"[..], &[b'x'; 100]] {
                write_all(&mut far, said).await.expect("written");
                let mut buffer = [0; 200];
                assert_eq!(
                    read(&mut far, &mut buffer).await.expect("an echo"),
                    said.len()
                );
            }
        });
        simulation.run_until(talk).expect("no panic");
        simulation.drive();
    });
    let long = format!("data={}...", "x".repeat(64));
    let peer = "peer=an unknown address";
    let expected = [
        format!("{peer} direction=\"received\" bytes=7 data=hello\\r\\n"),
        format!("{peer} direction=\"sent\" bytes=7 data=hello\\r\\n"),
        format!("{peer} direction=\"received\" bytes=100 {long}"),
        format!("{peer} direction=\"sent\" bytes=100 {long}"),
        format!("message=the connection is over {peer} received=107 sent=107"),
    ];
    let seen = events.0.lock().expect("no panic");
    assert_eq!(seen[..], expected);
}

/// The same as an option of every protocol.
#[test]
fn a_protocol_may_give_its_peers_a_time() {
    let second = Duration::from_secs(1);
    let (simulation, ended) = (Simulation::new(), Ended::default());
    let handle = simulation.handle();
    let (near, mut far) = memory::pair(&handle);
    let connection = protocol::start(&handle, near, ended.clone());
    simulation.advance(1_000 * second);
    assert_eq!(*ended.0.borrow(), None, "the default is for ever");
    connection.set_config(protocol::Config {
        idle_timeout: Some(10 * second),
        ..connection.config()
    });
    for _ in 0..5 {
        simulation.advance(9 * second);
        let handle = simulation.handle();
        let echoed = handle.spawn(async move {
            write_all(&mut far, b"x").await?;
            read(&mut far, &mut [0]).await?;
            Ok::<_, io::Error>(far)
        });
        far = simulation
            .run_until(echoed)
            .expect("a task")
            .expect("an echo");
    }
    // Nothing is asked of the peer while reading is paused.
    connection.pause_reading();
    simulation.advance(100 * second);
    connection.resume_reading();
    simulation.advance(9 * second);
    assert_eq!(*ended.0.borrow(), None);
    simulation.advance(2 * second);
    let why = ended.0.borrow().clone();
    assert_eq!(why.as_deref(), Some("the connection was idle for too long"));
}

#[test]
fn a_peer_that_takes_nothing_is_idle_too() {
    let (simulation, ended) = (Simulation::new(), Ended::default());
    let handle = simulation.handle();
    let (near, _far) = memory::pair(&handle);
    let connection = protocol::start(&handle, near, ended.clone());
    connection.set_config(protocol::Config {
        idle_timeout: Some(Duration::from_secs(10)),
        ..connection.config()
    });
    connection.pause_reading();
    connection.write(&[0; 200_000]);
    simulation.advance(Duration::from_secs(11));
    assert!(ended.0.borrow().is_some());
}

/// "For ever" is a usual thing to say, and no clock reaches that far.
#[test]
fn no_time_is_too_long() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let link = memory::Link {
        latency: Duration::MAX,
        ..memory::Link::default()
    };
    let (mut near, mut far) = memory::pair_over(&handle, link);
    let read = handle.spawn(async move {
        write_all(&mut near, b"hello").await?;
        read(&mut far, &mut [0; 5]).await
    });
    let (near, _far) = memory::pair(&handle);
    let config = protocol::Config {
        close_timeout: Duration::MAX,
        establish_timeout: Duration::MAX,
        idle_timeout: Some(Duration::MAX),
        ..protocol::Config::default()
    };
    let (ended, forever) = (Ended::default(), Duration::MAX);
    let near = IdleTimeout::new(&handle, near, forever).total(forever);
    let connection = protocol::start(&handle, near, ended.clone());
    connection.set_config(config);
    let timer = handle.call_later(forever, || unreachable!("not in our time"));
    let looping = handle.call_every(forever, |_| unreachable!("not in our time"));
    let timeout = handle.spawn(handle.timeout(forever, std::future::pending::<()>()));
    for _ in 0..3 {
        simulation.advance(Duration::from_secs(86_400));
    }
    assert!(timer.is_pending() && looping.is_active() && ended.0.borrow().is_none());
    assert!(!timeout.is_ready() && !read.is_ready());
    timer.reset(forever).expect("it is pending");
}

/// Without room nothing was ever written, and a fragment of no bytes was the end of input.
#[test]
fn a_link_for_no_bytes_carries_one_at_a_time() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let link = memory::Link {
        fragment: 0,
        capacity: 0,
        ..memory::Link::default()
    };
    let (mut near, mut far) = memory::pair_over(&handle, link);
    let sent = handle.spawn(async move { write_all(&mut near, b"hello").await.is_ok() });
    let heard = handle.spawn(async move {
        let (mut heard, mut buffer) = (Vec::new(), [0; 16]);
        while heard.len() < 5 {
            match read(&mut far, &mut buffer).await.expect("bytes") {
                0 => break,
                count => heard.extend_from_slice(&buffer[..count]),
            }
        }
        heard
    });
    simulation.drive();
    assert!(sent.is_ready() && heard.is_ready());
    assert_eq!(heard.take().expect("ready"), Ok(b"hello".to_vec()));
}

/// Takes its time for the answer, after the peer has ended.
#[derive(Clone)]
struct Works(Ended);

impl Protocol for Works {
    fn data_received(&mut self, _: &protocol::Connection, _: &[u8]) {}

    fn end_received(&mut self, connection: &protocol::Connection) -> protocol::End {
        let later = connection.clone();
        connection
            .handle()
            .call_later(Duration::from_secs(60), move || {
                later.write(b"answer");
                later.close();
            });
        protocol::End::KeepWriting
    }

    fn connection_lost(&mut self, why: &protocol::Lost) {
        self.0.connection_lost(why);
    }
}

/// The program's own time counted as the peer's.
#[test]
fn a_peer_that_has_ended_and_owes_nothing_is_not_idle() {
    let (simulation, ended) = (Simulation::new(), Ended::default());
    let handle = simulation.handle();
    let (near, mut far) = memory::pair(&handle);
    let connection = protocol::start(&handle, near, Works(ended.clone()));
    connection.set_config(protocol::Config {
        idle_timeout: Some(Duration::from_secs(10)),
        ..connection.config()
    });
    let talk = handle.spawn(async move {
        use futures_io::AsyncWrite;
        write_all(&mut far, b"question").await.expect("room");
        std::future::poll_fn(|cx| std::pin::Pin::new(&mut far).poll_close(cx))
            .await
            .expect("closed");
        let mut answer = [0; 16];
        read(&mut far, &mut answer).await
    });
    simulation.advance(Duration::from_secs(61));
    let ended = ended.0.borrow().clone();
    assert_eq!(ended.as_deref(), Some("the connection was closed"));
    assert_eq!(talk.take().expect("ready").expect("no panic").ok(), Some(6));
}

/// A stream for which its task had no share left counted as one on which nothing comes.
#[test]
fn a_task_that_has_used_up_its_share_does_not_make_its_stream_idle() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, mut far) = memory::pair(&handle);
    let mut near = IdleTimeout::new(&handle, near, Duration::from_secs(10));
    let said = handle.spawn(async move {
        write_all(&mut far, b"question").await.expect("room");
        far
    });
    simulation.drive();
    simulation.advance(Duration::from_secs(60));
    let spender = handle.clone();
    let heard = handle.spawn(async move {
        // Something else that this task does.
        while spender.spend(1) {}
        let mut buffer = [0; 16];
        read(&mut near, &mut buffer).await
    });
    simulation.drive();
    assert!(said.is_ready());
    assert_eq!(
        heard.take().expect("ready").expect("no panic").ok(),
        Some(8)
    );
}

/// Nothing had come from the peer, and what was to go to it had come while the host held the
/// thread. The time was judged before that was written.
#[test]
fn a_connection_is_not_idle_before_what_is_there_for_its_peer_is_written() {
    const IDLE: Duration = Duration::from_millis(300);
    let reactor = Standalone::new().expect("file descriptors");
    let handle = reactor.handle();
    let (near, mut peer) = memory::pair(&handle);
    let (mut source, mut from) = memory::pair(&handle);
    let mut near = IdleTimeout::new(&handle, near, IDLE);
    let (passed, stopping) = (
        Rc::<RefCell<Option<io::Result<usize>>>>::default(),
        handle.clone(),
    );
    let noted = passed.clone();
    handle.spawn(async move {
        let result = poll_fn(|cx| {
            let mut buffer = [0; 8];
            match Pin::new(&mut near).poll_read(cx, &mut buffer) {
                Poll::Pending => {}
                ended => return ended,
            }
            match Pin::new(&mut from).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(count)) => Pin::new(&mut near).poll_write(cx, &buffer[..count]),
                other => other,
            }
        });
        *noted.borrow_mut() = Some(result.await);
        stopping.stop();
    });
    let holding = handle.clone();
    handle.spawn(async move {
        // The other task waits by now.
        holding.sleep(IDLE / 3).await;
        write_all(&mut source, b"hello").await.expect("it is taken");
        std::thread::sleep(IDLE);
        let _ = read(&mut peer, &mut [0; 8]).await;
        drop(source);
    });
    reactor.run().expect("a run without errors");
    let passed = passed.take().expect("it has ended");
    assert_eq!(passed.expect("it is not idle"), 5);
}

/// Takes its time to be established, as TLS over a slow network does.
#[derive(Debug)]
struct Slow {
    below: MemoryStream,
    established: Sleep,
}

impl AsyncRead for Slow {
    forward_stream!(below: poll_read);
}

impl AsyncWrite for Slow {
    forward_stream!(below: poll_write, poll_flush, poll_close);
}

impl ByteStream for Slow {
    fn poll_established(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.established).poll(cx).map(Ok)
    }

    forward_stream!(below: local_address, peer_address, abort, below);
}

/// What moves until then is not seen here. The peer was idle as soon as its handshake was over.
#[test]
fn the_time_of_a_handshake_is_not_idle() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, mut far) = memory::pair(&handle);
    let established = handle.sleep(Duration::from_secs(8));
    let below = Slow {
        below: near,
        established,
    };
    let ended = Ended::default();
    let stream = IdleTimeout::new(&handle, below, Duration::from_secs(5));
    protocol::start(&handle, stream, ended.clone());
    let sleeping = handle.clone();
    handle.spawn(async move {
        sleeping.sleep(Duration::from_secs(12)).await;
        write_all(&mut far, b"!").await.expect("it is there");
        sleeping.sleep(Duration::from_secs(600)).await;
    });
    simulation.advance(Duration::from_secs(16));
    assert_eq!(ended.0.borrow().as_deref(), None);
    simulation.advance(Duration::from_secs(2));
    let why = ended.0.take().expect("an end");
    assert!(why.contains("idle for too long"), "{why}");
}
