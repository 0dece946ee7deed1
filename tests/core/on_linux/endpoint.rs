//! Endpoints: parsing their descriptions, and using them.

use std::{
    cell::RefCell,
    fs,
    io::Write,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::{
        fd::AsRawFd,
        unix::net::{UnixListener, UnixStream},
    },
    process::{Command, Stdio},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use entwined::{
    endpoint::{self, EndpointError, Kinds},
    protocol::{self, Echo},
    resolve::Table,
    transport::{Listen, connect_host, tcp},
};

use crate::{
    endpoint::{echoed, error},
    run::run,
};
use futures_io::{AsyncRead as _, AsyncWrite as _};

#[test]
fn clients_connect_by_name_and_by_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a:b");
    run(|handle| async move {
        let quoted = path.to_str().expect("UTF-8").replace(':', "\\:");
        let unix = endpoint::server(&format!("unix:{quoted}"))
            .expect("an endpoint")
            .listen(&handle)
            .expect("a path");
        let tcp = endpoint::server("tcp:0:interface=127.0.0.1")
            .expect("an endpoint")
            .listen(&handle)
            .expect("a port");
        let port = tcp.local_address().tcp().expect("TCP").port();
        let servers = [
            protocol::serve(unix, |_| Some(Echo)),
            protocol::serve(tcp, |_| Some(Echo)),
        ];
        for text in [
            format!("unix:{quoted}"),
            format!("tcp:localhost:{port}"),
            format!("tcp:127.0.0.1:port={port}"),
        ] {
            let mut stream = endpoint::client(&text)
                .expect("an endpoint")
                .connect(&handle)
                .await
                .expect("a server");
            let mut buffer = [0; 5];
            std::future::poll_fn(|cx| std::pin::Pin::new(&mut stream).poll_write(cx, b"hello"))
                .await
                .expect("written");
            let count = std::future::poll_fn(|cx| {
                std::pin::Pin::new(&mut stream).poll_read(cx, &mut buffer)
            })
            .await;
            assert_eq!((count.expect("read"), &buffer), (5, b"hello"), "{text}");
        }
        drop(servers);
    });
}

#[test]
fn an_address_that_swallows_everything_costs_a_quarter_of_a_second() {
    // A listener with a full backlog accepts no more connections.
    let deaf = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).expect("a port");
    rustix::net::listen(&deaf, 0).expect("a smaller backlog");
    let port = deaf.local_addr().expect("an address").port();
    let mut fillers = Vec::new();
    for _ in 0..8 {
        let address = deaf.local_addr().expect("an address");
        match TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            Ok(stream) => fillers.push(stream),
            Err(_) => break,
        }
    }
    assert!(fillers.len() < 8, "the backlog is never full");
    run(move |handle| async move {
        let _listener =
            tcp::listen(&handle, ([127, 0, 0, 1], port)).expect("the same port on another address");
        let address = |last: u8| Ipv4Addr::new(127, 0, 0, last).into();
        handle.set_resolver(Rc::new(Table::new([(
            "two.example",
            [address(2), address(1)],
        )])));
        let start = Instant::now();
        let stream = connect_host(&handle, "two.example", port)
            .await
            .expect("the second");
        let time = start.elapsed();
        assert_eq!(stream.peer_address().tcp().expect("TCP").ip(), address(1));
        assert!(
            (Duration::from_millis(240)..Duration::from_secs(2)).contains(&time),
            "{time:?}"
        );
        // If there is no second address, the requested timeout applies.
        let client =
            endpoint::client(&format!("tcp:127.0.0.2:{port}:timeout=0.1")).expect("an endpoint");
        let late = client.connect(&handle).await.err().expect("nobody answers");
        assert!(matches!(late, EndpointError::TimedOut), "{late}");
    });
}

#[test]
fn file_descriptors_are_taken_for_what_they_are() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let file = fs::File::open("/dev/null").expect("it is there");
    let (one, _other) = UnixStream::pair().expect("two sockets");
    run(move |handle| async move {
        let server = |fd: &dyn AsRawFd| {
            endpoint::server(&format!("fd:{}", fd.as_raw_fd())).expect("an endpoint")
        };
        let client = |fd: &dyn AsRawFd| {
            endpoint::client(&format!("fd:{}", fd.as_raw_fd())).expect("an endpoint")
        };
        let served = protocol::serve(
            server(&listener).listen(&handle).expect("it listens"),
            |_| Some(Echo),
        );
        let address = listener.local_addr().expect("an address");
        let said = handle.defer_to_thread(move |_| {
            Ok::<_, String>(echoed(TcpStream::connect(address).expect("a server")))
        });
        assert_eq!(said.await.expect("an echo"), "hello");
        drop(served);
        assert!(client(&one).connect(&handle).await.is_ok());
        for (error, expected) in [
            (server(&one).listen(&handle).err(), "does not listen"),
            (
                server(&file).listen(&handle).err(),
                "Socket operation on non-socket",
            ),
            (
                client(&listener).connect(&handle).await.err(),
                "not a connected stream socket",
            ),
            (
                client(&file).connect(&handle).await.err(),
                "not a connected stream socket",
            ),
            (
                endpoint::server("fd:4000")
                    .expect("an endpoint")
                    .listen(&handle)
                    .err(),
                "there is no file descriptor 4000",
            ),
        ] {
            let error = error.expect("it is not that").to_string();
            assert!(error.contains(expected), "{error}");
        }
    });
}

/// Not a test of its own: the next test runs this program.
#[test]
fn serves_one_connection_by_socket_activation() {
    if std::env::var_os("LISTEN_FDS").is_none() {
        return;
    }
    run(|handle| async move {
        let listener = endpoint::server("systemd:name=echo")
            .expect("an endpoint")
            .listen(&handle)
            .expect("a socket");
        let (resolver, ended) = entwined::deferred::Deferred::<(), String>::new();
        let resolver = RefCell::new(Some(resolver));
        let server = protocol::serve(listener, move |_| {
            Some(Once {
                resolver: resolver.take(),
            })
        });
        ended.await.expect("its end");
        drop(server);
    });
}

struct Once {
    resolver: Option<entwined::deferred::Resolver<(), String>>,
}

impl protocol::Protocol for Once {
    fn data_received(&mut self, connection: &protocol::Connection, data: &[u8]) {
        connection.write(data);
    }

    fn connection_lost(&mut self, _: &protocol::Lost) {
        self.resolver.take().expect("the first end").resolve(());
    }
}

#[test]
fn systemd_hands_its_socket_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new("systemd-socket-activate");
    command
        .arg("--listen")
        .arg(&path)
        .arg("--fdname=echo")
        .arg(program);
    command.args([
        "--exact",
        "on_linux::endpoint::serves_one_connection_by_socket_activation",
        "--nocapture",
    ]);
    let mut activator = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("apt-get install systemd");
    let deadline = Instant::now() + Duration::from_secs(20);
    let stream = loop {
        match UnixStream::connect(&path) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(echoed(stream), "hello");
    assert!(activator.wait().expect("an end").success());
}

#[test]
fn socat_and_nc_are_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    run(|handle| async move {
        let unix = format!("unix:{}", path.display());
        let unix = endpoint::server(&unix)
            .expect("an endpoint")
            .listen(&handle)
            .expect("a path");
        let tcp = endpoint::server("tcp:0:interface=127.0.0.1")
            .expect("an endpoint")
            .listen(&handle)
            .expect("a port");
        let port = tcp.local_address().tcp().expect("TCP").port();
        let servers = [
            protocol::serve(unix, |_| Some(Echo)),
            protocol::serve(tcp, |_| Some(Echo)),
        ];
        let path = path.to_str().expect("UTF-8").to_owned();
        let commands = [
            format!("printf 'by nc' | nc -N -U {path}"),
            format!("printf 'by nc' | nc -N 127.0.0.1 {port}"),
            format!("printf 'by socat' | socat - UNIX-CONNECT:{path}"),
            format!("printf 'by socat' | socat - TCP:127.0.0.1:{port}"),
        ];
        for command in commands {
            let by = if command.contains("socat") {
                "by socat"
            } else {
                "by nc"
            };
            let output = handle.defer_to_thread(move |_| {
                Command::new("sh")
                    .args(["-c", &command])
                    .output()
                    .map_err(|error| error.to_string())
            });
            assert_eq!(
                String::from_utf8_lossy(&output.await.expect("an answer").stdout),
                by
            );
        }
        drop(servers);
    });
}

#[test]
fn a_listener_of_another_process_can_be_a_unix_socket_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a path");
    run(move |handle| async move {
        let text = format!("fd:{}", listener.as_raw_fd());
        let served = endpoint::server(&text)
            .expect("an endpoint")
            .listen(&handle)
            .expect("it listens");
        let served = protocol::serve(served, |_| Some(Echo));
        let said = handle.defer_to_thread(move |_| {
            Ok::<_, String>(echoed(UnixStream::connect(path).expect("a server")))
        });
        assert_eq!(said.await.expect("an echo"), "hello");
        drop(served);
    });
}

#[test]
fn a_program_is_run_for_a_connection() {
    run(|handle| async move {
        let client = with_process()
            .client("process:tr:a-z:A-Z")
            .expect("an endpoint");
        let mut stream = client.connect(&handle).await.expect("tr");
        std::future::poll_fn(|cx| std::pin::Pin::new(&mut stream).poll_write(cx, b"hello"))
            .await
            .expect("written");
        std::future::poll_fn(|cx| std::pin::Pin::new(&mut stream).poll_close(cx))
            .await
            .expect("closed");
        let mut buffer = [0; 16];
        let count =
            std::future::poll_fn(|cx| std::pin::Pin::new(&mut stream).poll_read(cx, &mut buffer))
                .await;
        assert_eq!(&buffer[..count.expect("read")], b"HELLO");
        let missing = with_process()
            .client("process:no-such-program")
            .expect("an endpoint")
            .connect(&handle)
            .await;
        let missing = missing.err().expect("it is not there").to_string();
        assert!(missing.contains("it is not in PATH"), "{missing}");
    });
}

/// Not a test of its own: the next test runs this program.
#[test]
fn serves_standard_input_and_output() {
    if std::env::var_os("ENTWINED_STDIO").is_none() {
        return;
    }
    run(|handle| async move {
        let listener = endpoint::server("stdio:")
            .expect("an endpoint")
            .listen(&handle)
            .expect("stdio");
        let (resolver, ended) = entwined::deferred::Deferred::<(), String>::new();
        let resolver = RefCell::new(Some(resolver));
        let server = protocol::serve(listener, move |_| {
            Some(Once {
                resolver: resolver.take(),
            })
        });
        ended.await.expect("its end");
        drop(server);
    });
}

#[test]
fn standard_input_and_output_are_a_connection() {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args([
            "--exact",
            "on_linux::endpoint::serves_standard_input_and_output",
            "--nocapture",
            "--quiet",
        ])
        .env("ENTWINED_STDIO", "");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(b"hello over stdio")
        .expect("written");
    let output = child.wait_with_output().expect("an end");
    assert!(String::from_utf8_lossy(&output.stdout).contains("hello over stdio"));
}

fn with_process() -> Kinds {
    let mut kinds = Kinds::new();
    kinds.add_process();
    kinds
}

#[test]
fn no_text_starts_a_program_unless_the_program_says_so() {
    let refused = endpoint::client("process:/bin/true").expect_err("not by default");
    assert!(refused.to_string().contains("unknown kind"), "{refused}");
    assert!(Kinds::default().client("process:/bin/true").is_err());
    assert!(with_process().client("process:/bin/true").is_ok());
}

#[test]
fn errors_point_at_the_place() {
    let cases = [
        (
            "unix:/ö\\",
            "there is nothing after the backslash to escape\n    unix:/ö\\\\\n           ^",
        ),
        (
            "fd:-1",
            "\"-1\" is not the number of a file descriptor\n    fd:-1\n       ^",
        ),
        (
            "systemd:0:name=x",
            "give an index or a name, not both\n    systemd:0:name=x\n            ^",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected);
    }
}

#[test]
fn a_path_is_shown_as_it_was_written() {
    let text = "unix:/tmp/a\\:b";
    assert_eq!(
        endpoint::server(text).expect("an endpoint").to_string(),
        text
    );
}

/// Runs alone, in a process of its own: the working directory is the whole process's.
#[test]
fn the_files_of_an_endpoint_are_found_after_a_change_of_directory() {
    const VARIABLE: &str = "ENTWINED_TEST_PEM";
    let name = "on_linux::endpoint::the_files_of_an_endpoint_are_found_after_a_change_of_directory";
    if std::env::var_os(VARIABLE).is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
        let text = made.cert.pem() + &made.signing_key.serialize_pem();
        std::fs::write(folder.path().join("both.pem"), text).expect("a file");
        let status = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", name])
            .env(VARIABLE, "1")
            .current_dir(folder.path())
            .stdout(std::process::Stdio::null())
            .status()
            .expect("it starts");
        assert!(status.success(), "{status}");
        return;
    }
    let server = endpoint::server("tls:0:interface=127.0.0.1:certificate=both.pem");
    let client = endpoint::client("tls:127.0.0.1:1:roots=both.pem:name=localhost");
    let (server, client) = (server.expect("an endpoint"), client.expect("an endpoint"));
    let folder = std::env::current_dir().expect("it is there");
    let unix = endpoint::server("unix:relative.sock").expect("an endpoint");
    let unix_client = endpoint::client("unix:relative.sock").expect("an endpoint");
    std::env::set_current_dir("/").expect("a directory");
    run(|handle| async move {
        server.listen(&handle).expect("its certificate");
        let listener = unix.listen(&handle).expect("a writable folder");
        assert!(folder.join("relative.sock").exists());
        unix_client.connect(&handle).await.expect("the same file");
        drop(listener);
        // It has got as far as the port on which nobody listens.
        let error = client
            .connect(&handle)
            .await
            .map(drop)
            .expect_err("nobody listens");
        assert!(!error.to_string().contains("both.pem"), "{error}");
    });
}

/// The roots are read for each connection, and a folder of them has hundreds of files.
#[test]
fn the_loop_goes_on_while_the_roots_of_a_client_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("roots.pem");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.is_ok_and(|status| status.success()));
    let (went_on, goes_on) = std::sync::mpsc::channel();
    let path = pipe.to_str().expect("UTF-8").to_owned();
    let writing = thread::spawn(move || {
        let went_on = goes_on.recv_timeout(Duration::from_secs(10)).is_ok();
        fs::write(pipe, "nothing of use").expect("somebody reads");
        went_on
    });
    run(|handle| async move {
        let listener = tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_address().tcp().expect("TCP").port();
        let client = endpoint::client(&format!("tls:127.0.0.1:{port}:roots={path}"));
        let client = client.expect("an endpoint");
        let own = handle.clone();
        let connecting = handle.spawn(async move { client.connect(&own).await.map(drop) });
        handle.sleep(Duration::from_millis(1)).await;
        went_on.send(()).expect("it waits for that");
        let error = connecting.await.expect("no panic").expect_err("no roots");
        assert!(
            error.to_string().contains("no certificate found"),
            "{error}"
        );
    });
    assert!(
        writing.join().expect("no panic"),
        "the pipe held the thread"
    );
}
