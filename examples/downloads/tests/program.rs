//! The program as a process on a display of its own, fed by nginx, by curl and by a mouse.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// A process that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> (Running, BufReader<ChildStdout>) {
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let output = process.stdout.take().expect("piped");
    (Running(process), BufReader::new(output))
}

fn line(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).expect("text");
    line.trim_end().to_owned()
}

fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}{errors}");
    text
}

/// A display without a window manager.
struct Display {
    name: String,
    _server: Running,
}

impl Display {
    fn start() -> Display {
        let (server, mut output) = start(
            Command::new("Xvfb")
                .args(["-displayfd", "1", "-screen", "0", "800x600x24"])
                .args(["-nolisten", "tcp", "-noreset", "-br"])
                .stderr(Stdio::null()),
        );
        Display {
            name: format!(":{}", line(&mut output)),
            _server: server,
        }
    }

    fn show<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env_remove("WAYLAND_DISPLAY")
            .env("DISPLAY", &self.name)
            .env("GDK_BACKEND", "x11")
            .env("GSK_RENDERER", "cairo")
            .env("GSETTINGS_BACKEND", "memory")
            .env("GTK_A11Y", "none")
    }

    fn picture(&self, name: &str) {
        if let Ok(folder) = std::env::var("PICTURES") {
            let mut import = Command::new("import");
            import.args(["-window", "root", "-trim", "+repage"]);
            run(self.show(import.arg(format!("{folder}/{name}.png"))));
        }
    }
}

struct Program {
    _process: Running,
    display: Display,
    url: String,
    token: String,
    folder: TempDir,
}

impl Program {
    fn start() -> Program {
        Program::start_with(&[("DBUS_SESSION_BUS_ADDRESS", "disabled:")])
    }

    fn start_with(environment: &[(&str, &str)]) -> Program {
        let folder = tempfile::tempdir().expect("a folder");
        let display = Display::start();
        let mut command = Command::new(env!("CARGO_BIN_EXE_downloads"));
        command
            .args(["--listen", "tcp:0:interface=127.0.0.1", "--folder"])
            .arg(folder.path());
        display.show(&mut command).envs(environment.iter().copied());
        let (process, mut output) = start(&mut command);
        let address = line(&mut output);
        let address = address.strip_prefix("http listening on ");
        let token = line(&mut output);
        let token = token.strip_prefix("token ").expect("a token").to_owned();
        Program {
            _process: process,
            display,
            url: format!("http://{}", address.expect("it says where it listens")),
            token,
            folder,
        }
    }

    fn curl(&self, arguments: &[&str], path: &str) -> String {
        run(Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--max-time", "20"])
            .args(["--header", &format!("authorization: Bearer {}", self.token)])
            .args(arguments)
            .arg(format!("{}{path}", self.url)))
    }

    fn add(&self, url: &str) -> u64 {
        let plain = ["--header", "content-type: text/plain", "--data", url];
        let text = self.curl(&plain, "/downloads");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        value["id"].as_u64().expect("a number")
    }

    fn act(&self, id: u64, what: &str) {
        self.curl(&["--request", "POST"], &format!("/downloads/{id}/{what}"));
    }

    fn look(&self, id: u64) -> Value {
        let text = self.curl(&[], &format!("/downloads/{id}"));
        serde_json::from_str(&text).expect("JSON")
    }

    /// Waits until a download is as it should be.
    fn until(&self, id: u64, is: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let value = self.look(id);
            if is(&value) {
                return value;
            }
            assert!(Instant::now() < deadline, "{value}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn until_state(&self, id: u64, state: &str) -> Value {
        self.until(id, |value| value["state"] == state)
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).expect("a folder");
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<_> = entries.map(|entry| name(entry.expect("a file"))).collect();
        names.sort();
        names
    }
}

/// nginx with a folder of files; those below `/slow` come with 1 MB/s.
struct Nginx {
    _process: Running,
    folder: TempDir,
    port: u16,
}

impl Nginx {
    fn start() -> Nginx {
        let folder = tempfile::tempdir().expect("a folder");
        // nginx cannot say which port it got. If another process takes this one meanwhile, nginx
        // ends, and is started again with another.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let at = folder.path().display();
        let config = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\n\
             user root; events {{}}\n\
             http {{ access_log {at}/access.log; default_type application/octet-stream;\n\
             client_body_temp_path {at}/a; proxy_temp_path {at}/b; fastcgi_temp_path {at}/c;\n\
             uwsgi_temp_path {at}/d; scgi_temp_path {at}/e;\n\
             server {{ listen 127.0.0.1:{port}; root {at}/files;\n\
             location /slow/ {{ alias {at}/files/; limit_rate 1m; }}\n\
             location /named/ {{ alias {at}/files/;\n\
             add_header content-disposition\n\
             'attachment; filename=\"../../Grüße.txt\"'; }} }} }}\n"
        );
        fs::write(folder.path().join("config"), config).expect("a file");
        fs::create_dir(folder.path().join("files")).expect("a folder");
        let (mut process, _) = start(
            Command::new("nginx")
                .arg("-c")
                .arg(folder.path().join("config"))
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        );
        run(Command::new("curl").args([
            "--silent",
            "--retry",
            "100",
            "--retry-delay",
            "0",
            "--retry-connrefused",
            "--retry-max-time",
            "20",
            &format!("http://127.0.0.1:{port}/none"),
        ]));
        if process.0.try_wait().expect("ours").is_some() {
            return Nginx::start();
        }
        Nginx {
            _process: process,
            folder,
            port,
        }
    }

    fn file(&self, name: &str, content: &[u8]) {
        // Another file with the same name, as a server replaces it.
        let path = self.folder.path().join("new");
        fs::write(&path, content).expect("a file");
        fs::rename(path, self.folder.path().join("files").join(name)).expect("a file");
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// What was asked for: status and bytes.
    fn log(&self) -> Vec<(String, u64)> {
        let text = fs::read_to_string(self.folder.path().join("access.log")).expect("a file");
        let lines = text.lines().filter(|line| !line.contains("/none"));
        lines
            .map(|line| {
                let mut words = line.split_whitespace().skip(8);
                let status = words.next().expect("a status").to_owned();
                (
                    status,
                    words.next().expect("bytes").parse().expect("a number"),
                )
            })
            .collect()
    }
}

fn content(seed: u8, length: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let bytes = (0..length).map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    });
    bytes.collect()
}

fn done(value: &Value) -> PathBuf {
    PathBuf::from(value["text"].as_str().expect("a path"))
}

#[test]
fn a_file_is_paused_and_goes_on_where_it_was() {
    let (nginx, program) = (Nginx::start(), Program::start());
    let bytes = content(1, 3_000_000);
    nginx.file("large", &bytes);
    let id = program.add(&nginx.url("slow/large"));
    program.until(id, |value| value["received"].as_u64() > Some(500_000));
    assert_eq!(program.look(id)["total"], 3_000_000);
    program.display.picture("running");
    program.act(id, "pause");
    let paused = program.until_state(id, "paused")["received"].as_u64();
    program.display.picture("paused");
    program.act(id, "resume");
    let path = done(&program.until_state(id, "done"));
    assert!(fs::read(path).expect("a file") == bytes);
    assert_eq!(program.files(), ["large"]);
    // Only the rest was sent again.
    let log = nginx.log();
    assert_eq!((&*log[0].0, &*log[1].0), ("200", "206"));
    assert_eq!(Some(3_000_000 - log[1].1), paused);

    // Nothing is replaced, and what a server says does not lead elsewhere.
    let again = program.add(&nginx.url("large"));
    program.until_state(again, "done");
    let named = program.add(&nginx.url("named/large"));
    program.until_state(named, "done");
    assert_eq!(program.files(), ["Grüße.txt", "large", "large (2)"]);
}

/// Somebody has cleaned up meanwhile. What is there no longer would be a hole full of zeros.
#[test]
fn a_file_whose_part_was_removed_while_it_was_paused_begins_anew() {
    let (nginx, program) = (Nginx::start(), Program::start());
    let bytes = content(1, 2_000_000);
    nginx.file("large", &bytes);
    let id = program.add(&nginx.url("slow/large"));
    program.until(id, |value| value["received"].as_u64() > Some(100_000));
    program.act(id, "pause");
    program.until_state(id, "paused");
    let [part] = &program.files()[..] else {
        panic!("{:?}", program.files());
    };
    fs::remove_file(program.folder.path().join(part)).expect("it is there");
    program.act(id, "resume");
    let path = done(&program.until_state(id, "done"));
    assert!(fs::read(path).expect("a file") == bytes);
    assert_eq!(nginx.log()[1].0, "200");
}

/// What stops is not stopped yet: it writes down what has come.
#[test]
fn a_file_that_is_resumed_while_it_stops_goes_on() {
    let (nginx, program) = (Nginx::start(), Program::start());
    let bytes = content(1, 3_000_000);
    nginx.file("large", &bytes);
    let id = program.add(&nginx.url("slow/large"));
    program.until(id, |value| value["received"].as_u64() > Some(100_000));
    let address = program.url.strip_prefix("http://").expect("a URL");
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request = |what: &str| {
        format!(
            "POST /downloads/{id}/{what} HTTP/1.1\r\nhost: {address}\r\n\
             authorization: Bearer {}\r\n",
            program.token
        )
    };
    let (pause, resume) = (request("pause"), request("resume"));
    let both = format!("{pause}\r\n{resume}connection: close\r\n\r\n");
    stream.write_all(both.as_bytes()).expect("it reads");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("text");
    assert_eq!(answers.matches(" 204 ").count(), 2, "{answers}");
    let path = done(&program.until_state(id, "done"));
    assert!(fs::read(path).expect("a file") == bytes);
}

/// A server by hand, which gives these answers, and returns which ranges it was asked for.
fn serve(answers: &'static [&'static str]) -> (String, thread::JoinHandle<Vec<Option<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/file", listener.local_addr().expect("an address"));
    let serving = thread::spawn(move || {
        let head = |stream: &TcpStream| {
            let lines = BufReader::new(stream).lines();
            let lines = lines.map(|line| line.expect("text").to_ascii_lowercase());
            lines
                .take_while(|line| !line.is_empty())
                .collect::<Vec<_>>()
        };
        let mut ranges = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("a client");
            let range = head(&stream)
                .into_iter()
                .find(|line| line.starts_with("range"));
            ranges.push(range);
            let answer = format!("HTTP/1.1 {answer}");
            stream.write_all(answer.as_bytes()).expect("it reads");
        }
        ranges
    });
    (url, serving)
}

/// Some servers do not look at `If-Range`.
#[test]
fn parts_of_different_files_are_not_put_together() {
    let program = Program::start();
    let (url, serving) = serve(&[
        "200 OK\r\netag: \"1\"\r\ncontent-length: 10\r\n\r\nAAAAA",
        "206 Partial Content\r\netag: \"2\"\r\ncontent-range: bytes 5-9/10\r\n\
         content-length: 5\r\n\r\nBBBBB",
        "200 OK\r\netag: \"2\"\r\ncontent-length: 10\r\n\r\nBBBBBBBBBB",
    ]);
    let id = program.add(&url);
    let path = done(&program.until_state(id, "done"));
    assert_eq!(fs::read(path).expect("a file"), b"BBBBBBBBBB");
    let ranges = serving.join().expect("no panic");
    assert_eq!(ranges, [None, Some("range: bytes=5-".into()), None]);
}

/// A part of a file whose size the server does not know is not the rest of it (RFC 9110, 14.4).
#[test]
fn a_part_of_a_file_of_unknown_size_is_not_its_end() {
    let program = Program::start();
    let (url, serving) = serve(&[
        "200 OK\r\netag: \"1\"\r\ntransfer-encoding: chunked\r\n\r\n4\r\nAAAA\r\n",
        "206 Partial Content\r\netag: \"1\"\r\ncontent-range: bytes 4-7/*\r\n\
         content-length: 4\r\n\r\nBBBB",
        "206 Partial Content\r\netag: \"1\"\r\ncontent-range: bytes 8-9/*\r\n\
         content-length: 2\r\n\r\nCC",
        "416 Range Not Satisfiable\r\ncontent-range: bytes */10\r\ncontent-length: 0\r\n\r\n",
    ]);
    let id = program.add(&url);
    let path = done(&program.until_state(id, "done"));
    assert_eq!(fs::read(path).expect("a file"), b"AAAABBBBCC");
    assert_eq!(serving.join().expect("no panic").len(), 4);
}

#[test]
fn more_than_the_server_has_said_is_not_the_file() {
    let program = Program::start();
    let (url, serving) = serve(&[
        "200 OK\r\netag: \"1\"\r\ncontent-length: 10\r\n\r\nAAAAA",
        "206 Partial Content\r\netag: \"1\"\r\ncontent-range: bytes 5-9/10\r\n\
         transfer-encoding: chunked\r\n\r\n8\r\nAAAAAAAA\r\n8\r\nAAAAAAAA\r\n0\r\n\r\n",
        "200 OK\r\netag: \"1\"\r\ncontent-length: 10\r\n\r\nAAAAAAAAAA",
    ]);
    let id = program.add(&url);
    let path = done(&program.until_state(id, "done"));
    assert_eq!(fs::read(path).expect("a file"), b"AAAAAAAAAA");
    let ranges = serving.join().expect("no panic");
    assert_eq!(ranges, [None, Some("range: bytes=5-".into()), None]);
}

/// Each answer has more than the one before, and never more than was here.
#[test]
fn a_server_that_never_comes_further_is_given_up() {
    let program = Program::start();
    let (less, more) = (
        "200 OK\r\ncontent-length: 10\r\n\r\nAA",
        "200 OK\r\ncontent-length: 10\r\n\r\nAAAA",
    );
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/file", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for (stream, answer) in listener.incoming().zip([more, less].into_iter().cycle()) {
            let mut stream = stream.expect("a client");
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes());
        }
    });
    let id = program.add(&url);
    program.until_state(id, "failed");
}

#[test]
fn a_url_has_no_control_characters() {
    let program = Program::start();
    let file = program.folder.path().join("url");
    fs::write(&file, "http://127.0.0.1:1/a\0b").expect("a file");
    let data = format!("@{}", file.display());
    let text = run(Command::new("curl")
        .args(["--silent", "--max-time", "20", "--data-binary", &data])
        .args([
            "--header",
            &format!("authorization: Bearer {}", program.token),
        ])
        .args(["--header", "content-type: text/plain"])
        .args(["--output", "/dev/null", "--write-out", "%{http_code}"])
        .arg(format!("{}/downloads", program.url)));
    assert_eq!(text, "400");
    assert_eq!(program.curl(&[], "/downloads"), "[]");
}

/// Logs go to many places.
#[test]
fn no_password_is_in_the_log() {
    let (folder, display) = (tempfile::tempdir().expect("a folder"), Display::start());
    let mut command = Command::new(env!("CARGO_BIN_EXE_downloads"));
    command
        .args(["--listen", "tcp:0:interface=127.0.0.1", "--folder"])
        .arg(folder.path())
        .arg("ftp://anna:geheim@127.0.0.1/a")
        .arg("http://anna:geheim@127.0.0.1/\u{1}")
        .stderr(Stdio::piped());
    let (url, serving) = serve(&["404 Not Found\r\ncontent-length: 0\r\n\r\n"]);
    command.arg(url.replace("http://", "http://anna:geheim@"));
    display.show(&mut command);
    let (mut process, _output) = start(&mut command);
    serving.join().expect("no panic");
    let mut log = String::new();
    let errors = process.0.stderr.take().expect("piped");
    for line in BufReader::new(errors).lines() {
        let line = line.expect("text");
        log += &line;
        if line.contains("not downloaded") {
            break;
        }
    }
    assert!(
        log.contains("not downloaded") && !log.contains("geheim"),
        "{log}"
    );
}

#[test]
fn a_file_that_has_changed_comes_anew() {
    let (nginx, program) = (Nginx::start(), Program::start());
    nginx.file("large", &content(1, 3_000_000));
    let id = program.add(&nginx.url("slow/large"));
    program.until(id, |value| value["received"].as_u64() > Some(500_000));
    program.act(id, "pause");
    program.until_state(id, "paused");
    let bytes = content(2, 2_999_999);
    nginx.file("large", &bytes);
    program.act(id, "resume");
    let path = done(&program.until_state(id, "done"));
    assert!(fs::read(path).expect("a file") == bytes);
    let statuses: Vec<_> = nginx.log().into_iter().map(|(status, _)| status).collect();
    assert_eq!(statuses, ["200", "200"]);
}

#[test]
fn what_is_cancelled_leaves_nothing() {
    let (nginx, program) = (Nginx::start(), Program::start());
    nginx.file("large", &content(1, 9_000_000));
    // Some run and some wait.
    let ids: Vec<_> = (0..6)
        .map(|_| program.add(&nginx.url("slow/large")))
        .collect();
    program.until(ids[0], |value| value["received"].as_u64() > Some(0));
    assert_eq!(program.look(ids[5])["state"], "waiting");
    for id in ids {
        program.curl(&["--request", "DELETE"], &format!("/downloads/{id}"));
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while !program.files().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", program.files());
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(program.curl(&[], "/downloads"), "[]");
    // There is room again.
    nginx.file("small", b"small");
    let id = program.add(&nginx.url("small"));
    program.until_state(id, "done");
    let none = program.add(&nginx.url("none"));
    let failed = program.until_state(none, "failed");
    assert!(
        failed["text"].as_str().expect("text").contains("404"),
        "{failed}"
    );
}

/// A server that hangs up after each 100,000 bytes.
fn serve_in_parts(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!(
        "http://{}/parts",
        listener.local_addr().expect("an address")
    );
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut lines = BufReader::new(stream.try_clone().expect("a stream")).lines();
            let mut start = 0;
            for line in lines.by_ref().map_while(Result::ok) {
                if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
                    start = range.trim_end_matches('-').parse().expect("a number");
                }
                if line.is_empty() {
                    break;
                }
            }
            let (length, end) = (bytes.len(), bytes.len() - 1);
            let head = match start {
                0 => "200 OK".to_owned(),
                _ => format!("206 Part\r\ncontent-range: bytes {start}-{end}/{length}"),
            };
            let rest = length - start;
            let head = format!("HTTP/1.1 {head}\r\netag: \"1\"\r\ncontent-length: {rest}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&bytes[start..length.min(start + 100_000)]);
        }
    });
    url
}

#[test]
fn a_connection_that_is_lost_is_made_again() {
    let program = Program::start();
    let bytes = content(3, 250_000).leak();
    let id = program.add(&serve_in_parts(bytes));
    let waiting = program.until_state(id, "waiting");
    assert_ne!(waiting["text"], "", "{waiting}");
    let path = done(&program.until_state(id, "done"));
    assert!(fs::read(path).expect("a file") == bytes);
}

#[test]
fn only_who_has_the_token_is_served() {
    let program = Program::start();
    let status = |arguments: &[&str]| {
        run(Command::new("curl")
            .args(["--silent", "--max-time", "20", "--output", "/dev/null"])
            .args(["--write-out", "%{http_code}"])
            .args(arguments)
            .arg(format!("{}/downloads", program.url)))
    };
    let token = format!("authorization: Bearer {}", program.token);
    assert_eq!(status(&[]), "401");
    assert_eq!(status(&["--header", &token]), "200");
    assert_eq!(
        status(&["--header", &token, "--data", "file:///etc/passwd"]),
        "400"
    );
    assert_eq!(
        status(&["--header", &token, "--header", "origin: http://a.example"]),
        "403"
    );
}

/// A link is dragged out of another window into this one.
#[test]
fn a_url_is_dragged_in() {
    let (nginx, program) = (Nginx::start(), Program::start());
    nginx.file("dragged", b"dragged");
    let mut command = Command::new("/usr/bin/python3");
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drag.py"))
        .arg(nginx.url("dragged"))
        .env("DBUS_SESSION_BUS_ADDRESS", "disabled:");
    run(program.display.show(&mut command));
    let deadline = Instant::now() + Duration::from_secs(20);
    while program.files() != ["dragged"] {
        assert!(Instant::now() < deadline, "{:?}", program.files());
        thread::sleep(Duration::from_millis(20));
    }
}

/// A page chooses what is dragged out of it.
#[test]
fn what_is_dragged_in_does_not_fill_the_window() {
    let (nginx, program) = (Nginx::start(), Program::start());
    let mut command = Command::new("/usr/bin/python3");
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drag.py"))
        .arg(vec![nginx.url("none"); 3_000].join("\n"))
        .env("DBUS_SESSION_BUS_ADDRESS", "disabled:");
    run(program.display.show(&mut command));
    let deadline = Instant::now() + Duration::from_secs(20);
    let count = loop {
        let list: Value = serde_json::from_str(&program.curl(&[], "/downloads")).expect("JSON");
        match list.as_array().map_or(0, Vec::len) {
            0 => assert!(Instant::now() < deadline),
            count => break count,
        }
    };
    assert_eq!(count, 100);
}

/// The desktop's notification service, as the library dbusmock plays it.
#[test]
fn the_desktop_hears_when_a_file_is_there() {
    let nginx = Nginx::start();
    nginx.file("heard", b"heard");
    let (_bus, mut output) =
        start(Command::new("dbus-daemon").args(["--session", "--nofork", "--print-address"]));
    let address = line(&mut output);
    let (_service, mut output) = start(
        Command::new("/usr/bin/python3")
            .args(["-u", "-m", "dbusmock", "--session", "--template"])
            .arg("notification_daemon")
            .env("DBUS_SESSION_BUS_ADDRESS", &address),
    );
    run(Command::new("gdbus")
        .args([
            "wait",
            "--session",
            "--timeout",
            "20",
            "org.freedesktop.Notifications",
        ])
        .env("DBUS_SESSION_BUS_ADDRESS", &address));
    let program = Program::start_with(&[("DBUS_SESSION_BUS_ADDRESS", &address)]);
    program.add(&nginx.url("heard"));
    loop {
        let line = line(&mut output);
        assert_ne!(line, "", "the service has ended");
        if line.contains("Notify") {
            assert!(line.contains("\"Downloaded\" \"heard\""), "{line}");
            return;
        }
    }
}

/// Without a word of it every coding is fine (RFC 9110, 12.5.3), and the file would be a coded one.
#[test]
fn a_file_is_asked_for_as_it_is() {
    let program = Program::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let asked = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("it asks");
        let lines = BufReader::new(stream).lines();
        let lines = lines.map(|line| line.expect("text").to_lowercase());
        lines
            .take_while(|line| !line.is_empty())
            .collect::<Vec<_>>()
    });
    program.add(&format!("http://127.0.0.1:{port}/a.txt"));
    let head = asked.join().expect("no panic");
    assert!(
        head.contains(&"accept-encoding: identity".to_owned()),
        "{head:?}"
    );
}
