//! Servers behind Unix sockets.

use std::{
    cell::Cell,
    io::{self, Read, Write},
    os::unix::net::UnixListener,
    rc::Rc,
    thread,
};

use entwined::transport::{ByteStream, unix};
use entwined_http::{
    self as http,
    client::{Client, ClientError},
};

use super::router;
use crate::run::run;

#[test]
fn a_server_behind_a_unix_socket_is_reached_by_a_connector() {
    run(|handle| async move {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let server = http::serve(unix::listen(&handle, &path).expect("a socket"), router());
        let there = Rc::new(Cell::new(true));
        let client = Client::builder(&handle)
            .connector({
                let handle = handle.clone();
                move |url| {
                    assert!(url.starts_with("http://container/"));
                    let (handle, path, there) = (handle.clone(), path.clone(), there.clone());
                    async move {
                        let missing = || io::Error::from(io::ErrorKind::NotFound);
                        let path = there.replace(false).then_some(path).ok_or_else(missing)?;
                        Ok(Box::new(unix::connect(&handle, path).await?) as Box<dyn ByteStream>)
                    }
                }
            })
            .build();
        let mut response = client
            .get("http://container/hello")
            .send()
            .await
            .expect("a response");
        assert_eq!(
            response.text().await.expect("a text"),
            "HTTP/1.1 container None"
        );
        // The connection is kept and reused when it is free. A response that has not been read
        // still occupies it.
        let _unread = client
            .get("http://container/large")
            .send()
            .await
            .expect("a response");
        assert_eq!(server.connections(), 1);
        match client.get("http://container/hello").send().await {
            Err(ClientError::Establish(error)) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
            other => panic!("{other:?}"),
        }
    });
}

/// The rest of the upload fails before the client is asked for it, or after.
#[test]
fn an_early_answer_is_seen_though_the_server_takes_no_more() {
    const ROUNDS: usize = 30;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let server = thread::spawn(move || {
        for round in 0..ROUNDS {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut taken = vec![0; 1_000 * (1 + round)];
            stream.read_exact(&mut taken).expect("a request");
            let answer =
                "HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 5\r\n\r\nlarge";
            stream.write_all(answer.as_bytes()).expect("a client");
        }
    });
    run(|handle| async move {
        let connecting = handle.clone();
        let client =
            Client::builder(&handle)
                .connector(move |_| {
                    let (handle, path) = (connecting.clone(), path.clone());
                    async move {
                        Ok(Box::new(unix::connect(&handle, path).await?) as Box<dyn ByteStream>)
                    }
                })
                .build();
        for round in 0..ROUNDS {
            let body = vec![b'x'; 3_000_000];
            let sent = client.post("http://container/").body(body).send().await;
            let mut response = sent.unwrap_or_else(|error| panic!("{round}: {error}"));
            assert_eq!(response.status(), 413);
            assert_eq!(response.text().await.expect("all of it"), "large");
        }
    });
    server.join().expect("no panic");
}
