//! What must hold whatever breaks. `FAULTS` is how often; `cargo xtask programs --faults` sets it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Stdio,
};

use tempfile::TempDir;

use super::*;

fn rounds() -> usize {
    let rounds = std::env::var("FAULTS").ok();
    rounds.and_then(|text| text.parse().ok()).unwrap_or(10)
}

#[test]
fn what_was_confirmed_survives_kill_9() {
    let mut all = 0;
    for _ in 0..rounds() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().join("seats.db");
        sell_out(&database, true);
        let sold = sqlite(&database, "SELECT count(*) FROM seat WHERE sold");
        let program = Program::start(&database);
        let after = sqlite(&database, "SELECT count(*) FROM seat WHERE sold");
        assert_eq!(sold, after);
        assert!(program.curl(&[], "/flights").contains("\"free\":"));
        all += sold.parse::<usize>().expect("a number");
    }
    println!(
        "seats: killed {} times, {all} seats sold until then, none lost or sold twice",
        rounds()
    );
}

#[test]
fn on_a_full_disk_nothing_is_lost() {
    let Some(disk) = Disk::mount(2 << 20) else {
        return;
    };
    let database = disk.0.path().join("seats.db");
    let program = Program::start(&database);
    let tokens: Vec<_> = (1..=20)
        .map(|seat| program.hold(&format!("/flights/1/{seat}/hold"), r#"{"customer": "a"}"#))
        .collect();
    disk.fill();
    let mut confirmed = Vec::new();
    let confirm = |token: &str| {
        let post = [&STATUS[..], &["--request", "POST"]].concat();
        program.curl(&post, &format!("/holds/{token}/confirm"))
    };
    // Until the log of SQLite has no room.
    let mut refused = None;
    for token in tokens.iter().cycle().take(20_000) {
        match confirm(token).as_str() {
            "200" if confirmed.len() < tokens.len() => confirmed.push(token),
            "200" => break,
            status => {
                refused = Some((token, status.to_owned()));
                break;
            }
        }
    }
    let (token, status) = refused.expect("it is full");
    assert_eq!(status, "507");
    let sold = || sqlite(&database, "SELECT count(*) FROM seat WHERE sold");
    assert_eq!(sold(), confirmed.len().to_string());
    disk.free();
    assert_eq!(confirm(token), "200");
    assert_eq!(sold(), (confirmed.len() + 1).to_string());
    println!(
        "seats: {} seats sold on a full disk, the next was refused with 507",
        confirmed.len()
    );
}

/// A page that follows the changes and does not read them.
#[test]
fn a_page_that_does_not_read_costs_others_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("seats.db");
    let program = Program::start(&database);
    let address = program.url.strip_prefix("http://").expect("an address");
    let stuck: Vec<_> = (0..100)
        .map(|_| {
            let mut page = TcpStream::connect(address).expect("it serves");
            page.write_all(b"GET /changes HTTP/1.1\r\nhost: localhost\r\n\r\n")
                .expect("it is there");
            page
        })
        .collect();
    let before = memory(&program);
    // Each hold and its end is a change: 40,000 of some 50 bytes for each of 100 pages.
    let mut client = TcpStream::connect(address).expect("it serves");
    let body = r#"{"customer": "a", "seconds": 0}"#;
    let mut request = String::new();
    for _ in 0..500 {
        request += &format!(
            "POST /flights/1/1/hold HTTP/1.1\r\nhost: localhost\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
    }
    let mut answers = 0;
    for _ in 0..4 {
        client.write_all(request.as_bytes()).expect("it reads");
        let (mut seen, mut buffer) = (Vec::new(), [0; 65_536]);
        while seen.windows(8).filter(|part| part == b" 201 Cre").count() < 500 {
            let count = client.read(&mut buffer).expect("an answer");
            assert_ne!(count, 0);
            seen.extend_from_slice(&buffer[..count]);
        }
        answers += 500;
    }
    let grown = memory(&program).saturating_sub(before);
    println!("seats: {answers} changes, 100 pages that read none: {grown} KiB more memory");
    assert!(grown < 32 * 1024, "{grown} KiB");
    drop(stuck);
}

/// In KiB.
fn memory(program: &Program) -> usize {
    let path = format!("/proc/{}/status", program.process.id());
    let status = fs::read_to_string(path).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

/// A disk of this many bytes, in memory. `None` without the rights to mount it.
struct Disk(TempDir);

impl Disk {
    fn mount(bytes: usize) -> Option<Disk> {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            println!("not tested: a full disk, because only root can mount one");
        }
        mounted.then_some(Disk(folder))
    }

    /// Writes until nothing fits any more.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.path().join("filling")).expect("a file");
        while file.write_all(&[b'x'; 4096]).is_ok() {}
        while file.write_all(b"x").is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.0.path().join("filling")).expect("it is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.0.path())
            .status();
    }
}
