//! Forms with files, from curl and by hand; and handlers that block.

use std::{
    fs,
    process::Command,
    rc::Rc,
    sync::mpsc,
    task::{Context, Waker},
    time::Duration,
};

use entwined::Handle;
use entwined_http::{BlockingRequest, Config, Error, Multipart, Path, Router, offload};

use crate::server::support::Site;
use tempfile::TempDir;

fn router(folder: &std::path::Path) -> Router {
    let folder: Rc<std::path::Path> = folder.into();
    let save = move |mut form: Multipart| {
        let folder = folder.clone();
        async move {
            let mut said = String::new();
            let mut count = 0;
            while let Some(mut part) = form.next().await? {
                let name = part.name().unwrap_or("").to_owned();
                let file = part.file_name().map(str::to_owned);
                match file {
                    None => said.push_str(&format!("{name}={} ", part.text(1_000).await?)),
                    Some(file) => {
                        count += 1;
                        let kind = part.content_type().unwrap_or_default().to_owned();
                        let bytes = part.save(folder.join(count.to_string())).await?;
                        said.push_str(&format!("{name}: {file} {kind} {bytes} "));
                    }
                }
            }
            Ok::<_, Error>(said)
        }
    };
    let small = |form: Multipart| async move {
        let mut form = form.max_size(1_000);
        let mut names = 0;
        while form.next().await?.is_some() {
            names += 1;
        }
        Ok::<_, Error>(names.to_string())
    };
    let whole = |form: Multipart| async move {
        let mut form = form.max_size(1_000);
        let mut bytes = 0;
        while let Some(mut part) = form.next().await? {
            bytes += part.bytes(900).await?.len();
        }
        Ok::<_, Error>(bytes.to_string())
    };
    Router::new()
        .post("/save", save)
        .post("/names", small)
        .post("/whole", whole)
        .post(
            "/blocking/{name}",
            offload(|request: BlockingRequest| {
                std::thread::sleep(Duration::from_millis(20));
                let name = std::thread::current().name().unwrap_or("").to_owned();
                format!(
                    "{} {:?} {} {}",
                    request.method,
                    request.params,
                    request.body.len(),
                    !name.is_empty()
                )
            }),
        )
        .get(
            "/blocking-panic",
            offload(|_| -> &'static str { panic!("in a job") }),
        )
}

fn site() -> (TempDir, Site) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    (folder, Site::start(move |_| router(&path)))
}

#[test]
fn curl_uploads_fields_and_files() {
    let (folder, site) = site();
    let file = folder.path().join("large \"name\".bin");
    let bytes: Vec<u8> = (0..5_000_000_usize)
        .map(|place| (place * 31 + place / 7) as u8)
        .collect();
    fs::write(&file, &bytes).expect("a file");
    let url = format!("http://{}/save", site.address);
    let form = format!(
        "file=@\"{}\";type=image/png",
        file.display().to_string().replace('"', "\\\"")
    );
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let _ = fs::remove_file(folder.path().join("1"));
        let output = Command::new("curl")
            .args(["-s", version, "-F", "who=Ada é", "-F", &form, &url])
            .output();
        let said = String::from_utf8(output.expect("apt-get install curl").stdout).expect("a text");
        assert!(said.starts_with("who=Ada é file: large"), "{said}");
        assert!(said.ends_with("image/png 5000000 "), "{said}");
        assert!(fs::read(folder.path().join("1")).expect("it was saved") == bytes);
    }
}

fn form(parts: &[(&str, &str)]) -> String {
    let mut body = String::new();
    for (name, content) in parts {
        body.push_str(&format!(
            "--xyz\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n"
        ));
    }
    body + "--xyz--\r\n"
}

#[test]
fn forms_that_are_wrong_or_too_large_are_refused() {
    let (folder, site) = site();
    let kind = "multipart/form-data; boundary=xyz";
    let post = |path: &str, kind: &str, body: &str| {
        let answer = site.peer().post(path, kind, body);
        (answer.status, answer.text().to_owned())
    };
    let many: Vec<_> = (0..1_001).map(|_| ("a", "")).collect();
    let large = "x".repeat(901);
    assert_eq!(
        post("/names", kind, &form(&[("a", "1"), ("b", "2")])),
        (200, "2".to_owned())
    );
    assert_eq!(
        post("/whole", kind, &form(&[("a", "1"), ("b", "22")])),
        (200, "3".to_owned())
    );
    assert_eq!(post("/whole", kind, &form(&[("a", &large)])).0, 413);
    assert_eq!(
        post(
            "/whole",
            kind,
            &form(&[("a", &large[..500]), ("b", &large[..500])])
        )
        .0,
        413
    );
    assert_eq!(post("/save", kind, &form(&many)).0, 413);
    // What is skipped counts as well.
    assert_eq!(
        post("/names", kind, &form(&[("a", &large), ("b", &large)])).0,
        413
    );
    let wrong = format!("--xyz\r\nContent-Disposition: form-data; name=\"{large}{large}");
    assert_eq!(post("/names", kind, &wrong).0, 413);
    assert_eq!(post("/names", "text/plain", "x").0, 415);
    assert_eq!(post("/names", "multipart/form-data", "x").0, 415);
    assert_eq!(post("/names", kind, "--xyz\r\nnonsense").0, 400);
    assert_eq!(post("/names", kind, "").0, 400);
    // A partial upload is not kept.
    let mut broken = site.peer();
    let head = "--xyz\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\nbegin";
    broken.send(format!(
        "POST /save HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: 5000\r\n\r\n\
         {head}"
    ));
    while !folder.path().join("1").exists() {
        std::thread::yield_now();
    }
    drop(broken);
    let start = std::time::Instant::now();
    while folder.path().join("1").exists() {
        assert!(
            start.elapsed() < crate::server::support::LIMIT,
            "it was kept"
        );
        std::thread::yield_now();
    }
}

#[test]
fn the_name_of_a_file_may_come_twice() {
    let (_folder, site) = site();
    let both = "filename*=UTF-8''na%C3%AFve.txt; filename=\"naive.txt\"";
    let body = format!(
        "--xyz\r\nContent-Disposition: form-data; name=\"f\"; {both}\r\n\r\nx\r\n--xyz--\r\n"
    );
    let answer = site
        .peer()
        .post("/save", "multipart/form-data; boundary=xyz", &body);
    assert_eq!(answer.text(), "f: naïve.txt  1 ");
}

#[test]
fn blocking_handlers_run_on_threads() {
    let (_folder, site) = site();
    let answer = site.peer().post("/blocking/x", "text/plain", "body");
    assert_eq!(answer.text(), "POST [(\"name\", \"x\")] 4 true");
    assert_eq!(site.get("/blocking-panic").status, 500);
    let large = "x".repeat(3 << 20);
    assert_eq!(
        site.peer().post("/blocking/x", "text/plain", &large).status,
        413
    );
}

/// What an upload leaves behind if it is given up while its file is made.
#[test]
fn a_file_that_is_just_made_goes_with_an_upload_that_is_given_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file");
    let site = Site::start(move |handle| {
        let handle = handle.clone();
        Router::new().post("/", move |mut form: Multipart| {
            let (handle, path) = (handle.clone(), path.clone());
            async move {
                let mut part = form.next().await?.expect("a part");
                let mut saving = Box::pin(part.save(path.clone()));
                let mut cx = Context::from_waker(Waker::noop());
                assert!(saving.as_mut().poll(&mut cx).is_pending());
                // The thread has made it, and the loop does not know yet.
                while !path.exists() {
                    std::thread::yield_now();
                }
                drop(saving);
                for _ in 0..2_000 {
                    if !path.exists() {
                        return Ok::<_, Error>("gone");
                    }
                    handle.sleep(Duration::from_millis(1)).await;
                }
                Ok("left")
            }
        })
    });
    let kind = "multipart/form-data; boundary=xyz";
    let answer = site.peer().post("/", kind, &form(&[("a", "1")]));
    assert_eq!(answer.text(), "gone");
}

/// The end of the run finds all threads busy, so nothing more is done there.
#[test]
fn an_unfinished_file_goes_with_the_run_though_all_threads_are_busy() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file");
    let (free, busy) = std::sync::mpsc::channel::<()>();
    let busy = std::sync::Arc::new(std::sync::Mutex::new(busy));
    let served = path.clone();
    let config = Config {
        shutdown_grace: Duration::from_millis(50),
        ..Config::default()
    };
    let site = Site::with(config, move |_| {
        Router::new()
            .post("/", move |mut form: Multipart| {
                let path = served.clone();
                async move {
                    let mut part = form.next().await?.expect("a part");
                    part.save(path).await?;
                    Ok::<_, Error>("saved")
                }
            })
            .get("/busy", move |handle: Handle| {
                for _ in 0..8 {
                    let busy = busy.clone();
                    drop(handle.defer_to_thread(move |_| {
                        let _ = busy.lock().map(|busy| busy.recv());
                        Ok::<_, Error>(())
                    }));
                }
            })
    });
    let mut peer = site.peer();
    peer.send(
        "POST / HTTP/1.1\r\nhost: test\r\ncontent-type: multipart/form-data; boundary=xyz\r\n\
         content-length: 1000\r\n\r\n--xyz\r\n\
         Content-Disposition: form-data; name=\"a\"\r\n\r\nsome of it",
    );
    let start = std::time::Instant::now();
    while !path.exists() {
        assert!(start.elapsed() < Duration::from_secs(20), "it is not made");
        std::thread::yield_now();
    }
    assert_eq!(site.get("/busy").status, 204);
    site.stop();
    site.wait_for_end();
    assert!(!path.exists());
    drop(free);
}

/// The last line of a form, or the end of its last chunk, may come in a packet of its own.
#[test]
fn the_connection_goes_on_after_a_form_whose_end_comes_later() {
    let (_folder, site) = site();
    let form = form(&[("a", "1")]);
    let last = form.rfind("--").expect("a last boundary") + 2;
    let (begin, end) = form.split_at(last);
    let lengths = [
        (
            format!("content-length: {}", form.len()),
            begin.to_owned(),
            end.to_owned(),
        ),
        (
            "transfer-encoding: chunked".to_owned(),
            format!("{:x}\r\n{form}\r\n", form.len()),
            "0\r\n\r\n".to_owned(),
        ),
    ];
    for (framing, begin, end) in lengths {
        let mut peer = site.peer();
        peer.send(format!(
            "POST /names HTTP/1.1\r\nhost: test\r\n{framing}\r\n\
             content-type: multipart/form-data; boundary=xyz\r\n\r\n{begin}"
        ));
        assert!(
            peer.hears_nothing_for(Duration::from_millis(50)),
            "{framing}"
        );
        peer.send(end);
        assert_eq!(peer.answer().text(), "1", "{framing}");
        assert_eq!(
            peer.post("/names", "text/plain", "").status,
            415,
            "{framing}"
        );
    }
}

/// What is read behind the first half is no whole part.
#[test]
fn a_part_that_was_given_up_half_way_is_not_cut_off() {
    let folder = TempDir::new().expect("a folder");
    let (tell, told) = mpsc::channel();
    let site = Site::start({
        let path = folder.path().to_owned();
        move |_| {
            Router::new().post(
                "/{how}",
                move |Path(how): Path<String>, handle: Handle, mut form: Multipart| {
                    let (tell, path) = (tell.clone(), path.clone());
                    async move {
                        let time = Duration::from_millis(50);
                        let mut part = form.next().await?.expect("a part");
                        let result = if how == "bytes" {
                            let given_up = handle.timeout(time, part.bytes(100)).await;
                            assert!(given_up.is_err(), "half of it is missing");
                            let _ = tell.send(());
                            part.text(100).await?
                        } else {
                            let given_up = handle.timeout(time, part.save(path.join("a"))).await;
                            assert!(given_up.is_err(), "half of it is missing");
                            let _ = tell.send(());
                            let saved = part.save(path.join("b")).await;
                            format!("{}", saved.is_err())
                        };
                        Ok::<_, Error>(result)
                    }
                },
            )
        }
    });
    let head = "--b\r\ncontent-disposition: form-data; name=\"x\"\r\n\r\n";
    for (path, expected) in [("/bytes", "first half"), ("/save", "true")] {
        let (begin, end) = (format!("{head}first"), " half\r\n--b--\r\n");
        let length = begin.len() + end.len();
        let mut peer = site.peer();
        peer.send(format!(
            "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\
             content-type: multipart/form-data; boundary=b\r\n\r\n{begin}"
        ));
        told.recv().expect("it was given up");
        peer.send(end);
        assert_eq!(peer.answer().text(), expected, "{path}");
    }
    // A thread removes it.
    let start = std::time::Instant::now();
    while folder.path().join("b").exists() {
        assert!(
            start.elapsed() < crate::server::support::LIMIT,
            "it was kept"
        );
        std::thread::yield_now();
    }
}
