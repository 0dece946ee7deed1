//! Addresses as they are written in programs, and the errors of those that do not work.

use crate::addresses::block_on;
use std::{
    cell::{Cell, RefCell},
    error::Error,
    future::{Future as _, poll_fn},
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::PathBuf,
    process::{Command, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use entwined::{
    Standalone,
    protocol::{self, DatagramProtocol, DatagramTransport, Sending},
    transport::{Address, ConnectError, Stream, UnixAddress, connect_host, tcp, unix},
};
use rustix::net::{self, AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

#[test]
fn a_tcp_socket_from_elsewhere_has_no_delay_either() {
    let reactor = Standalone::new().expect("a reactor");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let socket = TcpStream::connect(address).expect("a connection");
    assert!(!socket.nodelay().expect("an option"));
    let fd = OwnedFd::from(socket.try_clone().expect("a descriptor"));
    let stream = Stream::from_fd(&reactor.handle(), fd).expect("a stream");
    assert!(socket.nodelay().expect("an option"));
    stream.set_nodelay(false).expect("an option");
    assert!(!socket.nodelay().expect("an option"));
}

/// Connecting to a Unix socket succeeds or fails at once, and so does TCP without a route.
#[test]
fn many_connections_in_one_task_let_others_have_their_turn() {
    const MANY: u32 = 1000;

    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let folder = tempfile::tempdir().expect("a folder");
    let nobody = folder.path().join("nobody");
    let polls = Rc::new(Cell::new(0));
    let mut connecting = Box::pin(async move {
        for _ in 0..MANY {
            let error = unix::connect(&handle, &nobody).await.expect_err("nobody");
            assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
        }
    });
    let count = polls.clone();
    let counted = poll_fn(move |cx| {
        count.set(count.get() + 1);
        connecting.as_mut().poll(cx)
    });
    reactor
        .block_on(async move {
            counted.await;
            Ok::<_, io::Error>(())
        })
        .expect("it ends");
    assert!(polls.get() > MANY / 64, "{} polls", polls.get());
}

fn raw_unix(kind: SocketType) -> OwnedFd {
    net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("a socket")
}

/// A path of 108 bytes: the longest name that a socket can have, without room for a NUL byte.
fn longest(folder: &tempfile::TempDir) -> PathBuf {
    let mut path = folder.path().join("x").into_os_string();
    while path.len() < 108 {
        path.push("x");
    }
    path.into()
}

#[test]
fn a_unix_peer_with_the_longest_name_is_served_as_any_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, own) = (folder.path().join("listener"), longest(&folder));
    let reactor = Standalone::new().expect("a reactor");
    let listener = unix::listen(&reactor.handle(), &path).expect("a listener");
    let client = raw_unix(SocketType::STREAM);
    net::bind(&client, &SocketAddrUnix::new(&own).expect("108 bytes")).expect("bound");
    net::connect(&client, &SocketAddrUnix::new(&path).expect("short")).expect("connected");
    let peer = block_on(&reactor, |_| async move {
        let stream = listener.accept().await.expect("a connection");
        stream.peer_address().clone()
    });
    assert_eq!(peer, Address::Unix(UnixAddress::Path(own.clone())));
    // As an inherited socket, and by its own name.
    let handle = reactor.handle();
    let stream = Stream::from_fd(&handle, client).expect("a stream");
    assert_eq!(
        stream.local_address(),
        Address::Unix(UnixAddress::Path(own))
    );
}

#[test]
fn a_datagram_from_the_longest_name_is_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, own) = (folder.path().join("server"), longest(&folder));
    let reactor = Standalone::new().expect("a reactor");
    let address = UnixAddress::Path(path.clone());
    let server = unix::datagram(&reactor.handle(), &address).expect("a socket");
    let client = raw_unix(SocketType::DGRAM);
    net::bind(&client, &SocketAddrUnix::new(&own).expect("108 bytes")).expect("bound");
    let target = SocketAddrUnix::new(&path).expect("short");
    net::sendto(&client, b"ping", SendFlags::empty(), &target).expect("sent");
    block_on(&reactor, |_| async move {
        let mut buffer = [0; 16];
        let received = server.receive(&mut buffer).await.expect("a datagram");
        assert_eq!(received.from, Address::Unix(UnixAddress::Path(own)));
        server.send_to(b"pong", &received.from).await.expect("sent");
    });
    let mut buffer = [0; 16];
    assert_eq!(
        UnixDatagram::from(client)
            .recv(&mut buffer)
            .expect("an answer"),
        4
    );
}

#[test]
fn a_unix_socket_without_a_name_is_not_listened_on() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let text = "the name of a Unix socket cannot be empty";
    let refused = |error: &dyn Error| {
        assert!(
            error.source().expect("a reason").to_string().contains(text),
            "{error}"
        );
    };
    refused(&unix::listen(&handle, "").expect_err("no name"));
    refused(&unix::listen_abstract(&handle, "").expect_err("no name"));
    refused(&unix::datagram(&handle, &UnixAddress::Path(PathBuf::new())).expect_err("no name"));
    for text in ["unix:", "unix:@", "unix:path="] {
        let endpoint = entwined::endpoint::server(text);
        assert!(
            endpoint.is_err() || endpoint.is_ok_and(|endpoint| endpoint.listen(&handle).is_err())
        );
    }
    let wrong = unix::listen(&handle, "\0name").expect_err("a NUL byte");
    assert!(wrong.to_string().contains("NUL"), "{wrong}");
    let connected = block_on(&reactor, |handle| async move {
        (
            unix::connect(&handle, "").await.map(drop),
            unix::connect_abstract(&handle, "").await.map(drop),
        )
    });
    assert!(connected.0.is_err() && connected.1.is_err());
}

/// The number of the process of a listener in an outer pid namespace is 0.
#[test]
fn the_credentials_of_a_peer_outside_of_the_container_have_no_process() {
    if let Some(path) = std::env::var_os("ENTWINED_TEST_CREDENTIALS") {
        let reactor = Standalone::new().expect("a reactor");
        let credentials = block_on(&reactor, |handle| async move {
            let stream = unix::connect(&handle, path)
                .await
                .expect("somebody listens");
            stream.peer_credentials().expect("a Unix socket")
        });
        assert_eq!(credentials.pid, None);
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("listener");
    let _listener = std::os::unix::net::UnixListener::bind(&path).expect("a listener");
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork"]);
    if !unshare
        .arg("--help")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return;
    }
    let status = Command::new("unshare")
        .args(["--pid", "--fork"])
        .arg(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            concat!(
                "on_linux::addresses::",
                "the_credentials_of_a_peer_outside_of_the_container_have_no_process"
            ),
        ])
        .env("ENTWINED_TEST_CREDENTIALS", &path)
        .stdout(Stdio::null())
        .output()
        .expect("it starts");
    let complaint = String::from_utf8_lossy(&status.stderr);
    // Where a test may not make a namespace there is none to test.
    assert!(
        status.status.success() || complaint.contains("unshare failed"),
        "{complaint}"
    );
}

#[test]
fn a_link_local_address_keeps_its_interface() {
    let reactor = Standalone::new().expect("a reactor");
    // The loopback interface has no link-local address, so nobody can listen or answer there. But
    // without its number the address would be invalid.
    let invalid = |error: &io::Error| error.kind() == io::ErrorKind::InvalidInput;
    let error = tcp::listen(&reactor.handle(), "[fe80::1%lo]:0").expect_err("no such address");
    assert!(!invalid(&error.source), "{error:?}");
    let endpoint = entwined::endpoint::server("tcp:0:interface=[fe80\\:\\:1%lo]").expect("one");
    let error = endpoint
        .listen(&reactor.handle())
        .map(drop)
        .expect_err("no such address");
    assert!(!error.to_string().contains("nvalid"), "{error}");
    let error = block_on(&reactor, |handle| async move {
        connect_host(&handle, "fe80::1%lo", 9)
            .await
            .expect_err("no such address")
    });
    assert!(!invalid(&error.into()));
    let error = block_on(&reactor, |handle| async move {
        connect_host(&handle, "fe80::1%none-such", 9)
            .await
            .expect_err("no such interface")
    });
    assert!(
        error.to_string().contains("no network interface"),
        "{error}"
    );
}

/// Runs alone, in a process of its own: the working directory is the whole process's.
#[test]
fn a_socket_file_at_a_relative_path_is_removed_after_a_change_of_directory() {
    if std::env::var_os("ENTWINED_TEST_RELATIVE").is_some() {
        let reactor = Standalone::new().expect("a reactor");
        let listener = unix::listen(&reactor.handle(), "relative.sock").expect("a listener");
        std::env::set_current_dir("/").expect("a directory");
        drop(listener);
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let status = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            concat!(
                "on_linux::addresses::",
                "a_socket_file_at_a_relative_path_is_removed_after_a_change_of_directory"
            ),
        ])
        .env("ENTWINED_TEST_RELATIVE", "1")
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .status()
        .expect("it starts");
    assert!(status.success());
    assert!(!folder.path().join("relative.sock").exists());
}

/// Runs alone, in a process of its own, as the umask is the whole process's.
#[test]
fn only_the_owner_can_connect_to_a_socket_file_whatever_the_umask_is() {
    let mode = |path: &std::path::Path| {
        let file = std::fs::symlink_metadata(path).expect("a file");
        std::os::unix::fs::MetadataExt::mode(&file) & 0o777
    };
    if let Some(folder) = std::env::var_os("ENTWINED_TEST_MODE") {
        let folder = std::path::PathBuf::from(folder);
        let reactor = Standalone::new().expect("a reactor");
        let handle = reactor.handle();
        let path = folder.join("stream");
        let listener = unix::listen(&handle, &path).expect("a listener");
        assert_eq!(mode(&path), 0o600);
        drop(listener);
        let name = UnixAddress::Path(folder.join("datagram"));
        let _socket = unix::datagram(&handle, &name).expect("a socket");
        assert_eq!(mode(&folder.join("datagram")), 0o600);
        let text = format!("unix:{}:mode=660", folder.join("shared").display());
        let server = entwined::endpoint::server(&text).expect("an endpoint");
        let _shared = server.listen(&handle).expect("a listener");
        assert_eq!(mode(&folder.join("shared")), 0o660);
        return;
    }
    for umask in ["000", "022", "077"] {
        let folder = tempfile::tempdir().expect("a folder");
        let script = format!("umask {umask}; exec \"$0\" --exact \"$1\"");
        let status = Command::new("sh")
            .args(["-c", &script])
            .arg(std::env::current_exe().expect("this test"))
            .arg(concat!(
                "on_linux::addresses::",
                "only_the_owner_can_connect_to_a_socket_file_whatever_the_umask_is"
            ))
            .env("ENTWINED_TEST_MODE", folder.path())
            .stdout(Stdio::null())
            .status()
            .expect("it starts");
        assert!(status.success(), "umask {umask}");
    }
    for wrong in ["unix:/a:mode=888", "unix:/a:mode=7777", "unix:@a:mode=600"] {
        let error = entwined::endpoint::server(wrong)
            .map(drop)
            .expect_err("wrong");
        assert!(error.to_string().contains("mode"), "{error}");
    }
}

/// Counts what it receives.
struct Sink(Rc<Cell<usize>>);

impl DatagramProtocol for Sink {
    fn datagram_received(&mut self, _: &DatagramTransport, _: &[u8], _: &Address) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_unix_peer_with_a_full_queue_holds_up_no_other_and_costs_no_turns() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let full = UnixDatagram::bind(path("full")).expect("a socket");
    let other = UnixDatagram::bind(path("other")).expect("a socket");
    let own = unix::datagram(&handle, &UnixAddress::Path(path("own"))).expect("a socket");
    let transport = protocol::start_datagrams(own, Sink(Rc::default()));
    let to = |name: &str| Address::Unix(UnixAddress::Path(path(name)));
    let turns = Rc::new(RefCell::new(0));
    let count = turns.clone();
    let _hook = handle.on_turn(move || *count.borrow_mut() += 1);
    let (to_full, to_other) = (to("full"), to("other"));
    let sender = transport;
    block_on(&reactor, |handle| async move {
        let begun = Instant::now();
        for _ in 0..600 {
            assert_eq!(sender.send_to(b"x", &to_full), Sending::Queued);
        }
        assert_eq!(sender.send_to(b"y", &to_other), Sending::Queued);
        handle.sleep(Duration::from_millis(200)).await;
        // A try every 5 ms may cost a few turns. A loop that spins makes thousands.
        let tries = begun.elapsed().as_millis() as u64 / 5;
        let (turns, most) = (*turns.borrow(), 40 + 4 * tries);
        assert!(turns < most, "{turns} turns in {tries} tries");
        let mut buffer = [0; 4];
        other.set_nonblocking(true).expect("set");
        assert_eq!(other.recv(&mut buffer).expect("it was not held up"), 1);
        // In time the full one gets the rest.
        full.set_nonblocking(true).expect("set");
        let (mut got, dropped) = (0, sender.dropped() as usize);
        while got + dropped < 600 {
            while full.recv(&mut buffer).is_ok() {
                got += 1;
            }
            handle.sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(got + dropped, 600);
    });
}

#[test]
fn a_client_does_not_connect_to_itself() {
    let reactor = Standalone::new().expect("a reactor");
    // A port of the range for clients on which nobody listens. With each attempt the system chooses
    // another port for the client, half of them by chance.
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("proc(5)");
    let mut range = range
        .split_whitespace()
        .map(|word| word.parse::<u16>().expect("a port"));
    let (first, last) = (range.next().expect("two"), range.next().expect("two"));
    let attempts = 4 * u32::from(last - first);
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        free.local_addr().expect("bound").port()
    };
    let met = block_on(&reactor, |handle| async move {
        for _ in 0..attempts.min(30_000) {
            match tcp::connect(&handle, (Ipv4Addr::LOCALHOST, port)).await {
                Err(ConnectError::Refused { .. }) => {}
                // Another test may listen there by now.
                Ok(stream) => {
                    return *stream.peer_address() == stream.local_address();
                }
                Err(_) => return false,
            }
        }
        false
    });
    assert!(!met, "it is connected to itself");
}
