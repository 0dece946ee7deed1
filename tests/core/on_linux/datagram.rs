//! Unix sockets: datagrams, and socket files.

use std::{
    cell::Cell,
    fs,
    future::poll_fn,
    io::{self, Read, Write},
    mem::MaybeUninit,
    net::{TcpListener, TcpStream},
    os::{
        fd::AsFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
    },
    pin::Pin,
    process::{Command, Stdio},
    rc::Rc,
    sync::Barrier,
    time::{Duration, Instant},
};

use super::forbidden;
use crate::{
    datagram::{Noting, local, send_all},
    run::run,
};
use entwined::{
    Standalone, endpoint,
    protocol::{self, DatagramProtocol, DatagramTransport, Echo},
    transport::{Address, Batch, Listener, Stream, UnixAddress, fd, udp, unix},
};
use futures_io::AsyncRead as _;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt};

#[test]
fn batches_over_unix_sockets_are_the_same() {
    run(|handle| async move {
        let (one, other) = unix::datagram_pair(&handle).expect("two sockets");
        let mut batch = Batch::new(1_000, 100);
        assert_eq!(batch.capacity(), 64);
        send_all(&one, &[(b"a", None), (b"", None), (&[7; 101], None)]).await;
        assert_eq!(other.receive_batch(&mut batch).await.expect("datagrams"), 3);
        let all: Vec<_> = batch
            .iter()
            .map(|(bytes, about)| (bytes.len(), about.truncated))
            .collect();
        assert_eq!(all, [(1, false), (0, false), (100, true)]);
        assert_eq!(batch.get(0).expect("there").0, b"a");
        assert!(batch.get(3).is_none());
        // The system takes only a part of them; the rest is sent later.
        let many = vec![(&b"x"[..], None); 300];
        let first = one.send_batch(&many).await.expect("sent");
        assert!((1..=64).contains(&first), "{first}");
        let sending = handle.spawn(async move { send_all(&one, &many[first..]).await });
        let mut seen = 0;
        while seen < 300 {
            seen += other.receive_batch(&mut batch).await.expect("datagrams");
        }
        sending.await.expect("no panic");
    });
}

#[test]
fn unix_datagrams_have_names_of_every_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    run(move |handle| async move {
        let named = unix::datagram(&handle, &UnixAddress::Path(path.clone())).expect("a path");
        let own = format!("entwined-test-{}", std::process::id()).into_bytes();
        let hidden = unix::datagram(&handle, &UnixAddress::Abstract(own.clone())).expect("a name");
        let nameless = unix::datagram(&handle, &UnixAddress::Unnamed).expect("a socket");
        let mut buffer = [0; 16];
        for socket in [&hidden, &nameless] {
            socket
                .send_to(b"hello", &named.local_address())
                .await
                .expect("sent");
            let received = named.receive(&mut buffer).await.expect("a datagram");
            assert_eq!((received.count, received.from), (5, socket.local_address()));
        }
        named
            .send_to(b"back", &hidden.local_address())
            .await
            .expect("sent");
        assert_eq!(
            hidden.receive(&mut buffer).await.expect("a datagram").from,
            named.local_address()
        );
        assert!(named.send_to(b"", &nameless.local_address()).await.is_err());
        let (one, other) = unix::datagram_pair(&handle).expect("two sockets");
        one.send(b"pair").await.expect("sent");
        assert_eq!(
            other.receive(&mut buffer).await.expect("a datagram").count,
            4
        );
        drop(named);
        assert!(!path.exists());
        let missing = hidden
            .send_to(b"", &Address::Unix(UnixAddress::Path(path)))
            .await
            .expect_err("it is gone");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn a_dead_socket_is_taken_over_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    run(move |handle| async move {
        // std leaves the file behind, like a program that crashes.
        drop(UnixListener::bind(&path).expect("a path"));
        assert!(path.exists());
        let listener = unix::listen(&handle, &path).expect("taken over");
        assert!(UnixStream::connect(&path).is_ok());
        let refused = unix::listen(&handle, &path).expect_err("somebody listens");
        assert_eq!(refused.source.kind(), io::ErrorKind::AddrInUse);
        assert!(
            refused
                .to_string()
                .contains("another program listens there")
        );
        // The file at this path belongs to somebody else, so it must not be removed.
        fs::remove_file(&path).expect("it is there");
        let other = UnixListener::bind(&path).expect("a path");
        drop(listener);
        assert!(path.exists());
        drop(other);
        fs::remove_file(&path).expect("it is there");
        fs::write(&path, "a file").expect("written");
        assert!(unix::listen(&handle, &path).is_err());
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "a file");
        fs::remove_file(&path).expect("it is there");
        drop(UnixDatagram::bind(&path).expect("a path"));
        let address = UnixAddress::Path(path.clone());
        let socket = unix::datagram(&handle, &address).expect("taken over");
        assert!(unix::datagram(&handle, &address).is_err());
        drop(socket);
        assert!(!path.exists());
        let long =
            unix::listen(&handle, folder.path().join("x".repeat(200))).expect_err("too long");
        assert!(long.to_string().contains("107 bytes"), "{long}");
    });
}

#[test]
fn abstract_names_carry_streams_and_go_with_them() {
    run(|handle| async move {
        let name = format!("entwined-stream-{}", std::process::id());
        let listener = unix::listen_abstract(&handle, &name).expect("a name");
        assert!(unix::listen_abstract(&handle, &name).is_err());
        let server = protocol::serve(listener, |_| Some(Echo));
        let stream = unix::connect_abstract(&handle, &name)
            .await
            .expect("a server");
        assert_eq!(
            *stream.peer_address(),
            Address::Unix(UnixAddress::Abstract(name.clone().into_bytes()))
        );
        assert_eq!(stream.peer_address().to_string(), format!("@{name}"));
        let client = endpoint::client(&format!("unix:@{name}")).expect("an endpoint");
        assert!(client.connect(&handle).await.is_ok());
        drop(server);
        handle.sleep(Duration::ZERO).await;
        assert!(unix::connect_abstract(&handle, &name).await.is_err());
    });
}

#[test]
fn socat_sends_and_receives() {
    run(|handle| async move {
        let (protocol, _, _stopped) = Noting::new();
        let transport =
            protocol::start_datagrams(udp::bind(&handle, local()).expect("a port"), protocol);
        let address = transport.local_address().to_string();
        let said = handle.defer_to_thread(move |_| {
            let mut socat = Command::new("socat");
            socat
                .args(["-t", "20", "-", &format!("UDP4:{address}")])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped());
            let mut child = socat
                .spawn()
                .map_err(|error| format!("apt-get install socat: {error}"))?;
            let (mut input, mut output) = (
                child.stdin.take().expect("a pipe"),
                child.stdout.take().expect("a pipe"),
            );
            input
                .write_all(b"by socat")
                .map_err(|error| error.to_string())?;
            let mut buffer = [0; 8];
            output
                .read_exact(&mut buffer)
                .map_err(|error| error.to_string())?;
            child
                .kill()
                .and_then(|()| child.wait())
                .map_err(|error| error.to_string())?;
            Ok::<_, String>(buffer)
        });
        assert_eq!(&said.await.expect("an echo"), b"by socat");
    });
}

/// One of them waited for ever: the last that asked was the only one that was woken.
#[test]
fn several_tasks_may_wait_to_send_on_one_socket() {
    for connected in [true, false] {
        run(move |handle| async move {
            let (one, other) = if connected {
                unix::datagram_pair(&handle).expect("two sockets")
            } else {
                let name = format!("entwined-senders-{}", std::process::id()).into_bytes();
                let other = unix::datagram(&handle, &UnixAddress::Abstract(name)).expect("a name");
                let one = unix::datagram(&handle, &UnixAddress::Unnamed).expect("a socket");
                (one, other)
            };
            let (one, to) = (std::rc::Rc::new(one), other.local_address());
            let mut full = 0;
            let limit = Duration::from_millis(50);
            while match connected {
                true => handle.timeout(limit, one.send(b"x")).await.is_ok(),
                false => handle.timeout(limit, one.send_to(b"x", &to)).await.is_ok(),
            } {
                full += 1;
            }
            let senders: Vec<_> = (0..8)
                .map(|_| {
                    let (one, to) = (one.clone(), to.clone());
                    handle.spawn(async move {
                        match connected {
                            true => one.send(b"x").await,
                            false => one.send_to(b"x", &to).await,
                        }
                        .expect("sent");
                    })
                })
                .collect();
            // All of them wait before there is room.
            handle.sleep(Duration::from_millis(1)).await;
            let mut buffer = [0; 16];
            for received in 0..full + 8 {
                let datagram = other.receive(&mut buffer);
                let datagram = handle.timeout(Duration::from_secs(5), datagram).await;
                assert!(datagram.is_ok(), "{received} of {full} and 8, {connected}");
            }
            for sender in senders {
                sender.await.expect("it is woken");
            }
        });
    }
}

/// What the task's share did not suffice for was dropped.
#[test]
fn what_the_system_accepts_at_once_is_sent_before_the_socket_is_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    // As many as the socket's own buffer holds.
    let names: Vec<_> = (0..20)
        .map(|number| folder.path().join(number.to_string()))
        .collect();
    let there: Vec<_> = names
        .iter()
        .map(|name| UnixDatagram::bind(name).expect("a socket"))
        .collect();
    let udp: Vec<_> = (0..20)
        .map(|_| std::net::UdpSocket::bind(local()).expect("a port"))
        .collect();
    let ports: Vec<_> = udp
        .iter()
        .map(|socket| Address::Udp(socket.local_addr().expect("an address")))
        .collect();
    let (stopped, over) = std::sync::mpsc::channel();
    run(move |handle| async move {
        let here = UnixAddress::Path(folder.path().join("here"));
        let socket = unix::datagram(&handle, &here).expect("a socket");
        let (protocol, _, unix_end) = Noting::new();
        let over_unix = protocol::start_datagrams(socket, protocol);
        let socket = udp::bind(&handle, local()).expect("a port");
        let (protocol, _, udp_end) = Noting::new();
        let over_udp = protocol::start_datagrams(socket, protocol);
        for _ in 0..10 {
            for name in &names {
                over_unix.send_to(b"x", &Address::Unix(UnixAddress::Path(name.clone())));
            }
        }
        for _ in 0..50 {
            for port in &ports {
                over_udp.send_to(b"x", port);
            }
        }
        over_unix.close();
        over_udp.close();
        unix_end.await.expect("it stops");
        udp_end.await.expect("it stops");
        stopped.send(()).expect("it waits");
    });
    over.recv().expect("it has ended");
    let mut counts = (0, 0);
    for socket in there {
        socket.set_nonblocking(true).expect("a socket");
        while socket.recv(&mut [0; 8]).is_ok() {
            counts.0 += 1;
        }
    }
    for socket in udp {
        socket.set_nonblocking(true).expect("a socket");
        while socket.recv(&mut [0; 8]).is_ok() {
            counts.1 += 1;
        }
    }
    assert_eq!(counts, (200, 1_000));
}

/// Counts what goes wrong.
struct Failures(Rc<Cell<u32>>);

impl DatagramProtocol for Failures {
    fn datagram_received(&mut self, _: &DatagramTransport, _: &[u8], _: &Address) {}

    fn failed(&mut self, _: &DatagramTransport, _: &io::Error) {
        self.0.set(self.0.get() + 1);
    }
}

/// Nor may it be told without end.
#[test]
fn a_protocol_that_may_not_receive_does_not_keep_the_thread_busy() {
    // EPERM. The datagram stays where it is, and the socket readable.
    let name = "datagram::a_protocol_that_may_not_receive_does_not_keep_the_thread_busy";
    if !forbidden("recvmmsg", 1, name) {
        return;
    }
    run(|handle| async move {
        let socket = udp::bind(&handle, local()).expect("a port");
        let to = socket.local_address();
        let failures = Rc::new(Cell::new(0));
        let transport = protocol::start_datagrams(socket, Failures(failures.clone()));
        let peer = udp::bind(&handle, local()).expect("a port");
        peer.send_to(b"!", &to).await.expect("sent");
        handle.sleep(Duration::from_millis(500)).await;
        let count = failures.get();
        assert!((1..1_000).contains(&count), "{count} times");
        // It can be closed meanwhile.
        transport.close();
        while transport.ask(|_| ()).is_some() {
            handle.sleep(Duration::from_millis(1)).await;
        }
    });
}

/// Sends a byte and the only fd of a socket whose close waits for a peer that does not read.
fn send_what_is_slow_to_close(socket: impl AsFd) -> Result<TcpStream, rustix::io::Errno> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut slow = TcpStream::connect(address).expect("a connection");
    let (deaf, _) = listener.accept().expect("a connection");
    slow.set_nonblocking(true).expect("an option");
    while slow.write(&[0; 65_536]).is_ok() {}
    slow.set_nonblocking(false).expect("an option");
    sockopt::set_socket_linger(&slow, Some(Duration::from_secs(4))).expect("an option");
    let fds = [slow.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    let message = [io::IoSlice::new(b"!")];
    let sent = sendmsg(socket, &message, &mut control, SendFlags::empty());
    if sent.is_err() {
        sockopt::set_socket_linger(&slow, Some(Duration::ZERO)).expect("an option");
    }
    sent.map(|_| deaf)
}

/// The kernel closed them in the system call that read the byte, or closed the socket, for as long
/// as the peer wanted.
#[test]
fn a_unix_peer_that_sends_what_is_slow_to_close_holds_nobody() {
    let (probe, _) = UnixStream::pair().expect("two sockets");
    if entwined_spawn::pass_fds(&probe, false).is_err() {
        eprintln!("Linux before 6.16 cannot refuse them");
        return;
    }
    run(|handle| async move {
        let name = format!("entwined-slow-{}", std::process::id());
        let listener = unix::listen_abstract(&handle, &name).expect("a listener");
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let peers = [(); 2].map(|()| UnixStream::connect_addr(&address).expect("it listens"));
        // Before they are accepted.
        let mut kept: Vec<_> = peers.iter().map(send_what_is_slow_to_close).collect();
        let (one, other) = unix::pair(&handle).expect("two streams");
        kept.push(send_what_is_slow_to_close(&other));
        let (socket, from) = unix::datagram_pair(&handle).expect("two sockets");
        kept.push(send_what_is_slow_to_close(&from));
        let name = UnixAddress::Abstract(format!("{name}-datagram").into_bytes());
        let bound = unix::datagram(&handle, &name).expect("a name");
        let (given, giver) = UnixStream::pair().expect("two sockets");
        let start = Instant::now();
        let accepted = listener.accept().await.expect("a peer");
        let line = fd::duplex(&handle, given.into()).expect("a stream");
        kept.push(send_what_is_slow_to_close(&giver));
        drop((accepted, listener, one, socket, bound, line));
        let took = start.elapsed();
        assert!(took < Duration::from_secs(2), "it took {took:?}");
        drop(kept);
    });
}

/// A server that wants them says so before its peers come.
#[test]
fn a_unix_peer_sends_fds_at_once_if_the_listener_lets_it() {
    run(|handle| async move {
        let name = format!("entwined-allow-{}", std::process::id());
        let listener = unix::listen_abstract(&handle, &name).expect("a listener");
        listener.allow_fds().expect("a Unix socket");
        let near = unix::connect_abstract(&handle, &name).await;
        let near = near.expect("it listens");
        let (end, mut other) = UnixStream::pair().expect("two sockets");
        let sent = near.send_with_fds(b"!", &[end.as_fd()]).await;
        assert_eq!(sent.expect("sent"), 1);
        drop(end);
        let mut far = listener.accept().await.expect("a peer");
        far.receive_fds().expect("a Unix socket");
        let mut buffer = [0; 8];
        let count = poll_fn(|cx| Pin::new(&mut far).poll_read(cx, &mut buffer)).await;
        assert_eq!(count.expect("a byte"), 1);
        let arrived = far.take_fds().pop().expect("a descriptor");
        UnixStream::from(arrived)
            .write_all(b"through")
            .expect("written");
        let mut read = String::new();
        other.read_to_string(&mut read).expect("text");
        assert_eq!(read, "through");
    });
}

/// Two of them removed each other's files, or one that ended removed the file of the next.
#[test]
fn one_program_at_a_time_has_a_socket_file() {
    const PROGRAMS: usize = 3;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    for _ in 0..200 {
        // It stays when its socket is gone.
        drop(UnixListener::bind(&path));
        let (begin, end) = (Barrier::new(PROGRAMS), Barrier::new(PROGRAMS));
        let won = std::thread::scope(|scope| {
            let program = || {
                let reactor = Standalone::new().expect("a reactor");
                begin.wait();
                let listener = unix::listen(&reactor.handle(), &path);
                end.wait();
                usize::from(listener.is_ok())
            };
            let programs = [(); PROGRAMS].map(|()| scope.spawn(program));
            programs.map(|program| program.join().expect("no panic"))
        });
        assert_eq!(won.iter().sum::<usize>(), 1);
    }
    std::thread::scope(|scope| {
        for _ in 0..PROGRAMS {
            scope.spawn(|| {
                let reactor = Standalone::new().expect("a reactor");
                for _ in 0..1_000 {
                    if let Ok(_listener) = unix::listen(&reactor.handle(), &path) {
                        UnixStream::connect(&path).expect("its file is there");
                    }
                }
            });
        }
    });
}

/// A socket from elsewhere may have this option, and those that it accepts inherit it. Closing one
/// whose peer does not read held the thread.
#[test]
fn a_socket_from_elsewhere_is_closed_at_once() {
    run(|handle| async move {
        let listening = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listening.local_addr().expect("an address");
        let linger = Some(Duration::from_secs(4));
        sockopt::set_socket_linger(&listening, linger).expect("an option");
        let listener = Listener::from_fd(&handle, listening.into()).expect("a listener");
        let first = TcpStream::connect(address).expect("a connection");
        let accepted = listener.accept().await.expect("a peer");
        let second = TcpStream::connect(address).expect("a connection");
        let far = listener.accept().await.expect("a peer");
        sockopt::set_socket_linger(&second, linger).expect("an option");
        let wrapped = Stream::from_fd(&handle, second.into()).expect("a stream");
        for stream in [&accepted, &wrapped] {
            while stream.send_now(&[0; 65_536]).is_ok() {}
        }
        let start = Instant::now();
        drop((accepted, wrapped));
        let took = start.elapsed();
        assert!(took < Duration::from_secs(2), "it took {took:?}");
        drop((first, far));
    });
}

/// What is slow to close among many held the thread too.
#[test]
fn fds_that_nobody_takes_are_closed_at_once() {
    run(|handle| async move {
        let (mut stream, peer) = unix::pair(&handle).expect("two streams");
        stream.receive_fds().expect("a Unix socket");
        let mut buffer = [0; 8];
        let start = Instant::now();
        // As many as are kept, and one more.
        let null = fs::File::open("/dev/null").expect("a file");
        let sent = peer.send_with_fds(b"!", &[null.as_fd(); 64]).await;
        assert_eq!(sent.expect("sent"), 1);
        let mut kept = vec![send_what_is_slow_to_close(&peer)];
        for _ in 0..2 {
            let read = poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut buffer));
            assert_eq!(read.await.expect("a byte"), 1);
        }
        assert_eq!(stream.take_fds().len(), 64);
        // One that is there when the stream goes.
        kept.push(send_what_is_slow_to_close(&peer));
        let read = poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut buffer));
        assert_eq!(read.await.expect("a byte"), 1);
        drop(stream);
        let took = start.elapsed();
        assert!(took < Duration::from_secs(2), "it took {took:?}");
        assert!(kept.iter().all(Result::is_ok));
    });
}
