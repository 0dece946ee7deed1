//! The app as a process, on the current display.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

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
