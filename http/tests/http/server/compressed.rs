//! What compression must not lose.

use std::{
    io::Read,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use entwined_http::{
    Body, Bytes, Config, ETag, Files, HeaderValue, Html, IntoResponse, Method, Preconditions,
    Response, Router,
    header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG},
    layers,
};

use crate::server::support::{Answer, Site, config};

fn text() -> String {
    "some text, and again ".repeat(500)
}

fn site(config: Config) -> Site {
    Site::with(config, |_| {
        let tagged = |asked: Preconditions| async move {
            let tag = ETag::strong("abc");
            asked.check(tag.clone())?;
            Ok::<_, Response>(([(ETAG, tag)], Html(text())).into_response())
        };
        let head = || {
            let mut response = Html("").into_response();
            response
                .headers_mut()
                .insert(CONTENT_LENGTH, HeaderValue::from(text().len()));
            response
                .headers_mut()
                .insert(ETAG, ETag::strong("abc").into());
            response
        };
        Router::new()
            .get("/tagged", tagged)
            .get("/own-head", |asked: Preconditions| async move {
                asked.check(ETag::strong("abc"))?;
                Ok::<_, Response>(([(ETAG, ETag::strong("abc"))], Html(text())).into_response())
            })
            .route(Method::HEAD, "/own-head", head)
            .route(Method::HEAD, "/unknown", || Html(""))
            .get("/live", || {
                let mut response = Response::new(Body::live(Once(true)));
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                response
            })
            .mount(
                "/files",
                Files::embedded(|name| match name {
                    "a.txt" => Some(text().into_bytes().into()),
                    "empty.txt" => Some(Vec::new().into()),
                    _ => None,
                }),
            )
            .layer(layers::compression())
    })
}

/// One piece, and then nothing for ever.
struct Once(bool);

impl futures_core::Stream for Once {
    type Item = Result<Bytes, String>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        match std::mem::take(&mut self.0) {
            true => std::task::Poll::Ready(Some(Ok("tick\n".into()))),
            false => std::task::Poll::Pending,
        }
    }
}

fn ask(site: &Site, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    site.peer().ask(method, path, headers, b"")
}

const GZIP: (&str, &str) = ("accept-encoding", "gzip");

#[test]
fn a_304_has_the_headers_of_its_200() {
    let site = site(Config::default());
    for path in ["/tagged", "/files/a.txt"] {
        let plain = ask(&site, "GET", path, &[]);
        let strong = plain.header("etag").expect("a tag").to_owned();
        let compressed = ask(&site, "GET", path, &[GZIP]);
        let weak = compressed.header("etag").expect("a tag").to_owned();
        assert_eq!(weak, format!("W/{strong}"));
        for (asked, encoding, tag) in [
            (weak.as_str(), Some(GZIP), weak.as_str()),
            ("*", Some(GZIP), &weak),
            (strong.as_str(), Some(GZIP), &strong),
            (strong.as_str(), None, &strong),
            (weak.as_str(), None, &strong),
        ] {
            let mut headers = vec![("if-none-match", asked)];
            headers.extend(encoding);
            for method in ["GET", "HEAD"] {
                let same = ask(&site, method, path, &headers);
                assert_eq!(
                    (same.status, same.header("etag"), same.header("vary")),
                    (304, Some(tag), Some("Accept-Encoding")),
                    "{method} {path} {headers:?}"
                );
            }
        }
    }
}

#[test]
fn head_is_answered_as_get_is() {
    let site = site(Config::default());
    for path in ["/tagged", "/own-head", "/files/a.txt"] {
        for headers in [&[][..], &[GZIP]] {
            let (get, head) = (
                ask(&site, "GET", path, headers),
                ask(&site, "HEAD", path, headers),
            );
            for name in [
                "content-encoding",
                "vary",
                "etag",
                "content-type",
                "accept-ranges",
            ] {
                assert_eq!(
                    get.header(name),
                    head.header(name),
                    "{path} {headers:?} {name}"
                );
            }
            let plain = headers.is_empty().then(|| text().len().to_string());
            assert_eq!(
                head.header("content-length"),
                plain.as_deref(),
                "{path} {headers:?}"
            );
        }
    }
    let unknown = ask(&site, "HEAD", "/unknown", &[GZIP]);
    assert_eq!(
        (unknown.header("content-length"), unknown.header("vary")),
        (None, Some("Accept-Encoding"))
    );
    // Over HTTP/2 as well.
    for (path, encoding, length) in [
        ("/own-head", None, Some(text().len().to_string())),
        ("/own-head", Some("gzip"), None),
        ("/unknown", None, None),
        ("/tagged", None, Some(text().len().to_string())),
        ("/tagged", Some("gzip"), None),
    ] {
        let mut curl = Command::new("curl");
        curl.args(["-sI", "--http2-prior-knowledge", "-m", "20"]);
        if let Some(encoding) = encoding {
            curl.args(["-H", &format!("accept-encoding: {encoding}")]);
        }
        let output = curl.arg(format!("http://{}{path}", site.address)).output();
        let head = String::from_utf8(output.expect("apt-get install curl").stdout).expect("a text");
        assert!(head.starts_with("HTTP/2 200"), "{head}");
        let found = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!(
            found.map(str::trim),
            length.as_deref(),
            "{path} {encoding:?}: {head}"
        );
    }
}

#[test]
fn ranges_are_of_the_plain_bytes_and_say_so() {
    let site = site(Config::default());
    let part = ask(
        &site,
        "GET",
        "/files/a.txt",
        &[GZIP, ("range", "bytes=0-3")],
    );
    assert_eq!(
        (part.status, part.text(), part.header("content-encoding")),
        (206, "some", None)
    );
    assert_eq!(part.header("vary"), Some("Accept-Encoding"));
    let whole = ask(&site, "GET", "/files/a.txt", &[GZIP]);
    assert_eq!((whole.status, whole.header("accept-ranges")), (200, None));
    let weak = whole.header("etag").expect("a tag").to_owned();
    let resumed = [GZIP, ("range", "bytes=4-"), ("if-range", &weak)];
    assert_eq!(ask(&site, "GET", "/files/a.txt", &resumed).status, 200);
    for range in ["bytes=0-", "bytes=-5", "bytes=0-0", "bytes=5-"] {
        let empty = ask(&site, "GET", "/files/empty.txt", &[("range", range)]);
        assert_eq!(
            (empty.status, empty.header("content-length")),
            (200, Some("0")),
            "{range}"
        );
    }
}

#[test]
fn a_compressed_live_body_ends_in_order_when_the_server_does() {
    let grace = Duration::from_secs(15);
    let site = site(config(|config| config.shutdown_grace = grace));
    let mut peer = site.peer();
    peer.send("GET /live HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\n\r\n");
    assert_eq!(peer.head().header("content-encoding"), Some("gzip"));
    let mut packed = peer.chunk().expect("the first piece");
    let url = format!("http://{}/live", site.address);
    let mut curl = Command::new("curl")
        .args([
            "-sN",
            "--http2-prior-knowledge",
            "--compressed",
            "-m",
            "20",
            &url,
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("apt-get install curl");
    let mut output = curl.stdout.take().expect("a pipe");
    let mut tick = [0; 5];
    output.read_exact(&mut tick).expect("the first piece");
    let start = Instant::now();
    site.stop();
    while let Some(piece) = peer.chunk() {
        packed.extend(piece);
    }
    assert!(curl.wait().expect("an end").success());
    site.wait_for_end();
    assert!(
        start.elapsed() < grace / 2,
        "it waited {:?}",
        start.elapsed()
    );
    let mut gunzip = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip");
    std::io::Write::write_all(&mut gunzip.stdin.take().expect("a pipe"), &packed)
        .expect("it reads");
    let output = gunzip.wait_with_output().expect("an end");
    assert!(output.status.success() && output.stdout == b"tick\n");
}

#[test]
fn what_must_not_be_transformed_is_not_however_it_is_said() {
    let site = Site::start(|_| {
        let with = |names: &'static [(&'static str, &'static str)]| {
            move || {
                let mut response = Html(text()).into_response();
                for (name, value) in names {
                    let name = entwined_http::HeaderName::from_static(name);
                    let value = HeaderValue::from_static(value);
                    response.headers_mut().append(name, value);
                }
                response
            }
        };
        let control = "cache-control";
        Router::new()
            .get("/plain", with(&[]))
            .get("/other", with(&[("cache-control", "x-no-transform-ever")]))
            .get("/upper", with(&[("cache-control", "No-Transform")]))
            .get("/list", with(&[("cache-control", "public, NO-TRANSFORM")]))
            .get(
                "/second",
                with(&[
                    ("cache-control", "public"),
                    ("cache-control", "no-transform"),
                ]),
            )
            // These are sums of the bytes that are sent (RFC 9530, 2 and 3; RFC 3230; RFC 1864).
            .get(
                "/content-digest",
                with(&[("content-digest", "sha-256=:YQ==:")]),
            )
            .get("/repr-digest", with(&[("repr-digest", "sha-256=:YQ==:")]))
            .get("/digest", with(&[("digest", "sha-256=YQ==")]))
            .get("/md5", with(&[("content-md5", "YQ==")]))
            .get("/none", move || ([(control, "public")], Html(text())))
            .layer(layers::compression())
    });
    for (path, compressed) in [
        ("/plain", true),
        ("/other", true),
        ("/none", true),
        ("/upper", false),
        ("/list", false),
        ("/second", false),
        ("/content-digest", false),
        ("/repr-digest", false),
        ("/digest", false),
        ("/md5", false),
    ] {
        let answer = ask(&site, "GET", path, &[("accept-encoding", "gzip")]);
        let coding = answer.header("content-encoding").is_some();
        assert_eq!(coding, compressed, "{path}");
    }
}
