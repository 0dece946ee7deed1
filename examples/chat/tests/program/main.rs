//! The program as one process or several, used by telnet and by Python's `websockets`. Redis is a
//! server of its own for each test.

mod faults;

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> (Running, BufReader<ChildStdout>) {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let output = BufReader::new(child.stdout.take().expect("piped"));
    (Running(child), output)
}

fn line(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).expect("text");
    line.trim_end().to_owned()
}

struct Chat {
    process: Running,
    url: String,
    lines: String,
}

impl Chat {
    fn start(hub: Option<&str>) -> Chat {
        let any = "tcp:0:interface=127.0.0.1";
        let mut command = Command::new(env!("CARGO_BIN_EXE_chat"));
        command.args(["--listen", any, "--lines", any]);
        command.args(hub.map(|url| format!("--hub={url}")));
        let (process, mut output) = start(&mut command);
        let http = line(&mut output);
        let http = http.strip_prefix("http listening on ").expect("an address");
        let lines = line(&mut output);
        let lines = lines
            .strip_prefix("lines listening on ")
            .expect("an address");
        Chat {
            process,
            url: format!("http://{http}"),
            lines: lines.to_owned(),
        }
    }

    fn id(&self) -> String {
        self.process.0.id().to_string()
    }
}

struct Redis {
    process: Running,
    socket: PathBuf,
}

impl Redis {
    fn start(folder: &Path) -> Redis {
        let socket = folder.join("redis.sock");
        let mut command = Command::new("redis-server");
        command
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket);
        let (process, output) = start(command.current_dir(folder));
        // What it prints is read to its end, so that it never waits for us.
        let (ready, is_ready) = std::sync::mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if line.contains("eady to accept connections") || line.contains("now ready") {
                    let _ = ready.send(());
                }
            }
        });
        let patience = Duration::from_secs(20);
        is_ready
            .recv_timeout(patience)
            .expect("Redis says when it is ready");
        Redis { process, socket }
    }

    fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .arg("-s")
            .arg(&self.socket)
            .args(arguments)
            .output()
            .expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()
    }

    /// Waits until a command has this answer.
    fn until(&self, arguments: &[&str], expected: &str) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.cli(arguments) != expected {
            assert!(
                Instant::now() < end,
                "{arguments:?}: {}",
                self.cli(arguments)
            );
            thread::yield_now();
        }
    }

    /// Waits until so many processes listen.
    fn has(&self, processes: usize) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.cli(&["PUBSUB", "CHANNELS"]).lines().count() != processes {
            assert!(Instant::now() < end, "not all processes have come");
            thread::yield_now();
        }
    }
}

fn strangers(arguments: &[&str]) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/strangers.py"));
    command.args(arguments);
    command
}

fn people(arguments: &[&str]) {
    let status = strangers(arguments).status().expect("python3 runs");
    assert!(status.success(), "{arguments:?}");
}

#[test]
fn a_browser_and_telnet_talk() {
    let chat = Chat::start(None);
    people(&["talk", &chat.url, &chat.lines]);
}

#[test]
fn pages_of_other_sites_are_kept_out() {
    let chat = Chat::start(None);
    people(&["refuse", &chat.url]);
}

#[test]
fn everybody_in_a_crowd_has_one_partner() {
    let chat = Chat::start(None);
    people(&["crowd", "500", &chat.url]);
}

#[test]
fn a_crowd_is_paired_across_three_processes() {
    let folder = tempfile::tempdir().expect("a folder");
    let redis = Redis::start(folder.path());
    let chats = [(); 3].map(|()| Chat::start(Some(&redis.url())));
    redis.has(3);
    let [one, two, three] = &chats;
    people(&["crowd", "300", &one.url, &two.url, &three.url]);
    redis.until(&["LLEN", "chat:waiting"], "0");
}

#[test]
fn a_process_that_is_killed_strands_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let redis = Redis::start(folder.path());
    let chats = [(); 2].map(|()| Chat::start(Some(&redis.url())));
    redis.has(2);
    let [one, two] = &chats;
    people(&["killed", &one.url, &two.url, &one.id()]);
    redis.until(&["LLEN", "chat:waiting"], "0");
}

#[test]
fn people_find_each_other_again_after_redis_was_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let redis = Redis::start(folder.path());
    let chats = [(); 2].map(|()| Chat::start(Some(&redis.url())));
    redis.has(2);
    let [one, two] = &chats;
    let (mut python, mut output) = start(&mut strangers(&["restarted", &one.url, &two.url]));
    assert_eq!(line(&mut output), "kill");
    drop(redis);
    assert_eq!(line(&mut output), "start");
    let _redis = Redis::start(folder.path());
    assert!(python.0.wait().expect("ours").success());
}

/// Somebody who has gone while Redis could not be told is in its list of those who wait.
#[test]
fn nobody_is_paired_with_those_who_went_while_redis_was_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let redis = Redis::start(folder.path());
    let chat = Chat::start(Some(&redis.url()));
    redis.has(1);
    let alive = redis.cli(&["KEYS", "chat:alive:*"]);
    let process = alive.strip_prefix("chat:alive:").expect("a process");
    let gone = format!("{{\"process\":\"{process}\",\"number\":999}}");
    assert_eq!(redis.cli(&["RPUSH", "chat:waiting", &gone]), "1");
    let stranger = "{\"process\":\"elsewhere\",\"number\":999}";
    assert_eq!(redis.cli(&["RPUSH", "chat:waiting", stranger]), "2");
    redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    redis.until(&["LRANGE", "chat:waiting", "0", "-1"], stranger);
    drop(chat);
}

#[test]
fn without_redis_at_the_start_people_of_one_process_are_paired() {
    let unused = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("redis://{}", unused.local_addr().expect("bound"));
    drop(unused);
    let chat = Chat::start(Some(&url));
    people(&["talk", &chat.url, &chat.lines]);
}

/// A machine that has lost its power says nothing: its people would wait for ever.
#[test]
fn a_redis_that_does_not_answer_any_more_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let _chat = Chat::start(Some(&format!("redis://127.0.0.1:{port}")));
    for _ in 0..3 {
        let (mut stream, _) = listener.accept().expect("it connects");
        let patience = Some(Duration::from_secs(20));
        thread::spawn(move || {
            stream.set_read_timeout(patience).expect("an option");
            if let Err(error) = std::io::copy(&mut stream, &mut std::io::sink()) {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            }
        })
        .join()
        .expect("it ends");
    }
}

/// What Redis says before it has heard on which channel is lost, and the two connections may be
/// heard in any order. So nobody waits for a partner of Redis before then.
#[test]
fn nobody_is_paired_by_a_redis_that_does_not_send_yet() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let chat = Chat::start(Some(&format!("redis://127.0.0.1:{port}")));
    let _both = [(); 2].map(|()| listener.accept().expect("it connects"));
    let enter = || {
        let stream = TcpStream::connect(&chat.lines).expect("it listens");
        let patience = Some(Duration::from_secs(3));
        stream.set_read_timeout(patience).expect("an option");
        let mut output = BufReader::new(stream);
        assert_eq!(line(&mut output), "* /next finds somebody else");
        assert_eq!(line(&mut output), "* waiting for a stranger");
        output
    };
    let (mut one, mut two) = (enter(), enter());
    for output in [&mut one, &mut two] {
        assert_eq!(line(output), "* here is a stranger");
    }
}

/// What one stranger says while Redis stands still fills the way to it, which belongs to all.
#[test]
fn a_stranger_who_says_too_much_does_not_part_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let redis = Redis::start(folder.path());
    let chats = [(); 2].map(|()| Chat::start(Some(&redis.url())));
    redis.has(2);
    let [mut one, mut two] = chats.each_ref().map(|chat| {
        let stream = TcpStream::connect(&chat.lines).expect("it listens");
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).expect("an option");
        BufReader::new(stream)
    });
    for output in [&mut one, &mut two] {
        while line(output) != "* here is a stranger" {}
    }
    let signal = |name: &str| {
        let redis = redis.process.0.id().to_string();
        let status = Command::new("kill").args([name, &redis]).status();
        assert!(status.expect("kill").success());
    };
    signal("-STOP");
    // Each of these bytes takes six in JSON, and a socket has room for some four million of them.
    let flood = [&[1; 1_000][..], b"\r\n"].concat().repeat(6_000);
    let mut input = one.get_ref().try_clone().expect("a socket");
    let floods = thread::spawn(move || input.write_all(&flood).expect("it is read"));
    let mut input = two.get_ref().try_clone().expect("a socket");
    let reads = thread::spawn(move || {
        let gone = "* the stranger has gone";
        (0..)
            .map(|_| line(&mut two))
            .find(|line| line == gone || line.is_empty())
    });
    floods.join().expect("it is read");
    signal("-CONT");
    input.write_all(b"hello\r\n").expect("it is read");
    assert_eq!(line(&mut one), "stranger: hello");
    drop((one, input));
    assert_eq!(
        reads.join().expect("it ends").as_deref(),
        Some("* the stranger has gone")
    );
}
