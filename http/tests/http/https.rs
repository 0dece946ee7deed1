//! HTTPS, with curl.

use std::process::{Command, Stdio};

use entwined::{deferred::Interrupted, tls::Acceptor, transport::tcp};
use entwined_http::{self as http, Router};

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
