//! The small examples of all crates, each as a process, used by clients that others wrote.
//!
//! `cargo test --workspace --all-features` has built them.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
};

/// Its own test. Cargo does not run the tests of examples, unless each is named.
#[allow(dead_code)]
#[path = "../../simulated_time.rs"]
mod simulated_time;

/// Ends what takes longer, so that no test can hang.
const LIMIT: &str = "60";

/// A program, ended after [`LIMIT`] or when this is dropped.
struct Running {
    process: Child,
    output: BufReader<ChildStdout>,
    input: Option<ChildStdin>,
}

fn limited(program: &str) -> Command {
    // In the foreground `timeout` makes no process group, so that what ends us ends both.
    let mut command = Command::new("timeout");
    command.args([
        "--foreground",
        "--kill-after=1",
        LIMIT,
        "setpriv",
        "--pdeathsig",
        "KILL",
    ]);
    command.arg(program).stderr(Stdio::inherit());
    command
}

/// The example of this name, in the folder of this test's own build.
fn example(name: &str) -> Command {
    let own = env::current_exe().expect("our own path");
    let folder = own.ancestors().nth(2).expect("a target folder");
    let program = folder.join("examples").join(name);
    assert!(
        program.exists(),
        "cargo build --workspace --all-features --examples"
    );
    limited(program.to_str().expect("a plain path"))
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let input = process.stdin.take();
        Running {
            process,
            output,
            input,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }

    fn say(&mut self, text: &str) {
        self.input
            .as_mut()
            .expect("piped")
            .write_all(text.as_bytes())
            .expect("it reads");
    }

    /// Where a server says that it listens: host and port.
    fn address(&mut self) -> String {
        let line = self.line();
        let address = line.strip_prefix("listening on ");
        address
            .unwrap_or_else(|| panic!("it says {line:?}"))
            .to_owned()
    }

    fn nc(&mut self, address: &str) -> Running {
        let (host, port) = address.rsplit_once(':').expect("a port");
        Running::start(limited("nc").args(["-N", host, port]))
    }
}

impl Drop for Running {
    /// `timeout` passes the signal on.
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .arg(self.process.id().to_string())
            .status();
        let _ = self.process.wait();
    }
}

fn text(command: &mut Command) -> String {
    let Output { status, stdout, .. } = command.output().expect("it is installed");
    let text = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{command:?}: {status}: {text}");
    text
}

#[test]
fn echo() {
    let mut server = Running::start(&mut example("echo"));
    let address = server.address();
    let mut nc = server.nc(&address);
    nc.say("hello\n");
    assert_eq!(nc.line(), "hello");
    nc.input = None;
    assert_eq!(nc.line(), "", "it ends");
}

#[test]
fn line_chat() {
    let mut server = Running::start(&mut example("line_chat"));
    let address = server.address();
    let [mut ann, mut ben] = [server.nc(&address), server.nc(&address)];
    for guest in [&mut ann, &mut ben] {
        assert_eq!(guest.line(), "welcome");
    }
    ann.say("hello\n");
    let said = ben.line();
    assert!(said.ends_with(": hello"), "{said}");
    assert_eq!(ann.line(), said);
    drop(ann);
    ben.say("alone\n");
    assert!(ben.line().ends_with(": alone"));
}

#[test]
fn long_work() {
    assert_eq!(
        text(example("long_work").arg("20000")),
        "2262 primes below 20000\n"
    );
    // It is told to end, like a service. (A shell may have switched SIGINT off.)
    let mut endless = example("long_work");
    endless.arg("900000000000").stderr(Stdio::piped());
    let mut endless = Running::start(&mut endless);
    // It is there when it says something: a signal before that would end `timeout` alone.
    let mut said = endless.process.stderr.take().expect("piped");
    said.read_exact(&mut [0]).expect("its progress");
    let pid = endless.process.id().to_string();
    text(Command::new("kill").arg(&pid));
    assert_eq!(endless.line(), "");
}

#[test]
fn deferred_chain() {
    let (file, missing) = (
        concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        "/missing",
    );
    let ours = text(example("deferred_chain").args([file, missing]));
    let theirs = text(Command::new("wc").args(["-l", file]));
    assert!(ours.contains(theirs.as_str()), "{ours}");
    assert!(ours.contains("0 /missing\n"), "{ours}");
    let total = theirs.split_once(' ').expect("a number").0;
    assert!(ours.ends_with(&format!("{total} total\n")), "{ours}");
}

#[test]
fn child_process() {
    let ran = text(example("child_process").args(["seq", "10", "11"]));
    assert_eq!(ran, "1: 10\n2: 11\nit ended: exit status: 0\n");
}

#[test]
fn client_certificates() {
    let folder = scratch("certificates");
    for name in ["server", "alice", "eve"] {
        let file = folder.join(name);
        text(
            Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                ])
                .args(["-nodes", "-days", "2", "-subj"])
                .arg(format!("/CN={name}"))
                .args(["-addext", "basicConstraints=CA:FALSE"])
                .arg("-keyout")
                .arg(&file)
                .arg("-out")
                .arg(file.with_extension("pem"))
                .stderr(Stdio::null()),
        );
        let [key, certificate] = [&file, &file.with_extension("pem")].map(|f| fs::read(f).unwrap());
        fs::write(&file, [key, certificate].concat()).expect("it can be written");
    }
    let alice = folder.join("alice.pem");
    let mut server = Running::start(
        example("client_certificates")
            .arg(folder.join("server"))
            .arg(&alice),
    );
    let address = server.address();
    let greeting = |name: &str| {
        let mut client = limited("openssl");
        client
            .args(["s_client", "-quiet", "-connect", &address])
            .stderr(Stdio::null());
        client
            .arg("-cert")
            .arg(folder.join(name))
            .arg("-key")
            .arg(folder.join(name));
        Running::start(&mut client).line()
    };
    assert_eq!(greeting("alice"), format!("hello, {}", alice.display()));
    assert_eq!(greeting("eve"), "");
}

#[test]
fn a_visit_ends() {
    let mut server = Running::start(example("simulated_time").arg("0"));
    let address = server.address();
    assert_eq!(server.nc(&address).line(), "bye");
}

#[test]
fn websocket() {
    let mut server = Running::start(&mut example("websocket"));
    let program = "
import asyncio, sys, websockets
async def main():
    async with websockets.connect(sys.argv[1]) as socket:
        await socket.send('hello')
        print(await socket.recv(), await socket.recv(), sep='; ')
asyncio.run(main())";
    let url = format!("ws://{}/", server.address());
    let heard = text(limited("/usr/bin/python3").args(["-c", program, &url]));
    assert_eq!(heard, "HELLO; a second has passed\n");
}

/// The configuration in the guide: a page of the site is let through to a WebSocket, another not.
#[test]
fn websocket_behind_nginx() {
    let folder = scratch("nginx");
    let mut server = Running::start(&mut example("websocket"));
    let socket = folder.join("socket");
    let guide = include_str!("../../../docs/guide/nginx.md");
    let fence = guide
        .split("```")
        .find(|part| part.starts_with("text\nmap"));
    let site = fence.expect("a configuration").trim_start_matches("text");
    let site = site
        .replace("unix:/run/app/app.sock", &server.address())
        .replace("443 ssl", &format!("unix:{}", socket.display()))
        .replace("location /app/", "location /");
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let paths = paths.map(|name| format!("{name}_temp_path {}/{name};", folder.display()));
    let (all, log) = (paths.concat(), folder.join("log"));
    let configuration = format!(
        "daemon off; master_process off; pid {0}.pid; error_log {0};
        events {{}} http {{ access_log off; {all} {site} }}",
        log.display()
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, configuration).expect("it can be written");
    let mut nginx = limited("nginx");
    let _nginx = Running::start(nginx.arg("-c").arg(&file).arg("-e").arg(&log));
    let program = "
import asyncio, sys, time, websockets
async def ask(origin):
    try:
        async with websockets.unix_connect(sys.argv[1], 'ws://example.org/', origin=origin) as it:
            await it.send('hello')
            return await it.recv()
    except websockets.InvalidStatusCode as refused:
        return str(refused.status_code)
async def main():
    while True:
        try:
            print(await ask('https://example.org'), await ask('https://example.com'))
            break
        except (FileNotFoundError, ConnectionRefusedError):
            await asyncio.sleep(.05)
asyncio.run(main())";
    let heard = text(
        limited("/usr/bin/python3")
            .args(["-c", program])
            .arg(&socket),
    );
    assert_eq!(heard, "HELLO 403\n");
}

#[test]
fn download() {
    let folder = scratch("download");
    fs::write(folder.join("file"), vec![b'.'; 300_000]).expect("it can be written");
    let mut server = limited("/usr/bin/python3");
    server
        .args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"])
        .stderr(Stdio::null());
    let mut server = Running::start(server.current_dir(&folder));
    let line = server.line();
    let url = line.split(['(', ')']).nth(1).expect("its URL");
    let copy = folder.join("copy");
    let shown = text(example("download").arg(format!("{url}file")).arg(&copy));
    assert!(shown.ends_with("100 %\n"), "{shown}");
    text(Command::new("cmp").arg(folder.join("file")).arg(copy));
}

#[test]
fn gtk_label() {
    label("gtk_label", "Nobody has said anything.");
}

#[test]
fn winit_label() {
    label("winit_label", "");
}

/// A window on the display of the tests.
fn label(name: &str, first: &str) {
    let mut window = Running::start(&mut example(name));
    let url = format!("http://{}/", window.address());
    let say = |what: &str| text(limited("curl").args(["--silent", "--data", what, &url]));
    assert_eq!(say("hello"), format!("before: {first}\n"));
    assert_eq!(say("again"), "before: hello\n");
}

/// An empty folder for the files of a test.
fn scratch(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}
