//! HTTPS, with curl.

use std::{
    future::poll_fn,
    pin::Pin,
    process::{Command, Stdio},
    time::Duration,
};

use entwined::{
    deferred::Interrupted,
    tls::{Acceptor, Connector, Roots, development},
    transport::tcp,
};
use entwined_http::{
    self as http, Config, Router, State,
    client::Client,
    layers::{self, Session, SessionKey},
    websocket::connect,
};
use futures_io::{AsyncRead, AsyncWrite};

use crate::run::run;

/// Runs curl to its end, and returns its standard output and standard error.
fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .arg("-sS")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("curl cannot be started ({error}): apt-get install curl"));
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn http_is_served_over_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let certificate = write("certificate.pem", made.cert.pem());
    let key = write("key.pem", made.signing_key.serialize_pem());
    let said = run(|handle| async move {
        let identity = entwined::tls::Identity::from_pem_files(&certificate, key);
        let acceptor = Acceptor::builder(identity.expect("what was just written"))
            .protocols(["http/1.1"])
            .build()
            .expect("an identity");
        let listener = tcp::listen(&handle, ([127, 0, 0, 1], 0)).expect("a free port");
        let address = listener.local_address().tcp().expect("TCP");
        let router = Router::new().get("/hello", || async { "hello over TLS" });
        let server = http::serve(acceptor.listen(listener), router);
        let talk = move || {
            let url = format!("https://localhost:{}/hello", address.port());
            let resolve = format!("localhost:{}:127.0.0.1", address.port());
            [
                curl(&["--cacert", &certificate, "--resolve", &resolve, &url]),
                curl(&["--resolve", &resolve, &url]),
                curl(&[&format!("http://{address}/hello")]),
            ]
        };
        let said = handle
            .defer_to_thread(move |_| Ok::<_, Interrupted>(talk()))
            .await
            .expect("an answer");
        drop(server);
        said
    });
    assert_eq!(said[0], "hello over TLS");
    assert!(said[1].contains("self-signed certificate"), "{}", said[1]);
    assert!(said[2].contains("curl: ("), "{}", said[2]);
}

/// The end of a connection at rest looked like one that somebody on the way had cut. HTTP/2 did not
/// say which requests it had seen.
#[test]
fn a_connection_at_rest_ends_in_order() {
    for (protocol, asks) in [("http/1.1", true), ("http/1.1", false), ("h2", false)] {
        let came = run(|handle| async move {
            let identity = development::identity(["localhost"]).expect("a name");
            let roots = Roots::only(identity.certificates());
            let acceptor = Acceptor::builder(identity).protocols([protocol]).build();
            let connector = Connector::builder()
                .roots(roots)
                .protocols([protocol])
                .build();
            let listener = tcp::listen(&handle, ([127, 0, 0, 1], 0)).expect("a free port");
            let address = listener.local_address().tcp().expect("TCP");
            let config = Config {
                idle_timeout: Duration::from_millis(50),
                // The handshake counts too, and a busy machine may take long for it.
                head_timeout: Duration::from_secs(1),
                ..Config::default()
            };
            let listener = acceptor.expect("an acceptor").listen(listener);
            let router = Router::new().get("/", || "hello");
            let server = http::serve_with(listener, router, config);
            let stream = tcp::connect(&handle, address).await.expect("it listens");
            let connector = connector.expect("a connector");
            let mut stream = connector.connect(stream, "localhost").expect("a name");
            let mut said = match protocol {
                // The settings, a request, and their acknowledgement.
                "h2" => [
                    &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..],
                    b"\0\0\x0e\x01\x05\0\0\0\x01\x82\x84\x86\x41\x09localhost",
                    b"\0\0\0\x04\x01\0\0\0\0",
                ]
                .concat(),
                _ if asks => b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
                _ => Vec::new(),
            };
            while !said.is_empty() {
                let count = poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, &said)).await;
                drop(said.drain(..count.expect("written")));
            }
            poll_fn(|cx| Pin::new(&mut stream).poll_flush(cx))
                .await
                .expect("sent");
            let (mut all, mut buffer) = (Vec::new(), [0; 1024]);
            loop {
                let count = poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut buffer)).await;
                match count.expect("an end in order") {
                    0 => break,
                    count => all.extend_from_slice(&buffer[..count]),
                }
            }
            drop(server);
            all
        });
        if protocol == "h2" {
            // 8 bytes: no error, and the first stream was the last.
            let goodbye = [0, 0, 8, 7, 0, 0, 0, 0, 0];
            let last = came.windows(9).rposition(|frame| frame == goodbye);
            let last = last.expect("a GOAWAY") + 9;
            assert_eq!(came[last + 4..last + 8], [0; 4]);
        } else if asks {
            assert!(came.ends_with(b"hello"));
        }
    }
}

/// Somebody on the way writes pages of the same name without TLS, and these would have its cookies.
#[test]
fn a_page_without_tls_is_not_one_of_a_server_with_it() {
    let statuses = run(|handle| async move {
        let identity = development::identity(["localhost"]).expect("a name");
        let roots = Roots::only(identity.certificates());
        let acceptor = Acceptor::builder(identity).build().expect("an acceptor");
        let listener = tcp::listen(&handle, ([127, 0, 0, 1], 0)).expect("a free port");
        let port = listener.local_address().tcp().expect("TCP").port();
        let router = Router::new()
            .get("/", || "hello")
            .layer(layers::local_only());
        let server = http::serve(acceptor.listen(listener), router);
        let client = Client::builder(&handle).roots(roots).http2(false).build();
        let mut statuses = Vec::new();
        for origin in ["https://localhost", "http://localhost"] {
            let request = client.get(&format!("https://localhost:{port}/"));
            // As if it were at the usual port.
            let request = request.header("host", "localhost").header("origin", origin);
            let response = request.send().await.expect("a response");
            statuses.push(response.status().as_u16());
        }
        drop(server);
        statuses
    });
    assert_eq!(statuses, [200, 403]);
}

/// Otherwise it goes to whoever answers for the same name without TLS.
#[test]
fn a_token_or_session_that_comes_over_tls_stays_there() {
    for secure in [true, false] {
        let cookies = run(|handle| async move {
            let identity = development::identity(["localhost"]).expect("a name");
            let roots = Roots::only(identity.certificates());
            let acceptor = Acceptor::builder(identity).build().expect("an acceptor");
            let listener = tcp::listen(&handle, ([127, 0, 0, 1], 0)).expect("a free port");
            let port = listener.local_address().tcp().expect("TCP").port();
            let local = layers::local_only().with_token("0123456789abcdef");
            let set = |State(session): State<Session>| session.set("a", &1);
            let router = Router::new().get("/", || "hello").layer(local).nest(
                "/session",
                Router::new()
                    .get("/", set)
                    .layer(layers::sessions(SessionKey::generate())),
            );
            let (server, scheme) = match secure {
                true => (http::serve(acceptor.listen(listener), router), "https"),
                false => (http::serve(listener, router), "http"),
            };
            let client = Client::builder(&handle)
                .roots(roots)
                .max_redirects(0)
                .build();
            let url = format!("{scheme}://localhost:{port}/?token=0123456789abcdef");
            let mut cookies = Vec::new();
            let session = format!("{scheme}://localhost:{port}/session");
            let session = client.get(&session).bearer_auth("0123456789abcdef");
            for request in [client.get(&url), session] {
                let response = request.send().await.expect("a response");
                cookies.push(response.header("set-cookie").unwrap_or("").to_owned());
            }
            drop(server);
            cookies
        });
        for cookie in cookies {
            assert!(cookie.contains('='), "{cookie}");
            assert_eq!(cookie.contains("; Secure"), secure, "{cookie}");
        }
    }
}

/// A folder of them has hundreds of files. Runs alone, in a process of its own: the environment is
/// the whole process's.
#[cfg(unix)]
#[test]
fn the_loop_goes_on_while_a_client_reads_the_roots_of_the_system() {
    const VARIABLE: &str = "ENTWINED_TEST_ROOTS";
    let Ok(client) = std::env::var(VARIABLE) else {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("roots.pem");
        let made = Command::new("mkfifo").arg(&pipe).status();
        assert!(made.is_ok_and(|status| status.success()));
        for client in ["http", "websocket"] {
            let name = "https::the_loop_goes_on_while_a_client_reads_the_roots_of_the_system";
            let status = Command::new(std::env::current_exe().expect("this program"))
                .args(["--exact", name])
                .env(VARIABLE, client)
                .env("SSL_CERT_FILE", &pipe)
                .env_remove("SSL_CERT_DIR")
                .stdout(Stdio::null())
                .status()
                .expect("it starts");
            assert!(status.success(), "{client}: {status}");
        }
        return;
    };
    let (went_on, goes_on) = std::sync::mpsc::channel();
    let writing = std::thread::spawn(move || {
        let went_on = goes_on.recv_timeout(Duration::from_secs(5)).is_ok();
        let pipe = std::env::var_os("SSL_CERT_FILE").expect("a pipe");
        std::fs::write(pipe, "nothing of use").expect("somebody reads");
        went_on
    });
    let error = run(|handle| async move {
        let listener = tcp::listen(&handle, ([127, 0, 0, 1], 0)).expect("a free port");
        let address = listener.local_address().tcp().expect("TCP");
        let own = handle.clone();
        let asking = handle.spawn(async move {
            if client == "http" {
                let request = Client::new(&own).get(&format!("https://{address}/"));
                request.send().await.expect_err("no roots").to_string()
            } else {
                let connected = connect(&own, &format!("wss://{address}/")).await;
                connected.expect_err("no roots").to_string()
            }
        });
        // By then it is connected.
        handle.sleep(Duration::from_millis(100)).await;
        went_on.send(()).expect("it waits for that");
        asking.await.expect("no panic")
    });
    assert!(error.contains("authorities"), "{error}");
    assert!(
        writing.join().expect("no panic"),
        "the pipe held the thread"
    );
}
