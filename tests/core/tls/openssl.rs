//! TLS with other programs: openssl, and curl for HTTP.

use std::{
    cell::RefCell,
    fs,
    future::Future,
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    rc::Rc,
};

use entwined::{
    Handle, Standalone,
    deferred::Interrupted,
    protocol::{self, Echo},
    tls::{Acceptor, Connector, Identity, Roots},
    transport::tcp,
};

use crate::{
    tls::pem,
    tls::support::{close, read_to_end, write_all},
};

/// A certificate for localhost and its key, in files that are removed at the end.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("entwined-tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let (certificate, key) = pem(&["localhost", "127.0.0.1"]);
        fs::write(folder.join("certificate.pem"), certificate).expect("written");
        fs::write(folder.join("key.pem"), key).expect("written");
        Files(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    fn certificate(&self) -> String {
        self.path("certificate.pem")
    }

    fn identity(&self) -> Identity {
        Identity::from_pem_files(self.certificate(), self.path("key.pem"))
            .expect("what was just written")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(Path::new(&self.0));
    }
}

/// Runs `future` on a reactor of its own.
fn complete<T: 'static>(future: impl FnOnce(Handle) -> Box<dyn Future<Output = T> + Unpin>) -> T {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let result = Rc::new(RefCell::new(None));
    let (slot, future) = (result.clone(), future(handle.clone()));
    handle.clone().spawn(async move {
        *slot.borrow_mut() = Some(future.await);
        handle.stop();
    });
    reactor.run().expect("a run");
    result.take().expect("a result")
}

fn start(program: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|error| {
        panic!("{program} cannot be started ({error}): apt-get install {program}")
    })
}

/// Starts an echo server with TLS, and runs `talk` on another thread.
fn with_echo(files: &Files, talk: impl FnOnce(SocketAddr) -> String + Send + 'static) -> String {
    let acceptor = Acceptor::builder(files.identity())
        .build()
        .expect("an identity");
    complete(|handle| {
        let listener = tcp::listen(&handle, ([127, 0, 0, 1], 0)).expect("a free port");
        let address = listener.local_address().tcp().expect("TCP");
        let server = protocol::serve(acceptor.listen(listener), |_| Some(Echo));
        Box::new(Box::pin(async move {
            let said = handle
                .defer_to_thread(move |_| Ok::<_, Interrupted>(talk(address)))
                .await
                .expect("an answer");
            drop(server);
            said
        }))
    })
}

#[test]
fn openssl_s_client_verifies_speaks_and_resumes() {
    for version in ["-tls1_2", "-tls1_3"] {
        let files = Files::new(version);
        let (certificate, session) = (files.certificate(), files.path("session.pem"));
        let said = with_echo(&files, move |address| {
            let address = address.to_string();
            let client = [
                "s_client",
                "-connect",
                &address,
                "-servername",
                "localhost",
                version,
                "-CAfile",
                &certificate,
            ];
            let client = [
                &client[..],
                &[
                    "-verify_return_error",
                    "-verify_hostname",
                    "localhost",
                    "-ign_eof",
                ],
            ]
            .concat();
            // s_client does not react to the echo of a line with only a Q. The server would have to
            // close, so the client closes instead.
            let first = speak(&[&client[..], &["-sess_out", &session]].concat());
            let second = speak(&[&client[..], &["-sess_in", &session]].concat());
            first + "\n=====\n" + &second
        });
        let (first, second) = said.split_once("\n=====\n").expect("two");
        for said in [first, second] {
            assert!(said.contains("hello from openssl"), "{said}");
            assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
        }
        assert!(first.contains("\nNew, TLSv1."), "{first}");
        assert!(second.contains("\nReused, TLSv1."), "{second}");
    }
}

/// Makes a client send a line, waits for the echo, then makes it quit.
fn speak(arguments: &[&str]) -> String {
    let arguments: Vec<_> = arguments
        .iter()
        .copied()
        .filter(|argument| *argument != "-ign_eof")
        .collect();
    let mut child = start("openssl", &arguments);
    let mut input = child.stdin.take().expect("a pipe");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    input.write_all(b"hello from openssl\n").expect("written");
    let mut said = String::new();
    while output.read_line(&mut said).expect("a line") > 0 && !said.contains("\nhello from openssl")
    {
    }
    // At the end of its input, it closes the connection.
    drop(input);
    output.read_to_string(&mut said).expect("the rest");
    child.wait().expect("an end");
    said
}

#[test]
fn openssl_s_server_is_verified_and_spoken_to() {
    for version in ["-tls1_2", "-tls1_3"] {
        let files = Files::new(&format!("server{version}"));
        let (certificate, key) = (files.certificate(), files.path("key.pem"));
        // It sends back each line, reversed.
        let arguments = [
            "s_server",
            "-accept",
            "127.0.0.1:0",
            "-cert",
            &certificate,
            "-key",
            &key,
            version,
            "-rev",
        ];
        let mut server = start("openssl", &arguments);
        let mut output = BufReader::new(server.stdout.take().expect("a pipe"));
        let mut line = String::new();
        while !line.starts_with("ACCEPT") {
            line.clear();
            assert!(
                output.read_line(&mut line).expect("a line") > 0,
                "openssl s_server has ended"
            );
        }
        let address: SocketAddr = line["ACCEPT".len()..].trim().parse().expect("an address");
        let connector = Connector::builder()
            .roots(Roots::only(files.identity().certificates()))
            .build()
            .expect("roots");
        let answer = complete(|handle| {
            Box::new(Box::pin(async move {
                let stream = tcp::connect(&handle, address).await.expect("a server");
                let mut stream = connector.connect(stream, "localhost").expect("a name");
                write_all(&mut stream, b"abc\nCLOSE\n")
                    .await
                    .expect("written");
                let answer = read_to_end(&mut stream).await.expect("an answer");
                close(&mut stream).await.expect("closed");
                answer
            }))
        });
        assert_eq!(String::from_utf8_lossy(&answer), "cba\n", "{version}");
        server.kill().expect("it runs");
        server.wait().expect("an end");
    }
}
