//! What must hold whatever breaks. `FAULTS` is how often; `cargo xtask programs --faults` sets it.

use std::{fs, io::Write as _, path::Path, process::Stdio};

use tempfile::TempDir;

use super::*;

fn rounds() -> String {
    std::env::var("FAULTS").unwrap_or_else(|_| "10".into())
}

fn check(database: &Path) {
    let text = run(Command::new("sqlite3")
        .arg(database)
        .arg("PRAGMA integrity_check"));
    assert_eq!(text, "ok\n");
}

#[test]
fn what_was_confirmed_survives_kill_9() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("calendar.db");
    let text = run(python("crash.py")
        .arg(env!("CARGO_BIN_EXE_calendar"))
        .arg(&database)
        .arg(rounds()));
    print!("calendar: {text}");
    check(&database);
}

#[test]
fn on_a_full_disk_nothing_is_lost_and_nothing_half_done() {
    let Some(disk) = Disk::mount(4 << 20) else {
        return;
    };
    let program = Program::start_in(tempfile::tempdir_in(disk.0.path()).expect("a folder"), &[]);
    let status = ["--output", "/dev/null", "--write-out", "%{http_code}"];
    let put = |number: u32| {
        let text = event(&number.to_string(), &"long ".repeat(20_000));
        program.put(&format!("/dav/personal/{number}.ics"), &text, &status)
    };
    assert_eq!(put(0), "201");
    disk.fill();
    let refused = (1..200)
        .find(|number| put(*number) != "201")
        .expect("it is full");
    assert_eq!(put(refused), "507");
    // What was confirmed can be read, and nothing else is there.
    let there = |number: u32| program.status(&[], &format!("/dav/personal/{number}.ics"));
    assert!((0..refused).all(|number| there(number) == "200"));
    assert_eq!(there(refused), "404");
    disk.free();
    assert_eq!(put(refused), "201");
    println!("calendar: {refused} events fit on a full disk, the next was refused with 507");
    check(&program.folder.path().join("calendar.db"));
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
