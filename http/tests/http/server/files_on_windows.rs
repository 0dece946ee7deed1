//! Files on Windows, where one has many names: only one of them is served.

use std::fs;

use entwined_http::{Files, Router};
use tempfile::TempDir;

use crate::server::support::Site;

fn site() -> (TempDir, Site) {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("Long folder name/deep")).expect("a folder");
    let write = |name: &str, bytes: &[u8]| fs::write(root.join(name), bytes).expect("a file");
    write("page.html", b"<p>a page");
    write("large.bin", &vec![7; 300_000]);
    write("Long folder name/index.html", b"the index");
    write("Long folder name/deep/a b.txt", b"deep");
    write(".secret", b"secret");
    fs::write(folder.path().join("outside.txt"), b"outside").expect("a file");
    let site = Site::start(move |_| {
        let files = Files::new(&root);
        Router::new()
            .mount("/files", files.clone())
            .mount("/list", files.listing())
    });
    (folder, site)
}

#[test]
fn files_are_sent_by_the_names_that_windows_gives_them() {
    let (_folder, site) = site();
    for (path, text) in [
        ("/files/page.html", "<p>a page"),
        ("/files/Long%20folder%20name/", "the index"),
        ("/files/Long%20folder%20name/deep/a%20b.txt", "deep"),
    ] {
        let answer = site.get(path);
        assert_eq!((answer.status, answer.text()), (200, text), "{path}");
        let tag = answer.header("etag").expect("a tag").to_owned();
        let again = site
            .peer()
            .ask("GET", path, &[("if-none-match", &tag)], b"");
        assert_eq!(again.status, 304, "{path}");
    }
    let part = site.peer().ask(
        "GET",
        "/files/large.bin",
        &[("range", "bytes=100-109")],
        b"",
    );
    assert_eq!((part.status, part.body.len()), (206, 10));
    assert_eq!(site.get("/files/large.bin").body.len(), 300_000);
    let list = site.get("/list/");
    assert!(list.text().contains("page.html"), "{}", list.text());
    assert!(!list.text().contains("secret"), "{}", list.text());
}

#[test]
fn no_other_name_of_a_file_is_served_and_nothing_outside() {
    let (folder, site) = site();
    let drive = folder.path().to_str().expect("text").replace('\\', "/");
    let (drive, rest) = drive.split_once(":/").expect("a drive");
    let absolute = format!("{drive}:/{rest}/outside.txt");
    let paths = [
        // Other ways up.
        "..\\outside.txt",
        "..%5coutside.txt",
        "..%5Coutside.txt",
        "%2e%2e%5coutside.txt",
        "Long%20folder%20name/..%5c..%5coutside.txt",
        "Long%20folder%20name%5c..%5cpage.html",
        "Long%20folder%20name%5cindex.html",
        "../outside.txt",
        "%2e%2e/outside.txt",
        // Drives, shares, and names that go around all rules.
        &absolute,
        &absolute.replace(':', "%3a"),
        "C:/windows/win.ini",
        "C:",
        "C:page.html",
        "%5c%5clocalhost%5cC$%5cwindows%5cwin.ini",
        "//localhost/C$/windows/win.ini",
        "%5c%5c?%5cC:%5cwindows%5cwin.ini",
        "%5c%5c.%5cC:",
        // Devices, in every folder and with any extension.
        "NUL",
        "nul",
        "NUL.txt",
        "CON",
        "con.html",
        "AUX",
        "PRN",
        "COM1",
        "LPT1.txt",
        "COM%C2%B9",
        "CONIN$",
        "Long%20folder%20name/NUL",
        // Streams.
        "page.html:x",
        "page.html::$DATA",
        "page.html%3a%3a$DATA",
        "Long%20folder%20name::$INDEX_ALLOCATION/index.html",
        ".:page.html",
        // What is cut off.
        "page.html.",
        "page.html...",
        "page.html%20",
        "page.html%20.",
        "Long%20folder%20name./index.html",
        "Long%20folder%20name%20/index.html",
        // Short names, and other letters.
        "LONGFO~1/index.html",
        "longfo~1/index.html",
        "PAGE.HTML",
        "Page.html",
        "PAGE~1.HTM",
        "long%20folder%20name/index.html",
        // Hidden, and not a name.
        ".secret",
        "page.html%00",
        "page.html%00.txt",
        "page.htm?",
        "page.%2a",
        "page.htm%3f",
        "%3cpage.html",
        "page.html%7c",
    ];
    for path in paths {
        let answer = site.get(&format!("/files/{path}"));
        assert!(
            matches!(answer.status, 400 | 404),
            "{path}: {} {}",
            answer.status,
            answer.text()
        );
        assert!(
            !answer.text().contains("outside") && !answer.text().contains("secret"),
            "{path}"
        );
    }
    // A name that was in use stays usable.
    assert_eq!(site.get("/files/page.html").status, 200);
}
