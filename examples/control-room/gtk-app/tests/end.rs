//! The app as a process, on the current display.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The app, without a limit of time, and where it serves. It is killed when this is dropped.
struct App(Child, String);

impl App {
    fn start() -> App {
        let mut app = Command::new(env!("CARGO_BIN_EXE_gtk-app"))
            .args(["--http", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the app");
        let mut line = String::new();
        let output = app.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let address = line.trim_end().strip_prefix("http listening on ");
        let address = address.expect("an address").to_owned();
        App(app, address)
    }

    fn send(&self, requests: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.1).expect("it serves");
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).expect("an option");
        stream.write_all(requests.as_bytes()).expect("it is read");
        stream
    }

    fn answer(&self, request: &str) -> String {
        let mut answer = Vec::new();
        let head = "HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let mut stream = self.send(&format!("{request} {head}"));
        stream.read_to_end(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Opens a dialog, which stays open for a minute. Another one waits behind it.
    fn ask(&self) -> TcpStream {
        // There is a window as soon as it can be seen.
        while !self.answer("GET /window.png").contains("image/png") {}
        let mut before = self.requests();
        // The request is counted when it is handled.
        let head = "HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
        let asked = self.send(&format!("POST /ask?text=a&seconds=60 {head}").repeat(2));
        loop {
            let now = self.requests();
            if now == before + 2 {
                return asked;
            }
            before = now;
        }
    }

    fn requests(&self) -> u64 {
        let answer = self.answer("GET /state");
        let (_, rest) = answer.split_once("\"requests\":").expect("a count");
        let end = rest.find(|c: char| !c.is_ascii_digit()).expect("an end");
        rest[..end].parse().expect("a number")
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn it_ends_at_once_also_while_a_dialog_is_open() {
    let mut app = App::start();
    let _asked = app.ask();
    let start = Instant::now();
    let pid = app.0.id().to_string();
    let status = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(status.expect("kill").success());
    while app.0.try_wait().expect("it is ours").is_none() {
        assert!(start.elapsed() < Duration::from_secs(20), "it goes on");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Each dialog has a loop of its own inside the others: many of them would fill the stack.
#[test]
fn only_one_dialog_is_open_at_a_time() {
    let app = App::start();
    let _asked = app.ask();
    for _ in 0..300 {
        let answer = app.answer("POST /ask?text=a&seconds=60");
        assert!(answer.starts_with("HTTP/1.1 409 "), "{answer}");
    }
}

#[test]
fn when_it_ends_the_files_that_pages_sent_go_too() {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("gtk-app-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let mut app = Command::new(env!("CARGO_BIN_EXE_gtk-app"))
        .args(["--http", "127.0.0.1:0", "--seconds", "3"])
        .env("TMPDIR", &folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the app");
    let mut line = String::new();
    BufReader::new(app.stdout.take().expect("piped"))
        .read_line(&mut line)
        .expect("its first line");
    let address = line
        .trim_end()
        .strip_prefix("http listening on ")
        .expect("an address");
    // A page that stays connected until the end.
    let mut page = TcpStream::connect(address).expect("it serves");
    page.set_read_timeout(Some(Duration::from_secs(20)))
        .expect("an option");
    page.write_all(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .expect("it is there");
    assert_ne!(page.read(&mut [0; 64]).expect("an answer"), 0);
    assert_eq!(
        fs::read_dir(&folder).expect("a folder").count(),
        1,
        "where it keeps files"
    );
    assert!(app.wait().expect("it is our child").success());
    assert_eq!(
        fs::read_dir(&folder).expect("a folder").count(),
        0,
        "what it leaves behind"
    );
    fs::remove_dir(&folder).expect("it is empty");
}
