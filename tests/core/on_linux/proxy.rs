//! The PROXY protocol of another program.

use std::{
    fs, io,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    os::unix::net::UnixListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
};

use crate::{proxy::serve_who, run::run};
use entwined::{endpoint, transport::tcp};

/// A process that is killed when the test ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn haproxy_tells_who_its_client_is() {
    let folder: PathBuf =
        std::env::temp_dir().join(format!("entwined-haproxy-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let made = folder.clone();
    let said = run(|handle| async move {
        let server = serve_who(&handle);
        let backend = server.local_address().to_string();
        let said = handle.defer_to_thread(move |_| {
            let mut said = Vec::new();
            for version in [
                "send-proxy",
                "send-proxy-v2",
                "send-proxy-v2 proxy-v2-options unique-id",
            ] {
                // The test makes the listening socket and passes it on, so nobody has to wait for
                // it.
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                    .map_err(|error| error.to_string())?;
                let address = listener.local_addr().map_err(|error| error.to_string())?;
                let configuration = format!(
                    "defaults\n mode tcp\n \
                     timeout connect 5s\n timeout client 5s\n timeout server 5s\n\
                     listen test\n bind fd@0\n server one {backend} {version}\n"
                );
                let file = made.join("haproxy.cfg");
                fs::write(&file, configuration).map_err(|error| error.to_string())?;
                let mut haproxy = Command::new("haproxy");
                haproxy
                    .args(["-db", "-f"])
                    .arg(&file)
                    .stdin(OwnedFd::from(listener));
                haproxy.stdout(Stdio::null()).stderr(Stdio::null());
                let haproxy = haproxy
                    .spawn()
                    .map_err(|error| format!("apt-get install haproxy: {error}"))?;
                let _haproxy = Killed(haproxy);
                let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
                let client = stream.local_addr().map_err(|error| error.to_string())?;
                stream
                    .write_all(b"hello")
                    .map_err(|error| error.to_string())?;
                let mut text = String::new();
                stream
                    .read_to_string(&mut text)
                    .map_err(|error| error.to_string())?;
                said.push((client, text));
            }
            Ok::<_, String>(said)
        });
        let said = said.await.expect("answers");
        drop(server);
        said
    });
    fs::remove_dir_all(&folder).expect("it is there");
    assert_eq!(said.len(), 3);
    for (client, text) in said {
        assert!(
            text.starts_with(&format!("{client} to 127.0.0.1:")),
            "{client}: {text}"
        );
        assert!(text.ends_with("hello"), "{text}");
    }
}

#[test]
fn a_target_that_is_not_there_ends_the_connection() {
    run(|handle| async move {
        let listener = tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_address().tcp().expect("TCP");
        let forward = endpoint::forward(
            listener,
            endpoint::client("unix:/nowhere/at/all").expect("an endpoint"),
        );
        let heard = handle.defer_to_thread(move |_| {
            let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
            Ok::<_, String>(stream.read(&mut [0; 8]).map_err(|error| error.kind()))
        });
        assert_eq!(
            heard.await.expect("an end"),
            Err(io::ErrorKind::ConnectionReset)
        );
        drop(forward);
    });
}

/// Sending to the target failed, and the answer that it had given before was lost.
#[test]
fn the_answer_of_a_target_that_does_not_read_all_is_passed_on() {
    let name = format!("entwined-early-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let target = UnixListener::bind(&path).expect("a socket");
    let named = path.clone();
    let heard = run(|handle| async move {
        let answering = handle.defer_to_thread(move |_| {
            let answer = || -> io::Result<()> {
                let (mut stream, _) = target.accept()?;
                stream.read_exact(&mut [0; 5])?;
                stream.write_all(&[b'n'; 100_000])
            };
            answer().map_err(|error| error.to_string())
        });
        let listener = tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_address().tcp().expect("TCP");
        let client = format!("unix:{}", named.display());
        let forward = endpoint::forward(listener, endpoint::client(&client).expect("an endpoint"));
        let heard = handle.defer_to_thread(move |_| {
            let talk = || -> io::Result<usize> {
                let mut stream = TcpStream::connect(address)?;
                let mut writing = stream.try_clone()?;
                // Until nobody takes it any more.
                let writer = thread::spawn(move || {
                    for _ in 0..1_000 {
                        if writing.write_all(&[b'x'; 100_000]).is_err() {
                            break;
                        }
                    }
                });
                let mut all = Vec::new();
                let end = stream.read_to_end(&mut all);
                writer.join().expect("no panic");
                end?;
                Ok(all.len())
            };
            talk().map_err(|error| error.to_string())
        });
        let heard = heard.await;
        answering.await.expect("an answer");
        drop(forward);
        heard
    });
    fs::remove_file(&path).expect("it is there");
    assert_eq!(heard, Ok(100_000));
}
