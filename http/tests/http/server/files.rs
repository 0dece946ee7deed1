//! Files: which are sent, and which are not.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use entwined_http::{Error, Files, Multipart, Router};
use tempfile::TempDir;

use crate::server::support::{Answer, LIMIT, Site};

const LARGE: usize = 3_000_000;

fn large() -> Vec<u8> {
    (0..LARGE)
        .map(|place| (place * 7 + place / 251) as u8)
        .collect()
}

/// A folder with something of every kind, and a server for it.
fn site() -> (TempDir, Site) {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root");
    for inner in ["sub/deep", "empty", ".hidden", ".well-known"] {
        fs::create_dir_all(root.join(inner)).expect("a folder");
    }
    let write = |name: &str, bytes: &[u8]| fs::write(root.join(name), bytes).expect("a file");
    write("page.html", b"<p>a page");
    write("large.bin", &large());
    write("script.js", b"plain script");
    write("script.js.gz", b"gzipped script");
    write("script.js.br", b"brotli script");
    write("sub/index.html", b"the index");
    write("sub/deep/a b.txt", b"deep");
    write(".hidden/secret", b"secret");
    write(".well-known/thing", b"known");
    write("empty.txt", b"");
    fs::write(folder.path().join("outside.txt"), b"outside").expect("a file");
    symlink("../outside.txt", root.join("out")).expect("a link");
    symlink("/etc/passwd", root.join("passwd")).expect("a link");
    symlink("/", root.join("slash")).expect("a link");
    symlink("page.html", root.join("in")).expect("a link");
    symlink("loop", root.join("loop")).expect("a link");
    assert!(
        Command::new("mkfifo")
            .arg(root.join("fifo"))
            .status()
            .expect("coreutils")
            .success()
    );
    let served = root.clone();
    let site = Site::start(move |_| {
        let files = Files::new(&served);
        Router::new()
            .mount("/files", files.clone().cache_control("max-age=60"))
            .mount("/list", files.listing())
            .mount("/nowhere", Files::new(served.join("missing")))
            .mount(
                "/app",
                Files::embedded(|path| match path {
                    "index.html" => Some(b"<p>embedded".as_slice().into()),
                    "css/style.css" => Some(b"body {}".as_slice().into()),
                    _ => None,
                }),
            )
    });
    (folder, site)
}

fn ask(site: &Site, path: &str, headers: &[(&str, &str)]) -> Answer {
    site.peer().ask("GET", path, headers, b"")
}

#[test]
fn files_are_sent_whole_with_their_types() {
    let (_folder, site) = site();
    for (path, kind, text) in [
        ("/files/page.html", "text/html; charset=utf-8", "<p>a page"),
        ("/files/in", "application/octet-stream", "<p>a page"),
        ("/files/sub/", "text/html; charset=utf-8", "the index"),
        (
            "/files/sub/deep/a%20b.txt",
            "text/plain; charset=utf-8",
            "deep",
        ),
        (
            "/files/.well-known/thing",
            "application/octet-stream",
            "known",
        ),
        ("/files/empty.txt", "text/plain; charset=utf-8", ""),
        ("/app/", "text/html; charset=utf-8", "<p>embedded"),
        ("/app/css/style.css", "text/css; charset=utf-8", "body {}"),
    ] {
        let answer = site.get(path);
        assert_eq!(
            (answer.status, answer.header("content-type"), answer.text()),
            (200, Some(kind), text),
            "{path}"
        );
        assert_eq!(
            answer.header("content-length"),
            Some(text.len().to_string().as_str()),
            "{path}"
        );
        let head = site.peer().ask("HEAD", path, &[], b"");
        assert_eq!(
            (head.status, head.header("content-length")),
            (200, answer.header("content-length")),
            "{path}"
        );
    }
    let answer = site.get("/files/large.bin");
    assert!(answer.body == large());
    assert_eq!(answer.header("cache-control"), Some("max-age=60"));
    let posted = site.peer().post("/files/page.html", "text/plain", "x");
    assert_eq!(
        (posted.status, posted.header("allow")),
        (405, Some("GET, HEAD"))
    );
    for (path, target) in [
        ("/files/sub?a=1", "/files/sub/?a=1"),
        ("/app", "/app/"),
        ("//files/sub", "/files/sub/"),
    ] {
        let answer = site.get(path);
        assert_eq!(
            (answer.status, answer.header("location")),
            (308, Some(target)),
            "{path}"
        );
    }
}

#[test]
fn nothing_else_is_sent() {
    let (_folder, site) = site();
    for path in [
        "/files/none",
        "/files/",
        "/files/empty/",
        "/files/page.html/",
        "/files/page.html/x",
        "/files/out",
        "/files/passwd",
        "/files/slash/etc/passwd",
        "/files/slash",
        "/files/loop",
        "/files/fifo",
        "/files/.hidden/secret",
        "/files/../outside.txt",
        "/files/%2e%2e/outside.txt",
        "/files/..%2foutside.txt",
        "/files/sub/%2e%2e/%2e%2e/outside.txt",
        "/files/..%5coutside.txt",
        "/files/page.html%00",
        "/files/%00",
        "/files//etc/passwd",
        "/files/%2fetc/passwd",
        "/files/%ff",
        "/files/%zz",
        "/nowhere/x",
        "/nowhere/",
        "/app/none",
    ] {
        let answer = site.get(path);
        assert!(
            matches!(answer.status, 400 | 404),
            "{path}: {}",
            answer.status
        );
        assert!(
            !answer.text().contains("outside") && !answer.text().contains("root:"),
            "{path}"
        );
    }
    let long = format!("/files/{}", "x".repeat(5_000));
    assert_eq!(site.get(&long).status, 404);
}

#[test]
fn compressed_ones_go_to_those_who_take_them() {
    let (_folder, site) = site();
    for (takes, text, coding) in [
        ("gzip, br", "brotli script", Some("br")),
        ("gzip", "gzipped script", Some("gzip")),
        ("identity", "plain script", None),
    ] {
        let answer = ask(&site, "/files/script.js", &[("accept-encoding", takes)]);
        assert_eq!(
            (answer.text(), answer.header("content-encoding")),
            (text, coding),
            "{takes}"
        );
        assert_eq!(
            answer.header("content-type"),
            Some("text/javascript; charset=utf-8")
        );
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
    }
    assert_eq!(site.get("/files/page.html").header("vary"), None);
}

#[test]
fn what_a_client_has_is_not_sent_again() {
    let (_folder, site) = site();
    for path in ["/files/page.html", "/files/large.bin", "/app/"] {
        let first = site.get(path);
        let tag = first.header("etag").expect("a tag").to_owned();
        assert_eq!(
            ask(&site, path, &[("if-none-match", &tag)]).status,
            304,
            "{path}"
        );
        assert_eq!(
            ask(
                &site,
                path,
                &[("if-none-match", &format!("\"x\", W/{tag}"))]
            )
            .status,
            304
        );
        assert_eq!(ask(&site, path, &[("if-none-match", "*")]).status, 304);
        assert_eq!(ask(&site, path, &[("if-none-match", "\"x\"")]).status, 200);
        assert_eq!(ask(&site, path, &[("if-match", "\"x\"")]).status, 412);
        assert_eq!(ask(&site, path, &[("if-match", &tag)]).status, 200);
        let Some(date) = first.header("last-modified") else {
            continue;
        };
        assert_eq!(ask(&site, path, &[("if-modified-since", date)]).status, 304);
        // A tag takes precedence over a date.
        assert_eq!(
            ask(
                &site,
                path,
                &[("if-modified-since", date), ("if-none-match", "\"x\"")]
            )
            .status,
            200
        );
        assert_eq!(
            ask(
                &site,
                path,
                &[("if-modified-since", "Sat, 01 Jan 2000 00:00:00 GMT")]
            )
            .status,
            200
        );
        assert_eq!(
            ask(&site, path, &[("if-modified-since", "nonsense")]).status,
            200
        );
        assert_eq!(
            ask(
                &site,
                path,
                &[("if-unmodified-since", "Sat, 01 Jan 2000 00:00:00 GMT")]
            )
            .status,
            412
        );
    }
}

#[test]
fn parts_are_sent_of_the_file_that_the_client_has_a_part_of() {
    let (_folder, site) = site();
    let whole = large();
    let path = "/files/large.bin";
    let tag = site.get(path).header("etag").expect("a tag").to_owned();
    for (range, part) in [
        ("bytes=0-99", 0..100),
        ("bytes=2999990-", LARGE - 10..LARGE),
        ("bytes=-7", LARGE - 7..LARGE),
        ("bytes=100000-2000000", 100_000..2_000_001),
    ] {
        let answer = ask(&site, path, &[("range", range), ("if-range", &tag)]);
        let told = format!("bytes {}-{}/{LARGE}", part.start, part.end - 1);
        assert_eq!(
            (answer.status, answer.header("content-range")),
            (206, Some(told.as_str()))
        );
        assert!(answer.body == whole[part], "{range}");
    }
    let beyond = ask(&site, path, &[("range", "bytes=3000000-")]);
    assert_eq!(
        (beyond.status, beyond.header("content-range")),
        (416, Some("bytes */3000000"))
    );
    // Of the compressed form, of which nothing is sent.
    let script = "/files/script.js";
    for (wrong, status) in [(("range", "bytes=999-"), 416), (("if-match", "\"x\""), 412)] {
        let answer = ask(&site, script, &[("accept-encoding", "gzip"), wrong]);
        assert_eq!(
            (answer.status, answer.header("content-encoding")),
            (status, None)
        );
    }
    for headers in [
        &[("range", "bytes=0-1,5-6")][..],
        &[("range", "bytes=0-99"), ("if-range", "\"x\"")],
        &[("range", "x=0-1")],
    ] {
        let answer = ask(&site, path, headers);
        assert_eq!((answer.status, answer.body.len()), (200, LARGE));
    }
}

fn download(program: &str, arguments: &[&str]) {
    let status = Command::new(program)
        .args(arguments)
        .stderr(Stdio::null())
        .status();
    assert!(
        status
            .unwrap_or_else(|_| panic!("apt-get install {program}"))
            .success(),
        "{program}"
    );
}

fn begun(path: &Path) {
    fs::write(path, &large()[..1_234_567]).expect("a file");
}

#[test]
fn curl_and_wget_go_on_where_they_were() {
    let (folder, site) = site();
    let url = format!("http://{}/files/large.bin", site.address);
    let by_curl = folder.path().join("curl.bin");
    begun(&by_curl);
    download(
        "curl",
        &[
            "-s",
            "-C",
            "-",
            "-o",
            by_curl.to_str().expect("a text"),
            &url,
        ],
    );
    assert!(fs::read(&by_curl).expect("a file") == large());
    let by_wget = folder.path().join("wget.bin");
    begun(&by_wget);
    download(
        "wget",
        &["-q", "-c", "-O", by_wget.to_str().expect("a text"), &url],
    );
    assert!(fs::read(&by_wget).expect("a file") == large());
}

#[test]
fn a_list_has_what_may_be_seen_and_names_that_do_no_harm() {
    let (folder, site) = site();
    fs::write(folder.path().join("root/<b>&\"x y.txt"), b"x").expect("a file");
    let answer = site.get("/list/");
    assert!(
        answer.text().contains("href=\"./page.html\"") && answer.text().contains("href=\"./sub/\""),
        "{}",
        answer.text()
    );
    assert!(
        answer
            .text()
            .contains("href=\"./%3Cb%3E%26%22x%20y.txt\">&lt;b&gt;&amp;&quot;x y.txt<")
    );
    assert!(!answer.text().contains("hidden") && !answer.text().contains("href=\"../\""));
    assert!(site.get("/list/empty/").text().contains("href=\"../\""));
    assert_eq!(site.get("/list/sub/").text(), "the index");
    assert_eq!(site.get("/list/%3Cb%3E%26%22x%20y.txt").text(), "x");
}

#[test]
fn a_file_that_becomes_shorter_ends_the_connection() {
    let (folder, site) = site();
    let path = folder.path().join("root/shrinking.bin");
    // More than the buffers of a connection hold.
    fs::File::create(&path)
        .and_then(|file| file.set_len(64 << 20))
        .expect("a file");
    let mut peer = site.peer();
    peer.send("GET /files/shrinking.bin HTTP/1.1\r\nhost: test\r\n\r\n");
    let head = peer.head();
    assert_eq!(head.status, 200);
    fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(1_000))
        .expect("it can be cut");
    let mut all = Vec::new();
    let ended = std::io::Read::read_to_end(&mut peer.stream, &mut all);
    assert!(
        ended.is_err() || all.len() < 64 << 20,
        "{} bytes came",
        all.len()
    );
}

/// HTTP dates begin in 1970, and the library that writes them panics before.
#[test]
fn a_file_of_any_time_is_sent() {
    let (folder, site) = site();
    let touch = |time: &str| {
        let page = folder.path().join("root/page.html");
        let touched = Command::new("touch").args(["-d", time]).arg(page).status();
        assert!(touched.expect("coreutils").success());
    };
    for (time, told) in [
        ("1960-01-01T00:00:00Z", None),
        ("1969-12-31T23:59:59Z", None),
        (
            "1970-01-01T00:00:00Z",
            Some("Thu, 01 Jan 1970 00:00:00 GMT"),
        ),
        ("2200-01-01T00:00:00Z", Some("")),
    ] {
        touch(time);
        let answer = ask(&site, "/files/page.html", &[]);
        assert_eq!((answer.status, answer.text()), (200, "<p>a page"), "{time}");
        let modified = answer.header("last-modified");
        match told {
            None => assert_eq!(modified, None, "{time}"),
            // The file's time, or the present one instead of the future.
            Some(told) => assert!(modified.is_some_and(|text| text.ends_with(told)), "{time}"),
        }
        let since = [("if-modified-since", "Thu, 01 Jan 1970 00:00:00 GMT")];
        let _ = ask(&site, "/files/page.html", &since);
    }
}

/// Makes openat2(2) fail, as the sandboxes of older container engines do (seccomp(2)), and then
/// executes its arguments.
#[cfg(target_os = "linux")]
const FORBIDS: &str = r#"
import ctypes, os, struct, sys

libc = ctypes.CDLL(None)
lines = [
    (0x20, 0, 0, 0), (0x15, 0, 1, 437),
    (0x06, 0, 0, 0x50000 | int(sys.argv[1])), (0x06, 0, 0, 0x7fff0000),
]
code = b"".join(struct.pack("HBBI", *line) for line in lines)
memory = ctypes.create_string_buffer(code)

class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

program = Program(len(lines), ctypes.addressof(memory))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program)) == 0
os.execv(sys.argv[2], sys.argv[2:])
"#;

#[cfg(target_os = "linux")]
#[test]
fn in_a_sandbox_without_openat2_the_same_files_are_sent_and_no_links_are_followed() {
    const VARIABLE: &str = "ENTWINED_TEST_SANDBOX";
    if std::env::var_os(VARIABLE).is_none() {
        // EPERM and ENOSYS.
        for errno in ["1", "38"] {
            let name = "server::files::in_a_sandbox_without_openat2_the_same_files_are_sent_and_no\
                        _links_are_followed";
            let status = Command::new("/usr/bin/python3")
                .args(["-c", FORBIDS, errno])
                .arg(std::env::current_exe().expect("this program"))
                .args(["--exact", name])
                .env(VARIABLE, "1")
                .stdout(Stdio::null())
                .status()
                .expect("apt-get install python3");
            assert!(status.success(), "{errno}: {status}");
        }
        return;
    }
    let (_folder, site) = site();
    for (path, status) in [
        ("/files/page.html", 200),
        ("/files/sub/", 200),
        ("/files/sub", 308),
        ("/files/sub/deep/a%20b.txt", 200),
        ("/files/.well-known/thing", 200),
        ("/list/empty/", 200),
        ("/files/missing", 404),
        ("/files/out", 404),
        ("/files/passwd", 404),
        ("/files/slash/etc/passwd", 404),
        ("/files/in", 404),
        ("/files/loop", 404),
        ("/files/fifo", 404),
        ("/files/.hidden/secret", 404),
    ] {
        assert_eq!(ask(&site, path, &[]).status, status, "{path}");
    }
}

/// Runs alone, in a process of its own: the working directory is the whole process's.
#[test]
fn a_relative_path_means_the_same_after_a_change_of_directory() {
    const VARIABLE: &str = "ENTWINED_TEST_DIRECTORY";
    if std::env::var_os(VARIABLE).is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        write("site/page", "ours");
        write("other/site/page", "another one");
        write("other/upload", "of somebody else");
        let name = "server::files::a_relative_path_means_the_same_after_a_change_of_directory";
        let status = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", name])
            .env(VARIABLE, "1")
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .status()
            .expect("it starts");
        assert!(status.success(), "{status}");
        return;
    }
    let save = |mut form: Multipart| async move {
        while let Some(mut part) = form.next().await? {
            part.save_with("upload", |_| {
                std::env::set_current_dir("other").expect("it is there")
            })
            .await?;
        }
        Ok::<_, Error>("saved")
    };
    let site = Site::start(move |_| {
        Router::new()
            .mount("/files", Files::new("site"))
            .post("/", save)
    });
    assert_eq!(site.get("/files/page").text(), "ours");
    let mut peer = site.peer();
    peer.send(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=x\r\n\
         content-length: 500\r\n\r\n--x\r\ncontent-disposition: form-data; name=a\r\n\r\nbytes",
    );
    let start = Instant::now();
    while !std::env::current_dir()
        .expect("a folder")
        .ends_with("other")
    {
        assert!(start.elapsed() < LIMIT, "no byte is saved");
        thread::yield_now();
    }
    // The upload ends before its time, and its file goes.
    drop(peer);
    while Path::new("../upload").exists() {
        assert!(start.elapsed() < LIMIT, "the file stays");
        thread::yield_now();
    }
    let other = fs::read_to_string("upload").expect("another file");
    assert_eq!(other, "of somebody else");
    assert_eq!(site.get("/files/page").text(), "ours");
}

/// Or a client goes on with a part of another file, and a cache keeps what has changed.
#[test]
fn a_file_of_another_time_has_another_tag() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.txt");
    fs::write(&path, "same length").expect("a file");
    let root = folder.path().to_owned();
    let site = Site::start(move |_| Router::new().mount("/", Files::new(root)));
    let tag = |seconds, nanoseconds| {
        let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        let file = fs::File::options().write(true).open(&path).expect("a file");
        file.set_modified(time).expect("a time");
        ask(&site, "/a.txt", &[]).header("etag").map(str::to_owned)
    };
    assert_ne!(tag(1, 0x10), tag(0x11, 0));
    assert_ne!(tag(0x65, 0x1_2345), tag(0x651, 0x2345));
}

/// A link to it would lead to 404, or to another file.
#[test]
fn a_list_has_no_names_that_cannot_be_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in [&b"fine"[..], b"latin-\xfc", b"back\\slash"] {
        let name = std::ffi::OsStr::from_bytes(name);
        fs::write(folder.path().join(name), "text").expect("a file");
    }
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("inner")).expect("a folder");
    for (target, link) in [
        ("/etc/hostname", "outside"),
        ("nothing", "broken"),
        ("loop", "loop"),
        ("fine", "link"),
        ("inner", "to-inner"),
    ] {
        std::os::unix::fs::symlink(target, at(link)).expect("a link");
    }
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("a socket");
    let root = folder.path().to_owned();
    let site = Site::start(move |_| Router::new().mount("/", Files::new(root).listing()));
    let list = site.get("/");
    let links: Vec<_> = list.text().split("href=\"").skip(1).collect();
    let links: Vec<_> = links
        .iter()
        .filter_map(|link| link.split('"').next())
        .collect();
    let expected: &[_] = match cfg!(target_os = "linux") {
        true => &["./fine", "./inner/", "./link", "./to-inner/"],
        // No link is followed there.
        false => &["./fine", "./inner/"],
    };
    assert_eq!(links, expected);
    for link in links {
        assert_eq!(site.get(&link[1..]).status, 200, "{link}");
    }
}

/// An element of a list may be empty (RFC 9110, 5.6.1.2).
#[test]
fn a_list_with_one_range_is_a_range() {
    let (_folder, site) = site();
    for range in ["bytes=0-1,", "bytes=,0-1", "bytes= 0-1 , ,"] {
        let part = ask(&site, "/files/page.html", &[("range", range)]);
        assert_eq!((part.status, part.text()), (206, "<p"), "{range}");
    }
}

/// Several fields of one name are a list (RFC 9110, 5.3), which these are not.
#[test]
fn a_range_that_comes_twice_is_ignored() {
    let (_folder, site) = site();
    let whole = ask(&site, "/files/page.html", &[]);
    let tag = whole.header("etag").expect("a tag");
    let range = ("range", "bytes=0-1");
    for headers in [
        &[range, ("range", "bytes=5-6")][..],
        &[range, ("if-range", tag), ("if-range", "\"another\"")],
    ] {
        let answer = ask(&site, "/files/page.html", headers);
        assert_eq!(
            (answer.status, answer.text()),
            (200, whole.text()),
            "{headers:?}"
        );
    }
    let both = [range, ("if-range", tag)];
    assert_eq!(ask(&site, "/files/page.html", &both).status, 206);
}

/// The second of a file that may have changed twice in it names no state: RFC 9110, 13.1.5.
#[test]
fn a_date_joins_no_parts_of_two_states() {
    let (folder, site) = site();
    let second = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let write = |text: &str, time| {
        let path = folder.path().join("root/page.html");
        fs::write(&path, text).expect("a file");
        let file = fs::File::options()
            .write(true)
            .open(&path)
            .expect("it is there");
        file.set_modified(time).expect("it is ours");
    };
    write("first", second + Duration::from_millis(200));
    let first = ask(&site, "/files/page.html", &[("range", "bytes=0-1")]);
    let date = first.header("last-modified").expect("a date").to_owned();
    write("later", second + Duration::from_millis(700));
    let rest = [("range", "bytes=2-"), ("if-range", date.as_str())];
    let answer = ask(&site, "/files/page.html", &rest);
    assert_eq!((answer.status, answer.text()), (200, "later"));
}
