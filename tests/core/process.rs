//! Child processes, as they are on every system. The children are this test program: see
//! [`program`].

use std::{
    cell::RefCell,
    env,
    future::{Future, poll_fn},
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    pin::Pin,
    process::{self, ExitStatus},
    rc::Rc,
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use entwined::{
    Handle,
    process::{
        ChildStream, Command, ExitError, Io, OutputError, ProcessProtocol, ProcessTransport,
    },
};
use futures_io::{AsyncRead, AsyncWrite};

/// How long anything may take. Only a failing test waits this long.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Runs a test in a reactor, with a limit of time.
pub fn run<T: 'static, F: Future<Output = T> + 'static>(
    test: impl FnOnce(Handle) -> F + 'static,
) -> T {
    crate::run::run(|handle| async move {
        let test = test(handle.clone());
        handle.timeout(LIMIT, test).await.expect("an end in time")
    })
}

/// What [`program`] does in the child.
const VARIABLE: &str = "ENTWINED_TEST_PROGRAM";

/// What the child writes first, after what the harness has written.
const BEGINNING: &str = "the program begins\n";

/// Returns a command that runs [`program`] in a child.
fn child(what: &str) -> Command {
    child_of("process::program", what)
}

/// Returns a command that runs this test in a child.
pub fn child_of(test: &str, what: &str) -> Command {
    Command::new(env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture", "--quiet"])
        .env(VARIABLE, what)
}

/// In a child, returns what it is to do.
pub fn is_child() -> Option<String> {
    let what = env::var(VARIABLE).ok()?;
    let mut stdout = io::stdout();
    stdout.write_all(BEGINNING.as_bytes()).expect("written");
    stdout.flush().expect("written");
    Some(what)
}

/// Not a test: what the children of the other tests do.
#[test]
fn program() {
    let Some(what) = is_child() else { return };
    let mut words = what.split(' ');
    let (mut stdin, mut stdout) = (io::stdin(), io::stdout());
    match words.next().expect("a word") {
        "echo" => echo(&mut stdin, &mut stdout).expect("copied"),
        "exit" => process::exit(words.next().expect("a code").parse().expect("a code")),
        "speak" => {
            stdout.write_all(b"one").expect("written");
            stdout.flush().expect("written");
            io::stderr().write_all(b"two").expect("written");
            process::exit(5);
        }
        "flood" => while stdout.write_all(&[b'x'; 10_000]).is_ok() {},
        "wait" => wait(),
        "connect" => stay_connected(words.next().expect("an address"), || ()),
        // Runs the second one in a child of its own, with the same streams.
        "both" => {
            let [first, second] = [(); 2].map(|()| words.next().expect("an address"));
            stay_connected(first, || {
                let what = format!("connect {second}");
                start_grandchild(&what);
            });
        }
        // Runs the rest in a child of its own, with the same streams.
        "parent" => {
            let rest = words.collect::<Vec<_>>().join(" ");
            start_grandchild(&rest);
            wait();
        }
        "leave" => {
            start_grandchild("echo");
            process::exit(3);
        }
        other => panic!("what is {other}?"),
    }
    process::exit(0);
}

/// Connects, does something, and is there as long as its connection.
fn stay_connected(address: &str, then: impl FnOnce()) {
    let address: SocketAddr = address.parse().expect("an address");
    let mut connection = TcpStream::connect(address).expect("a connection");
    connection.write_all(b"!").expect("written");
    then();
    let _ = connection.read(&mut [0]);
}

/// Each piece at once.
fn echo(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(()),
            count => output.write_all(&buffer[..count])?,
        }
        output.flush()?;
    }
}

#[expect(
    clippy::zombie_processes,
    reason = "this child does not live longer than it"
)]
fn start_grandchild(what: &str) {
    let mut command = process::Command::new(env::current_exe().expect("this program"));
    command
        .args(["--exact", "process::program", "--nocapture", "--quiet"])
        .env(VARIABLE, what)
        .spawn()
        .expect("it starts");
}

pub fn wait() -> ! {
    loop {
        thread::park();
    }
}

pub async fn read(stream: &mut ChildStream) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 64 * 1024];
    let count = poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buffer)).await?;
    buffer.truncate(count);
    Ok(buffer)
}

pub async fn read_to_end(stream: &mut ChildStream) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        match read(stream).await.expect("no error") {
            bytes if bytes.is_empty() => return all,
            bytes => all.extend(bytes),
        }
    }
}

pub async fn write_all(stream: &mut ChildStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, bytes)).await?;
        bytes = &bytes[count..];
    }
    Ok(())
}

pub async fn close(stream: &mut ChildStream) {
    poll_fn(|cx| Pin::new(&mut *stream).poll_close(cx))
        .await
        .expect("closed");
}

/// Reads what the harness of a child's program writes.
pub async fn read_beginning(stream: &mut ChildStream) {
    let mut said = Vec::new();
    while !said.ends_with(BEGINNING.as_bytes()) {
        let mut byte = [0];
        let count = poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut byte)).await;
        assert_eq!(
            count.expect("a byte"),
            1,
            "{}",
            String::from_utf8_lossy(&said)
        );
        said.push(byte[0]);
    }
}

/// Waits for children that connect: their end is that of the connection, and the other way round.
pub struct Connected(TcpListener);

impl Connected {
    pub fn new() -> Self {
        Connected(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener"))
    }

    pub fn address(&self) -> String {
        self.0.local_addr().expect("an address").to_string()
    }

    /// What a child is to do.
    pub fn what(&self) -> String {
        format!("connect {}", self.address())
    }

    /// Blocks until a child is there.
    pub fn accept(&self) -> TcpStream {
        self.0.set_nonblocking(true).expect("an option");
        let end = Instant::now() + LIMIT;
        let mut connection = loop {
            match self.0.accept() {
                Ok((connection, _)) => break connection,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    assert!(Instant::now() < end, "nobody has come");
                    thread::yield_now();
                }
                Err(error) => panic!("no connection: {error}"),
            }
        };
        connection.set_nonblocking(false).expect("an option");
        connection.set_read_timeout(Some(LIMIT)).expect("an option");
        connection.read_exact(&mut [0]).expect("a byte");
        connection
    }
}

/// Blocks until the child is gone.
pub fn wait_until_gone(mut connection: TcpStream) {
    connection.set_read_timeout(Some(LIMIT)).expect("an option");
    match connection.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        other => panic!("the child is still there: {other:?}"),
    }
}

/// Whether the child is there.
pub fn is_there(connection: &TcpStream) -> bool {
    connection.set_nonblocking(true).expect("an option");
    let end = connection.peek(&mut [0]);
    connection.set_nonblocking(false).expect("an option");
    end.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

#[test]
fn ten_megabytes_go_through_a_child_and_the_end_of_its_input_ends_it() {
    let bytes: Vec<u8> = (0..10_000_000_u32)
        .map(|number| (number >> 3) as u8)
        .collect();
    let sent = bytes.clone();
    let came = run(|handle| async move {
        let command = child("echo").stdin(Io::Stream).stdout(Io::Stream);
        let mut process = command.spawn(&handle).expect("it starts");
        let mut input = process.take_stdin().expect("a stream");
        let mut output = process.take_stdout().expect("a stream");
        assert!(process.take_stdout().is_none() && process.take_stream().is_none());
        assert!(process.take_stderr().is_none());
        read_beginning(&mut output).await;
        let writing = handle.spawn(async move {
            write_all(&mut input, &sent).await.expect("written");
            close(&mut input).await;
            assert!(write_all(&mut input, b"more").await.is_err());
        });
        let came = read_to_end(&mut output).await;
        writing.await.expect("written");
        assert!(process.exited().await.expect("its status").success());
        came
    });
    assert!(came == bytes);
}

#[test]
fn exit_codes_are_told_to_everybody() {
    run(|handle| async move {
        let process = child("exit 7").spawn(&handle).expect("it starts");
        let (first, second) = (process.exited(), process.exited());
        drop(process);
        assert_eq!(first.await.expect("its status").code(), Some(7));
        assert_eq!(second.await.expect("its status").code(), Some(7));
    });
}

#[test]
fn a_child_is_killed_and_killing_it_again_is_no_error() {
    run(|handle| async move {
        let process = child("wait").spawn(&handle).expect("it starts");
        process.kill().expect("killed");
        assert!(!process.exited().await.expect("its status").success());
        process.kill().expect("it is gone");
        let error = process.kill_group().expect_err("it leads none");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn output_is_taken_up_to_a_limit() {
    run(|handle| async move {
        let output = child("speak")
            .output(&handle, 1_000)
            .await
            .expect("it runs");
        assert_eq!(output.status.code(), Some(5));
        assert!(output.stdout.ends_with(b"begins\none"), "{output:?}");
        assert_eq!(output.stderr, b"two");
        // The end of its input.
        let echo = child("echo").stdin(Io::Stream).output(&handle, 1_000).await;
        assert!(echo.expect("it runs").status.success());
        let flood = child("flood").output(&handle, 1_000_000).await;
        assert!(
            matches!(flood, Err(OutputError::TooMuch(1_000_000))),
            "{flood:?}"
        );
    });
}

#[test]
fn a_program_that_is_missing_is_named() {
    run(|handle| async move {
        let missing = Command::new("no-such-program").spawn(&handle);
        let expected =
            "cannot run no-such-program: it is not in PATH; install it or give its full path";
        assert_eq!(missing.expect_err("there is none").to_string(), expected);
        let folder = env::temp_dir().join("no such folder");
        let path = folder.join("no-such-program");
        let missing = Command::new(path)
            .spawn(&handle)
            .expect_err("there is none");
        assert!(
            missing.to_string().contains("there is no such file"),
            "{missing}"
        );
        let nowhere = child("wait").current_dir(&folder).spawn(&handle);
        let nowhere = nowhere.expect_err("there is no such folder").to_string();
        assert!(
            nowhere.ends_with("no such folder does not exist"),
            "{nowhere}"
        );
    });
}

#[test]
fn a_child_that_does_not_read_takes_a_bounded_number_of_bytes() {
    run(|handle| async move {
        let command = child("wait").stdin(Io::Stream).kill_on_drop(true);
        let mut process = command.spawn(&handle).expect("it starts");
        let mut input = process.take_stdin().expect("a stream");
        let taken = poll_fn(|cx| {
            let (mut taken, bytes) = (0, [0; 10_000]);
            while let Poll::Ready(count) = Pin::new(&mut input).poll_write(cx, &bytes) {
                taken += count.expect("written");
                assert!(taken <= 1_048_576);
            }
            Poll::Ready(taken)
        });
        assert!(taken.await >= 4_096);
        // Its end is an error.
        process.kill().expect("killed");
        process.exited().await.expect("its status");
        let error = loop {
            if let Err(error) = write_all(&mut input, &[0; 10_000]).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_stream_that_is_only_written_to_reads_the_end_when_nobody_reads_it() {
    run(|handle| async move {
        let command = child("wait").stdin(Io::Stream);
        let mut process = command.spawn(&handle).expect("it starts");
        let mut input = process.take_stdin().expect("a stream");
        process.kill().expect("killed");
        assert_eq!(read(&mut input).await.expect("the end"), b"");
    });
}

#[test]
fn a_grandchild_may_have_the_streams_after_the_exit() {
    run(|handle| async move {
        let command = child("leave").stdin(Io::Stream).stdout(Io::Stream);
        let mut process = command.spawn(&handle).expect("it starts");
        let mut stream = process.take_stream().expect("two streams");
        assert_eq!(process.exited().await.expect("its status").code(), Some(3));
        read_beginning(&mut stream).await;
        read_beginning(&mut stream).await;
        write_all(&mut stream, b"still here")
            .await
            .expect("written");
        assert_eq!(read(&mut stream).await.expect("bytes"), b"still here");
        close(&mut stream).await;
        assert_eq!(read_to_end(&mut stream).await, b"");
    });
}

#[test]
fn a_run_ends_though_a_grandchild_has_the_streams() {
    let children = Connected::new();
    let what = format!("parent {}", children.what());
    let kept = run(move |handle| async move {
        let command = child(&what).stdin(Io::Stream).stdout(Io::Stream);
        let command = command.process_group();
        let mut process = command.spawn(&handle).expect("it starts");
        let mut stream = process.take_stream().expect("two streams");
        // The child, and the grandchild.
        read_beginning(&mut stream).await;
        read_beginning(&mut stream).await;
        // A task reads until the run ends.
        handle.spawn(async move { read_to_end(&mut stream).await });
        process
    });
    let grandchild = children.accept();
    assert!(is_there(&grandchild));
    kept.kill_group().expect("killed");
    wait_until_gone(grandchild);
}

#[test]
fn a_group_is_killed_with_everything_that_was_started_in_it() {
    run(|handle| async move {
        for by_drop in [false, true] {
            let command = child("parent wait").stdout(Io::Stream).process_group();
            let mut process = command
                .kill_on_drop(by_drop)
                .spawn(&handle)
                .expect("it starts");
            let mut output = process.take_stdout().expect("a stream");
            let exited = process.exited();
            // The child, and the grandchild.
            read_beginning(&mut output).await;
            read_beginning(&mut output).await;
            match by_drop {
                true => drop(process),
                false => process.kill_group().expect("killed"),
            }
            assert!(!exited.await.expect("its status").success());
            // The grandchild has the stream too.
            assert_eq!(read_to_end(&mut output).await, b"");
        }
    });
}

#[test]
fn what_is_killed_on_drop_ends_with_the_run_and_the_rest_goes_on() {
    let (process, exited, killed, other) = run(|handle| async move {
        let (killed, other) = (Connected::new(), Connected::new());
        let command = child(&killed.what()).kill_on_drop(true);
        let process = command.spawn(&handle).expect("it starts");
        let exited = process.exited();
        // A task keeps it.
        handle.spawn(async move { process.exited().await });
        let process = child(&other.what()).spawn(&handle).expect("it starts");
        (process, exited, killed.accept(), other.accept())
    });
    wait_until_gone(killed);
    assert_eq!(run(|_| exited), Err(ExitError::Stopped));
    assert!(is_there(&other));
    // It is known after the run, too.
    process.kill().expect("killed");
    wait_until_gone(other);
}

#[test]
fn a_protocol_follows_a_child() {
    #[derive(Default)]
    struct Follows {
        said: Vec<u8>,
        log: Rc<RefCell<Vec<String>>>,
    }

    impl ProcessProtocol for Follows {
        fn started(&mut self, process: &ProcessTransport) {
            process.write(0, b"to itself");
            process.close(0);
        }

        fn data_received(&mut self, _: &ProcessTransport, number: i32, data: &[u8]) {
            assert_eq!(number, 1);
            self.said.extend_from_slice(data);
        }

        fn closed(&mut self, _: &ProcessTransport, number: i32) {
            self.log.borrow_mut().push(format!("closed {number}"));
        }

        fn ended(&mut self, status: Result<ExitStatus, ExitError>) {
            assert!(self.said.ends_with(b"begins\nto itself"));
            let code = status.expect("its status").code();
            self.log.borrow_mut().push(format!("ended {code:?}"));
        }
    }

    let log = Rc::<RefCell<Vec<String>>>::default();
    let protocol = Follows {
        log: log.clone(),
        ..Default::default()
    };
    run(|handle| async move {
        let command = child("echo").stdin(Io::Stream).stdout(Io::Stream);
        let process = command.spawn(&handle).expect("it starts");
        let transport = entwined::process::start(process, protocol);
        while !transport.is_over() {
            handle.sleep(Duration::from_millis(1)).await;
        }
    });
    let mut log = log.take();
    log[..2].sort();
    assert_eq!(log, ["closed 0", "closed 1", "ended Some(0)"]);
}
