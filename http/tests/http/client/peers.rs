//! Servers by others: nginx and Node.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use entwined::tls::{Roots, development};
use entwined_http::{StatusCode, Version, client::Client};

use crate::run::run;

/// A process that ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const NGINX: &str = "
daemon off;
master_process off;
pid FOLDER/pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
    gzip on;
    gzip_types text/plain;
    types { text/plain txt; }
    keepalive_requests KEEPALIVE;
    server {
        listen 127.0.0.1:PORT_PLAIN;
        listen 127.0.0.1:PORT_TLS ssl http2;
        ssl_certificate FOLDER/certificate.pem;
        ssl_certificate_key FOLDER/key.pem;
        root FOLDER/files;
        location /moved { return 302 /page.txt; }
        location /gone { return 410 'gone'; }
    }
}
";

fn free_ports() -> [u16; 2] {
    let two = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    two.map(|listener| listener.local_addr().expect("an address").port())
}

fn pem(kind: &str, bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    format!(
        "-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n",
        STANDARD.encode(bytes)
    )
}

/// nginx with this many requests a connection.
struct Nginx {
    plain: u16,
    secure: u16,
    roots: Roots,
    page: String,
    _folder: tempfile::TempDir,
    _program: Program,
}

fn nginx(keepalive: usize) -> Nginx {
    let folder = tempfile::tempdir().expect("a folder");
    let [plain, secure] = free_ports();
    let (chain, key) = development::certificate(["localhost"]).expect("a name");
    let path = folder.path().to_str().expect("a path of text");
    fs::create_dir(folder.path().join("files")).expect("a folder");
    let page = "a line of a page\n".repeat(20_000);
    fs::write(folder.path().join("files/page.txt"), &page).expect("a file");
    fs::write(
        folder.path().join("certificate.pem"),
        pem("CERTIFICATE", &chain[0]),
    )
    .expect("a file");
    fs::write(
        folder.path().join("key.pem"),
        pem("PRIVATE KEY", key.secret_der()),
    )
    .expect("a file");
    let config = NGINX
        .replace("FOLDER", path)
        .replace("KEEPALIVE", &keepalive.to_string())
        .replace("PORT_PLAIN", &plain.to_string());
    fs::write(
        folder.path().join("nginx.conf"),
        config.replace("PORT_TLS", &secure.to_string()),
    )
    .expect("a file");
    let mut command = Command::new("nginx");
    command
        .args(["-p", path, "-c", "nginx.conf"])
        .stdin(Stdio::null());
    let program = Program(command.spawn().expect("apt-get install nginx-light"));
    let start = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, secure)).is_err() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "nginx does not listen"
        );
        thread::yield_now();
    }
    Nginx {
        plain,
        secure,
        roots: Roots::only(&chain),
        page,
        _folder: folder,
        _program: program,
    }
}

/// nginx closes a connection after ten requests: with `Connection: close`, or with GOAWAY while
/// other requests are under way.
#[test]
fn nginx_with_few_requests_a_connection_answers_all() {
    let nginx = nginx(10);
    let (plain, secure) = (nginx.plain, nginx.secure);
    run(|handle| async move {
        let builder = Client::builder(&handle).roots(nginx.roots.clone());
        for (address, http2) in [
            (format!("http://127.0.0.1:{plain}"), false),
            (format!("https://localhost:{secure}"), false),
            (format!("https://localhost:{secure}"), true),
        ] {
            for (max_concurrent, post) in [(1, false), (4, false), (64, false), (64, true)] {
                let client = builder.clone().http2(http2).max_concurrent(max_concurrent);
                let client = client.build();
                let all: Vec<_> = (0..41)
                    .map(|_| {
                        let url = format!("{address}/gone");
                        let request = if post {
                            client.post(&url).body("some")
                        } else {
                            client.get(&url)
                        };
                        handle.spawn(async move {
                            let mut response = request.send().await?;
                            response.text().await
                        })
                    })
                    .collect();
                for (number, answer) in all.into_iter().enumerate() {
                    let what = format!("{number} of {max_concurrent} to {address}, {http2}");
                    let text = answer.await.expect("no panic").expect(&what);
                    assert_eq!(text, "gone", "{what}");
                }
            }
        }
    });
}

#[test]
fn nginx_answers_with_files_compressed_redirected_and_by_http2() {
    let nginx = nginx(5);
    let (plain, secure, page) = (nginx.plain, nginx.secure, nginx.page.clone());
    run(|handle| async move {
        let client = Client::builder(&handle).roots(nginx.roots.clone()).build();
        let addresses = [
            (format!("http://127.0.0.1:{plain}"), Version::HTTP_11),
            (format!("https://localhost:{secure}"), Version::HTTP_2),
        ];
        for (address, version) in addresses {
            // More requests than nginx allows on one connection.
            for _ in 0..12 {
                let mut response = client
                    .get(&format!("{address}/moved"))
                    .send()
                    .await
                    .expect("a response");
                assert_eq!(response.version(), version);
                assert!(response.url().ends_with("/page.txt"), "{}", response.url());
                assert_eq!(response.header("content-length"), None, "it was compressed");
                assert!(response.text().await.expect("a text") == page);
            }
            let part = client
                .get(&format!("{address}/page.txt"))
                .header("range", "bytes=2-5");
            let mut part = part
                .header("accept-encoding", "identity")
                .send()
                .await
                .expect("a response");
            assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
            assert_eq!(part.text().await.expect("a text"), "line");
            let mut gone = client
                .get(&format!("{address}/gone"))
                .send()
                .await
                .expect("a response");
            assert_eq!(
                (
                    gone.status().as_u16(),
                    gone.text().await.expect("a text").as_str()
                ),
                (410, "gone")
            );
        }
    });
}

const NODE: &str = "
const answer = (request, response) => {
    if (request.url === '/early') { response.writeEarlyHints({ link: '</a.css>; rel=preload' }); }
    response.setHeader('set-cookie', 'seen=yes');
    response.setHeader('x-version', request.httpVersion);
    response.setHeader('x-cookie', request.headers.cookie || 'none');
    request.pipe(response);
};
const one = require('http').createServer(answer).listen(0, '127.0.0.1', () => {
    const two = require('http2').createServer(answer).listen(0, '127.0.0.1', () => {
        console.log(one.address().port + ' ' + two.address().port);
    });
});
";

#[test]
fn node_echoes_by_each_version() {
    let mut command = Command::new("node");
    command
        .args(["-e", NODE])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut node = Program(command.spawn().expect("apt-get install nodejs"));
    let mut ports = String::new();
    BufReader::new(node.0.stdout.take().expect("a pipe"))
        .read_line(&mut ports)
        .expect("a line");
    let ports: Vec<u16> = ports
        .split_whitespace()
        .map(|port| port.parse().expect("a port"))
        .collect();
    run(|handle| async move {
        let builder = Client::builder(&handle).cookies();
        let clients = [
            builder.clone().build(),
            builder.http2_prior_knowledge().build(),
        ];
        for ((client, port), version) in clients.into_iter().zip(ports).zip(["1.1", "2.0"]) {
            let body: Vec<u8> = (0..2_000_000_u32)
                .map(|number| (number % 251) as u8)
                .collect();
            for cookie in ["none", "seen=yes"] {
                let url = format!("http://127.0.0.1:{port}/");
                let mut response = client
                    .post(&url)
                    .body(body.clone())
                    .send()
                    .await
                    .expect("a response");
                assert_eq!(
                    (response.header("x-version"), response.header("x-cookie")),
                    (Some(version), Some(cookie))
                );
                assert!(response.bytes().await.expect("all of it") == body);
            }
            // 103 comes before the response and is not the response.
            let early = client
                .post(&format!("http://127.0.0.1:{port}/early"))
                .body("last")
                .send()
                .await;
            let mut early = early.expect("a response");
            assert_eq!(
                (early.status(), early.text().await.expect("a text").as_str()),
                (StatusCode::OK, "last")
            );
        }
    });
}
