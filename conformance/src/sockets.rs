//! Features of transports below layers, passing file descriptors, and socket files: behaviours 47,
//! 48 and 63.

use std::{
    future::{pending, poll_fn},
    io::{self, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    pin::Pin,
    time::Duration,
};

use futures_io::{AsyncRead, AsyncWrite};

use super::{
    backend::backend,
    rig::{Count, Rig, Scripted, read_to_end},
};
use entwined::{
    forward_stream, protocol,
    transport::{Address, ByteStream, Stream, UnixAddress, unix},
};

/// A layer above another stream that adds only a name.
struct Layer<S> {
    name: &'static str,
    below: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Layer<S> {
    forward_stream!(below: poll_read);
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Layer<S> {
    forward_stream!(below: poll_write, poll_write_vectored, poll_flush, poll_close);
}

impl<S: ByteStream> ByteStream for Layer<S> {
    forward_stream!(below: local_address, peer_address, abort, below);
}

pub(super) fn b47_features_are_found_below_the_layers_and_what_is_lacking_is_an_answer_over_unix() {
    let (rig, ended) = (Rig::new(), Count::default());
    let (a, _b) = unix::pair(&rig.handle).expect("two streams");
    let seen = ended.clone();
    let protocol = Scripted::new().made(move |connection| {
        let credentials = connection.ask(|stream: &Stream| stream.peer_credentials());
        let credentials = credentials.expect("a socket below").expect("a Unix socket");
        assert_eq!(credentials.pid.map(u32::from), Some(std::process::id()));
        assert_eq!(credentials.uid, rustix::process::getuid().as_raw());
        assert_eq!(
            connection.ask(|layer: &Layer<Stream>| layer.name),
            Some("a layer")
        );
        // There is no such layer, and Unix sockets have no such option.
        assert_eq!(connection.ask(|_: &Layer<Layer<Stream>>| ()), None);
        assert!(
            connection
                .ask(|stream: &Stream| stream.set_nodelay(true))
                .expect("a socket below")
                .is_err()
        );
        assert_eq!(
            *connection.peer_address(),
            Address::Unix(UnixAddress::Unnamed)
        );
        assert_eq!(connection.peer_address().tcp(), None);
        seen.add(1);
    });
    let connection = protocol::start(
        &rig.handle,
        Layer {
            name: "a layer",
            below: a,
        },
        protocol,
    );
    rig.complete(ended.reached(1));
    assert_eq!(
        connection.ask(|_: &Stream| ()),
        None,
        "the connection is over"
    );
}

/// Sends `bytes` together with a socket over `stream`. Returns the other end of that socket, which
/// reads the end when all copies are closed.
async fn send_a_socket(stream: &Stream, bytes: &[u8]) -> UnixStream {
    let (kept, given) = UnixStream::pair().expect("two sockets");
    kept.set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    let sent = stream
        .send_with_fds(bytes, &[given.as_fd()])
        .await
        .expect("sent");
    assert_eq!(sent, bytes.len());
    kept
}

async fn receive(stream: &mut Stream, buffer: &mut [u8]) -> usize {
    poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, buffer))
        .await
        .expect("data")
}

pub(super) fn b48_fds_arrive_with_their_bytes_over_unix() {
    let rig = Rig::new();
    let (from, mut to) = unix::pair(&rig.handle).expect("two streams");
    to.receive_fds().expect("a Unix socket");
    rig.complete(async move {
        let mut buffer = [0; 64];
        for round in 0..5_u8 {
            let kept = send_a_socket(&from, &[round; 10]).await;
            assert_eq!(receive(&mut to, &mut buffer).await, 10);
            assert_eq!(buffer[..10], [round; 10]);
            let mut fds = to.take_fds();
            assert_eq!(fds.len(), 1);
            let mut arrived = UnixStream::from(fds.remove(0));
            arrived.write_all(b"through").expect("written");
            drop(arrived);
            assert_eq!(read_to_end(kept).expect("the end"), b"through");
            assert!(to.take_fds().is_empty());
        }
    });
}

pub(super) fn b48_unclaimed_fds_are_closed_over_unix() {
    let rig = Rig::new();
    let (from, mut to) = unix::pair(&rig.handle).expect("two streams");
    let (plain_from, mut plain_to) = unix::pair(&rig.handle).expect("two streams");
    to.receive_fds().expect("a Unix socket");
    rig.complete(async move {
        let mut buffer = [0; 64];
        // The receiver did not ask for fds. Linux does not let them through since 6.16.
        let (end, kept) = UnixStream::pair().expect("two sockets");
        let sent = plain_from.send_with_fds(b"!", &[end.as_fd()]).await;
        drop(end);
        match sent {
            Ok(_) => assert_eq!(receive(&mut plain_to, &mut buffer).await, 1),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
        assert_eq!(read_to_end(kept).expect("the end"), b"");
        // Nobody claims the fds, and their number has a limit.
        let mut readers = Vec::new();
        for _ in 0..70 {
            readers.push(send_a_socket(&from, b"!").await);
            assert_eq!(receive(&mut to, &mut buffer).await, 1);
        }
        for reader in readers.drain(64..) {
            assert_eq!(read_to_end(reader).expect("the end: beyond the bound"), b"");
        }
        // Received but unclaimed, or not received at all, when the stream is dropped.
        let unread = send_a_socket(&from, b"!").await;
        drop(to);
        for reader in readers.into_iter().chain([unread]) {
            assert_eq!(read_to_end(reader).expect("the end"), b"");
        }
        // More fds than a message can carry are refused.
        let many = vec![from.as_fd(); 65];
        let refused = plain_from
            .send_with_fds(b"!", &many)
            .await
            .expect_err("too many");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    });
}

pub(super) fn b63_socket_files_end_with_the_run() {
    let rig = Rig::new();
    let folder = std::env::temp_dir().join(format!(
        "entwined-b63-{}-{}",
        std::process::id(),
        backend()
            .name
            .replace(|letter: char| !letter.is_ascii_alphanumeric(), "-")
    ));
    std::fs::create_dir_all(&folder).expect("a folder");
    let (path, name) = (folder.join("socket"), folder.join("datagrams"));
    let (file, handle) = (path.clone(), rig.handle.clone());
    let datagrams = UnixAddress::Path(name.clone());
    rig.complete(async move {
        // A task keeps both until the run ends.
        let listener = unix::listen(&handle, &file).expect("a listener");
        let datagrams = unix::datagram(&handle, &datagrams).expect("a socket");
        handle.spawn(async move {
            let _kept = (listener, datagrams);
            pending::<()>().await
        });
        assert!(file.exists());
    });
    assert!(!path.exists() && !name.exists());
    let _ = std::fs::remove_dir_all(&folder);
}
