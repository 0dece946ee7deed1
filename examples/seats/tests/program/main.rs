//! The program as a process, used by curl, by Python and by a browser.

mod faults;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

struct Program {
    process: Child,
    url: String,
}

impl Program {
    fn start(database: &Path) -> Program {
        let mut process = Command::new(env!("CARGO_BIN_EXE_seats"))
            .args(["--listen", "tcp:0:interface=127.0.0.1", "--database"])
            .arg(database)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it was built with this test");
        let mut line = String::new();
        let output = process.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("text");
        let address = line.trim_end().strip_prefix("http listening on ");
        let url = format!("http://{}", address.expect("it says where it listens"));
        Program { process, url }
    }

    fn curl(&self, arguments: &[&str], path: &str) -> String {
        run(Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20"])
            .args(arguments)
            .arg(format!("{}{path}", self.url)))
    }

    fn hold(&self, path: &str, wish: &str) -> String {
        let answer = self.curl(&["--json", wish], path);
        let (_, token) = answer.split_once("\"token\":\"").expect("a hold");
        token.split('"').next().expect("text").to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(command: &mut Command) -> String {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

fn sqlite(database: &Path, sql: &str) -> String {
    let mut command = Command::new("sqlite3");
    run(command.arg(database).arg(sql)).trim_end().to_owned()
}

const STATUS: [&str; 4] = ["--output", "/dev/null", "--write-out", "%{http_code}"];

#[test]
fn a_seat_is_held_confirmed_and_given_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::start(&folder.path().join("seats.db"));
    let wish = r#"{"customer": "curl"}"#;
    let token = program.hold("/flights/1/7/hold", wish);
    let again = [&STATUS[..], &["--json", wish]].concat();
    assert_eq!(program.curl(&again, "/flights/1/7/hold"), "409");
    assert_eq!(program.curl(&again, "/flights/1/61/hold"), "404");
    assert!(program.curl(&[], "/flights").contains(r#""free":59"#));

    let confirm = format!("/holds/{token}/confirm");
    let sold = r#"{"flight":1,"number":7,"state":"sold"}"#;
    assert_eq!(program.curl(&["--request", "POST"], &confirm), sold);
    assert_eq!(program.curl(&["--request", "POST"], &confirm), sold);

    let delete = [&STATUS[..], &["--request", "DELETE"]].concat();
    assert_eq!(program.curl(&delete, &format!("/holds/{token}")), "204");
    assert_eq!(program.curl(&delete, &format!("/holds/{token}")), "410");
    assert!(program.curl(&[], "/flights").contains(r#""free":60"#));
}

#[test]
fn a_hold_that_is_over_cannot_be_confirmed() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::start(&folder.path().join("seats.db"));
    let over = program.hold("/flights/2/1/hold", r#"{"customer": "a", "seconds": 0}"#);
    let other = program.hold("/flights/2/1/hold", r#"{"customer": "b", "seconds": 60}"#);
    let post = [&STATUS[..], &["--request", "POST"]].concat();
    assert_eq!(
        program.curl(&post, &format!("/holds/{over}/confirm")),
        "410"
    );
    assert_eq!(
        program.curl(&post, &format!("/holds/{other}/confirm")),
        "200"
    );
}

#[test]
fn other_pages_hear_of_each_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::start(&folder.path().join("seats.db"));
    program.hold("/flights/3/5/hold", r#"{"customer": "curl"}"#);
    let mut follow = Command::new("curl")
        .args(["--silent", "--no-buffer", "--max-time", "20"])
        .arg(format!("{}/changes", program.url))
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl runs");
    let mut line = String::new();
    let output = follow.stdout.take().expect("piped");
    BufReader::new(output).read_line(&mut line).expect("text");
    follow.kill().expect("it runs");
    follow.wait().expect("it was killed");
    assert_eq!(
        line,
        "data: {\"flight\":3,\"number\":5,\"state\":\"held\"}\n"
    );
}

/// The program may not know whether a change was made when its customer hangs up.
#[test]
fn other_pages_hear_of_the_changes_of_those_who_hang_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("seats.db");
    let program = Program::start(&database);
    let mut script = Command::new("/usr/bin/python3");
    script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hang_up.py"));
    run(script.arg(&program.url).arg(&database));
}

#[test]
fn a_clock_that_is_set_back_holds_no_seat_for_longer() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("seats.db");
    let program = Program::start(&database);
    let wish = r#"{"customer": "curl"}"#;
    program.hold("/flights/1/7/hold", wish);
    // As if the clock had been an hour ahead.
    sqlite(
        &database,
        "UPDATE seat SET until = until + 3600000 WHERE token NOTNULL",
    );
    assert!(program.curl(&[], "/flights").contains(r#""free":60"#));
    let seats = program.curl(&[], "/flights/1");
    assert!(!seats.contains(r#""state":"held""#), "{seats}");
    program.hold("/flights/1/7/hold", wish);
}

#[test]
fn no_name_of_a_customer_fills_the_database() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::start(&folder.path().join("seats.db"));
    let wish = format!(r#"{{"customer": "{}"}}"#, "x".repeat(100_000));
    let status = program.curl(
        &[&STATUS[..], &["--json", &wish]].concat(),
        "/flights/1/7/hold",
    );
    assert_eq!(status, "413");
}

/// Somebody looks away for too long, in a browser.
#[test]
fn after_a_hold_that_is_over_the_page_takes_another_seat() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("seats.db");
    let program = Program::start(&database);
    let mut script = Command::new("/usr/bin/python3");
    script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page.py"));
    run(script.arg(&program.url).arg(&database));
}

/// Sells all seats to 64 clients at once, and kills the program if `kill` is given. Each client
/// writes the seats that were confirmed to it.
fn sell_out(database: &Path, kill: bool) {
    let mut program = Program::start(database);
    let mut clients = Command::new("/usr/bin/python3")
        .args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/customers.py")])
        .arg(&program.url)
        .args(kill.then(|| program.process.id().to_string()))
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let output = clients.stdout.take().expect("piped");
    let mut confirmed: Vec<String> = BufReader::new(output)
        .lines()
        .map(|line| line.expect("text"))
        .collect();
    assert!(clients.wait().expect("it was started").success());
    let killed = program.process.try_wait().expect("ours").is_some();
    assert_eq!(killed, kill);
    drop(program);

    let count = confirmed.len();
    confirmed.sort_unstable();
    confirmed.dedup();
    assert_eq!(count, confirmed.len(), "a seat was confirmed twice");
    let sold = sqlite(
        database,
        "SELECT flight, number, customer FROM seat WHERE sold",
    );
    let sold: Vec<&str> = sold.lines().collect();
    let lost = confirmed
        .iter()
        .filter(|seat| !sold.contains(&seat.as_str()));
    assert_eq!(lost.collect::<Vec<_>>(), Vec::<&String>::new());
    if kill {
        // At most the answers on their way were lost, one for each client.
        assert!(sold.len() <= count + 64, "{} of {count}", sold.len());
    } else {
        assert_eq!((count, sold.len()), (180, 180));
    }
}

#[test]
fn sixty_four_customers_buy_all_seats_ten_times() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().expect("a folder");
        sell_out(&folder.path().join("seats.db"), false);
    }
}

/// For people, not as the program knows them.
#[test]
fn errors_at_the_start_are_texts() {
    for (arguments, text) in [
        (
            ["--database", "/nowhere/seats.db"],
            "seats: the database could not be opened: unable to open database file: \
             /nowhere/seats.db",
        ),
        (["--listen", "nonsense"], "seats: unknown kind"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_seats"))
            .args(["--listen", "tcp:0:interface=127.0.0.1"])
            .args(arguments)
            .output()
            .expect("it was built with this test");
        assert!(!output.status.success());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.starts_with(text), "{error}");
    }
}

#[test]
fn a_file_that_is_no_database_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("seats.db");
    fs::write(
        &database,
        "this is not a database, but text that is long enough",
    )
    .expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_seats"))
        .args(["--listen", "tcp:0:interface=127.0.0.1", "--database"])
        .arg(&database)
        .output()
        .expect("it was built with this test");
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("database"), "{error}");
}
