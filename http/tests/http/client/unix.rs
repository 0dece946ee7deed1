//! Servers behind Unix sockets.

use std::{cell::Cell, io, rc::Rc};

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
