//! The program as a process, used by clients that others wrote: litmus, vdirsyncer, the Python
//! library caldav, curl.

mod faults;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

struct Program {
    process: Child,
    url: String,
    folder: TempDir,
}

impl Program {
    fn start(arguments: &[&str]) -> Program {
        Program::start_in(tempfile::tempdir().expect("a folder"), arguments)
    }

    fn start_in(folder: TempDir, arguments: &[&str]) -> Program {
        let mut process = Command::new(env!("CARGO_BIN_EXE_calendar"))
            .args(["--listen", "tcp:0:interface=127.0.0.1", "--database"])
            .arg(folder.path().join("calendar.db"))
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it was built with this test");
        let mut line = String::new();
        let output = process.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("text");
        let address = line.trim_end().strip_prefix("http listening on ");
        let url = format!("http://{}", address.expect("it says where it listens"));
        Program {
            process,
            url,
            folder,
        }
    }

    fn curl(&self, arguments: &[&str], path: &str) -> String {
        run(Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20"])
            .args(arguments)
            .arg(format!("{}{path}", self.url)))
    }

    fn status(&self, arguments: &[&str], path: &str) -> String {
        let status = ["--output", "/dev/null", "--write-out", "%{http_code}"];
        self.curl(&[&status[..], arguments].concat(), path)
    }

    fn put(&self, path: &str, text: &str, arguments: &[&str]) -> String {
        let put = ["--request", "PUT", "--data-binary", text];
        let kind = ["--header", "content-type: text/calendar"];
        self.curl(&[&put[..], &kind, arguments].concat(), path)
    }

    fn report(&self, path: &str, text: &str) -> String {
        self.curl(&["--request", "REPORT", "--data-binary", text], path)
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
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}{errors}");
    text
}

fn python(script: &str) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.arg(format!("{}/tests/{script}", env!("CARGO_MANIFEST_DIR")));
    command
}

fn event(uid: &str, summary: &str) -> String {
    format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:test\r\nBEGIN:VEVENT\r\nUID:{uid}\r\n\
         DTSTAMP:20260101T000000Z\r\nDTSTART:20260105T090000Z\r\nSUMMARY:{summary}\r\n\
         END:VEVENT\r\nEND:VCALENDAR\r\n"
    )
}

/// The suite that everybody uses for WebDAV. Its tests of locks are left out by itself, because
/// the server does not say that it has them (RFC 4791 asks for classes 1 and 3).
#[test]
fn litmus_finds_no_fault() {
    let program = Program::start(&[]);
    let text = run(Command::new("timeout")
        .args(["60", "litmus"])
        .arg(format!("{}/dav/", program.url))
        .env("TESTS", "basic copymove props locks http")
        .current_dir(program.folder.path()));
    for (suite, count) in [
        ("basic", 16),
        ("copymove", 13),
        ("props", 30),
        ("locks", 3),
        ("http", 4),
    ] {
        let line = format!("summary for `{suite}': of {count} tests run: {count} passed, 0 failed");
        assert!(text.contains(&line), "{text}");
    }
}

#[test]
fn the_library_caldav_works() {
    let program = Program::start(&[]);
    run(python("library.py").arg(&program.url));
}

/// Two folders that are kept the same by way of the server.
#[test]
fn vdirsyncer_keeps_two_folders_the_same() {
    let user = tempfile::NamedTempFile::new().expect("a file");
    fs::write(user.path(), "anna:geheim\n").expect("a file");
    let program = Program::start(&["--user", user.path().to_str().expect("text")]);
    let folder = program.folder.path();
    let (one, two) = (folder.join("one"), folder.join("two"));
    let sync = |side: &Path| {
        let name = side.file_name().expect("a name").to_str().expect("text");
        let config = folder.join(format!("{name}.config"));
        let text = format!(
            "[general]\nstatus_path = \"{0}/status-{name}\"\n\
             [pair both]\na = \"here\"\nb = \"there\"\ncollections = [\"personal\"]\n\
             [storage here]\ntype = \"filesystem\"\npath = \"{0}/{name}\"\nfileext = \".ics\"\n\
             [storage there]\ntype = \"caldav\"\nurl = \"{1}/\"\nusername = \"anna\"\n\
             password = \"geheim\"\n",
            folder.display(),
            program.url
        );
        fs::write(&config, text).expect("a file");
        for command in ["discover", "sync"] {
            run(Command::new("timeout")
                .args(["60", "vdirsyncer", "--config"])
                .arg(&config)
                .arg(command)
                .env("HOME", folder));
        }
    };
    let files = |side: &Path| {
        let mut files: Vec<_> = fs::read_dir(side.join("personal"))
            .expect("a folder")
            .map(|entry| fs::read_to_string(entry.expect("a file").path()).expect("text"))
            .map(|text| text.replace("\r\n", "\n").trim_end().to_owned())
            .collect();
        files.sort();
        files
    };
    for side in [&one, &two] {
        fs::create_dir_all(side.join("personal")).expect("a folder");
    }
    for number in 0..30 {
        let path = one.join(format!("personal/{number}.ics"));
        fs::write(path, event(&format!("uid {number}"), "first")).expect("a file");
    }
    sync(&one);
    sync(&two);
    assert_eq!(files(&one).len(), 30);
    assert_eq!(files(&one), files(&two));

    // Each side changes, deletes and adds something.
    fs::write(one.join("personal/3.ics"), event("uid 3", "changed")).expect("a file");
    fs::remove_file(one.join("personal/4.ics")).expect("it is there");
    let with_uid = |uid: &str| {
        let mut paths = fs::read_dir(two.join("personal"))
            .expect("a folder")
            .map(|entry| entry.expect("a file").path());
        paths
            .find(|path| {
                let text = fs::read_to_string(path).expect("text");
                text.lines().any(|line| line == format!("UID:{uid}"))
            })
            .expect("it is there")
    };
    fs::write(with_uid("uid 5"), event("uid 5", "changed")).expect("a file");
    fs::remove_file(with_uid("uid 6")).expect("it is there");
    fs::write(two.join("personal/new.ics"), event("new", "new")).expect("a file");
    sync(&two);
    sync(&one);
    sync(&two);
    let all = files(&one);
    assert_eq!(all, files(&two));
    assert_eq!(all.len(), 29);
    let with = |text: &str| all.iter().filter(|file| file.contains(text)).count();
    assert_eq!((with("SUMMARY:changed"), with("SUMMARY:new")), (2, 1));
    assert_eq!((with("UID:uid 4\n"), with("UID:uid 6\n")), (0, 0));
}

#[test]
fn nobody_overwrites_what_they_have_not_seen() {
    let program = Program::start(&[]);
    let status = ["--output", "/dev/null", "--write-out", "%{http_code}"];
    let path = "/dav/personal/1.ics";
    let new = ["--header", "if-none-match: *"];
    let put = |text: &str, more: &[&str]| program.put(path, text, &[&status[..], more].concat());
    assert_eq!(put(&event("1", "a"), &new), "201");
    assert_eq!(put(&event("1", "b"), &new), "412");
    let head = program.curl(&["--head"], path);
    let tag = head
        .lines()
        .find_map(|line| line.strip_prefix("etag: "))
        .expect("it has one")
        .trim_end();
    let same = format!("if-match: {tag}");
    assert_eq!(put(&event("1", "c"), &["--header", &same]), "204");
    assert_eq!(put(&event("1", "d"), &["--header", &same]), "412");
    let delete = ["--request", "DELETE", "--header", &same];
    assert_eq!(program.status(&delete, path), "412");
    assert!(program.curl(&[], path).contains("SUMMARY:c\r\n"));
}

#[test]
fn a_calendar_takes_events_only_and_each_once() {
    let program = Program::start(&[]);
    let refusal = |path: &str, text: &str| program.put(path, text, &[]);
    let text = refusal("/dav/personal/1.ics", "hello");
    assert!(text.contains("<C:valid-calendar-data/>"), "{text}");
    let text = refusal("/dav/personal/1.ics", &event("", "x"));
    assert!(
        text.contains("<C:valid-calendar-object-resource/>"),
        "{text}"
    );
    assert_eq!(refusal("/dav/personal/1.ics", &event("1", "x")), "");
    let text = refusal("/dav/personal/2.ics", &event("1", "x"));
    assert!(
        text.contains("<C:no-uid-conflict><D:href>/dav/personal/1.ics</D:href>"),
        "{text}"
    );
    let html = ["--request", "PUT", "--data-binary", "x"];
    let text = program.curl(&html, "/dav/personal/3.ics");
    assert!(text.contains("<C:supported-calendar-data/>"), "{text}");
    assert_eq!(
        program.status(&["--request", "MKCALENDAR"], "/dav/personal/c"),
        "403"
    );
    let to = format!("destination: {}/dav/personal/2.ics", program.url);
    let copy = ["--request", "COPY", "--header", &to];
    assert_eq!(program.status(&copy, "/dav/personal/1.ics"), "409");
    let rename = ["--request", "MOVE", "--header", &to];
    assert_eq!(program.status(&rename, "/dav/personal/1.ics"), "201");

    let only = "<C:mkcalendar xmlns:D='DAV:' xmlns:C='urn:ietf:params:xml:ns:caldav'><D:set>\
                <D:prop><C:supported-calendar-component-set><C:comp name='VTODO'/>\
                </C:supported-calendar-component-set></D:prop></D:set></C:mkcalendar>";
    let make = [
        "--request",
        "MKCALENDAR",
        "--header",
        "content-type: text/xml",
        "--data",
        only,
    ];
    assert_eq!(program.status(&make, "/dav/tasks"), "201");
    let text = refusal("/dav/tasks/1.ics", &event("1", "x"));
    assert!(text.contains("<C:supported-calendar-component/>"), "{text}");
}

#[test]
fn a_synchronization_goes_on_where_it_was() {
    let program = Program::start(&[]);
    let sync = |token: &str, limit: &str| {
        let text = format!(
            "<sync-collection xmlns='DAV:'><sync-token>{token}</sync-token>{limit}\
             <sync-level>1</sync-level><prop><getetag/></prop></sync-collection>"
        );
        let text = program.report("/dav/personal/", &text);
        let token = text
            .split_once("<D:sync-token>")
            .and_then(|(_, rest)| rest.split_once('<'))
            .map(|(token, _)| token.to_owned());
        (text, token.unwrap_or_default())
    };
    let (_, first) = sync("", "");
    for number in 0..5 {
        let path = format!("/dav/personal/{number}.ics");
        assert_eq!(program.put(&path, &event(&path, "x"), &[]), "");
    }
    let (text, second) = sync(&first, "");
    assert_eq!(text.matches("<D:response>").count(), 5, "{text}");
    program.status(&["--request", "DELETE"], "/dav/personal/3.ics");
    let (text, third) = sync(&second, "");
    assert!(
        text.contains("3.ics</D:href><D:status>HTTP/1.1 404"),
        "{text}"
    );
    assert_eq!(text.matches("<D:response>").count(), 1, "{text}");
    assert_eq!(sync(&third, "").1, third);

    // In parts: each file once, the deleted one too.
    let (mut token, mut seen, mut rounds) = (first, 0, 0);
    loop {
        let (text, next) = sync(&token, "<limit><nresults>2</nresults></limit>");
        seen += text.matches(".ics</D:href>").count();
        rounds += 1;
        token = next;
        if !text.contains("507 Insufficient Storage") {
            break;
        }
    }
    assert_eq!((seen, rounds, token), (5, 3, third));
    let (text, _) = sync("data:,elsewhere-1", "");
    assert!(text.contains("<D:valid-sync-token/>"), "{text}");
}

/// Old deletions are forgotten, and a calendar may be older than they are.
#[test]
fn a_first_synchronization_in_parts_comes_to_its_end() {
    let program = Program::start(&[]);
    for number in 0..5 {
        let path = format!("/dav/personal/{number}.ics");
        assert_eq!(program.put(&path, &event(&path, "x"), &[]), "");
    }
    run(Command::new("sqlite3")
        .arg(program.folder.path().join("calendar.db"))
        .arg("UPDATE counter SET forgotten = version"));
    let (mut token, mut seen) = (String::new(), 0);
    for round in 0.. {
        let text = format!(
            "<sync-collection xmlns='DAV:'><sync-token>{token}</sync-token>\
             <limit><nresults>2</nresults></limit>\
             <sync-level>1</sync-level><prop><getetag/></prop></sync-collection>"
        );
        let text = program.report("/dav/personal/", &text);
        seen += text.matches(".ics</D:href><D:propstat>").count();
        // What goes in the middle of it is heard of.
        let gone = text.contains("0.ics</D:href><D:status>HTTP/1.1 404");
        assert_eq!(gone, round == 2, "{text}");
        if round == 0 {
            program.status(&["--request", "DELETE"], "/dav/personal/0.ics");
        }
        let (_, rest) = text.split_once("<D:sync-token>").expect("a token");
        token = rest.split('<').next().expect("a token").to_owned();
        if !text.contains("507 Insufficient Storage") {
            break;
        }
    }
    assert_eq!(seen, 5);
}

/// Calendar programs show all-day events in the zone of their user.
#[test]
fn a_query_has_the_zone_of_the_calendar_or_its_own() {
    let program = Program::start(&[]);
    let day = event("day", "x").replace("DTSTART:20260105T090000Z", "DTSTART;VALUE=DATE:20260105");
    assert_eq!(program.put("/dav/personal/day.ics", &day, &[]), "");
    let zone = |name: &str| {
        format!("BEGIN:VCALENDAR\nBEGIN:VTIMEZONE\nTZID:{name}\nEND:VTIMEZONE\nEND:VCALENDAR\n")
    };
    let found = |more: &str| {
        let text = program.curl(
            &[
                "--request",
                "REPORT",
                "--header",
                "depth: 1",
                "--data-binary",
                &format!(
                    "<C:calendar-query xmlns='DAV:' xmlns:C='urn:ietf:params:xml:ns:caldav'>\
                     <prop><getetag/></prop><C:filter><C:comp-filter name='VCALENDAR'>\
                     <C:comp-filter name='VEVENT'>\
                     <C:time-range start='20260106T020000Z' end='20260106T030000Z'/>\
                     </C:comp-filter></C:comp-filter></C:filter>{more}</C:calendar-query>"
                ),
            ],
            "/dav/personal/",
        );
        assert!(text.contains("<D:multistatus"), "{text}");
        text.contains("day.ics")
    };
    assert!(!found(""));
    let denver = zone("America/Denver");
    assert!(found(&format!("<C:timezone>{denver}</C:timezone>")));
    let patch = format!(
        "<propertyupdate xmlns='DAV:' xmlns:C='urn:ietf:params:xml:ns:caldav'><set><prop>\
         <C:calendar-timezone>{denver}</C:calendar-timezone></prop></set></propertyupdate>"
    );
    let patch = ["--request", "PROPPATCH", "--data-binary", &patch];
    assert_eq!(program.status(&patch, "/dav/personal/"), "207");
    assert!(found(""));
    let rome = zone("Europe/Rome");
    assert!(!found(&format!("<C:timezone>{rome}</C:timezone>")));
}

#[test]
fn an_error_at_the_start_says_which_file_it_is_about() {
    for (option, error) in [
        (
            "--user",
            "calendar: /nowhere/file: No such file or directory",
        ),
        (
            "--database",
            "calendar: the database could not be opened: unable to open database file",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_calendar"))
            .args([
                "--listen",
                "tcp:0:interface=127.0.0.1",
                option,
                "/nowhere/file",
            ])
            .output()
            .expect("it was built with this test");
        assert!(!output.status.success());
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            text.starts_with(error) && text.contains("/nowhere/file"),
            "{text}"
        );
    }
}

#[test]
fn what_is_hostile_is_refused() {
    let user = tempfile::NamedTempFile::new().expect("a file");
    fs::write(user.path(), "anna:geheim\n").expect("a file");
    let program = Program::start(&["--user", user.path().to_str().expect("text")]);
    assert_eq!(program.status(&[], "/dav/"), "401");
    assert_eq!(program.status(&["--user", "anna:falsch"], "/dav/"), "401");
    assert_eq!(program.status(&["--user", "anna:geheim"], "/dav/"), "200");
    let well_known = ["--user", "anna:geheim", "--request", "PROPFIND", "--head"];
    let text = program.curl(&well_known, "/.well-known/caldav");
    assert!(text.contains("location: /dav/"), "{text}");

    let program = Program::start(&[]);
    let page = ["--header", "origin: http://example.org"];
    assert_eq!(program.status(&page, "/dav/"), "403");
    let other = ["--header", "host: example.org"];
    assert_eq!(program.status(&other, "/dav/"), "421");
    let bomb = "<!DOCTYPE a [<!ENTITY b 'c'>]><propfind xmlns='DAV:'><prop>&b;</prop></propfind>";
    let propfind = ["--request", "PROPFIND", "--header", "depth: 0", "--data"];
    assert_eq!(
        program.status(&[&propfind[..], &[bomb]].concat(), "/dav/"),
        "400"
    );
    let deep = "<a>".repeat(20_000);
    assert_eq!(
        program.status(&[&propfind[..], &[&deep]].concat(), "/dav/"),
        "400"
    );
    let whole = ["--request", "PROPFIND"];
    assert_eq!(program.status(&whole, "/dav/"), "403");
    let elsewhere = [
        "--request",
        "MOVE",
        "--header",
        "destination: http://example.org/dav/x",
    ];
    assert_eq!(program.status(&elsewhere, "/dav/personal"), "502");
    let large = program.folder.path().join("large");
    fs::write(&large, vec![b'x'; 2 * 1024 * 1024]).expect("a file");
    let upload = ["--upload-file", large.to_str().expect("text")];
    assert_eq!(program.status(&upload, "/dav/large"), "413");
}

#[test]
fn nothing_is_overwritten_for_a_client_that_writes_the_no_in_lower_case() {
    let program = Program::start(&[]);
    for name in ["one", "two"] {
        let path = format!("/dav/personal/{name}.ics");
        program.put(&path, &event(name, name), &[]);
    }
    let to = format!("destination: {}/dav/personal/two.ics", program.url);
    for no in ["overwrite: F", "overwrite: f"] {
        let ask = ["--request", "MOVE", "--header", &to, "--header", no];
        assert_eq!(program.status(&ask, "/dav/personal/one.ics"), "412", "{no}");
    }
    assert!(
        program
            .curl(&[], "/dav/personal/two.ics")
            .contains("SUMMARY:two")
    );
}

/// One thing that is asked for many times in one request.
#[test]
fn an_answer_has_an_end_before_it_is_in_memory() {
    let program = Program::start(&[]);
    let large = event("large", &"x".repeat(900_000));
    let file = program.folder.path().join("large.ics");
    fs::write(&file, large).expect("a file");
    let data = format!("@{}", file.display());
    program.put("/dav/personal/large.ics", &data, &[]);
    let names = "<C:calendar-data/>".repeat(1_000);
    let report = format!(
        "<C:calendar-multiget xmlns:D='DAV:' xmlns:C='urn:ietf:params:xml:ns:caldav'>\
         <D:prop>{names}</D:prop><D:href>/dav/personal/large.ics</D:href></C:calendar-multiget>"
    );
    let ask = ["--request", "REPORT", "--data-binary", &report];
    assert_eq!(program.status(&ask, "/dav/personal/"), "507");
    let status = fs::read_to_string(format!("/proc/{}/status", program.process.id()));
    let status = status.expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let most: u64 = line
        .and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok())
        .expect("a number");
    assert!(most < 300_000, "{most} kB");
}
