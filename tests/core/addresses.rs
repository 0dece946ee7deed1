//! Addresses, and what TCP does with them.

use std::{
    error::Error,
    future::Future,
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use entwined::{
    Handle, Standalone,
    reactor::RunError,
    transport::{AsyncRead, AsyncWrite, ConnectError, IntoSocketAddr, Stream, tcp, udp},
};
use rustix::net::{self, SendFlags};

#[test]
fn an_address_can_be_written_in_every_form_of_std_that_needs_no_lookup() {
    let expected: SocketAddr = "127.0.0.1:80".parse().expect("an address");
    fn read(address: impl IntoSocketAddr) -> SocketAddr {
        address.into_socket_addr().expect("an address")
    }
    assert_eq!(read("127.0.0.1:80"), expected);
    assert_eq!(read(String::from("127.0.0.1:80")), expected);
    assert_eq!(read(String::from("127.0.0.1:80")), expected);
    assert_eq!(read(("127.0.0.1", 80)), expected);
    assert_eq!(read((Ipv4Addr::LOCALHOST, 80)), expected);
    assert_eq!(read(([127, 0, 0, 1], 80)), expected);
    assert_eq!(read(expected), expected);
    assert_eq!(read("[::1]:80"), read((Ipv6Addr::LOCALHOST, 80)));
}

#[test]
fn a_text_that_is_not_an_address_is_an_error_that_shows_one() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let error = tcp::listen(&handle, "localhost:80").expect_err("a name");
    assert_eq!(
        error.to_string(),
        "cannot listen: \"localhost:80\" is not an address and port, such as 127.0.0.1:8080"
    );
    assert!(udp::bind(&handle, "127.0.0.1").is_err());
    assert!(udp::bind_shared(&handle, "").is_err());
    assert!(udp::connect(&handle, ("localhost", 80)).is_err());
    let connecting = handle.clone();
    let error = reactor
        .block_on(async move { Ok::<_, RunError>(tcp::connect(&connecting, "localhost:80").await) })
        .expect("the run is not stopped")
        .expect_err("a name");
    assert!(matches!(error, ConnectError::Other { .. }));
    assert_eq!(
        error.to_string(),
        "cannot connect: \"localhost:80\" is not an address and port, such as 127.0.0.1:8080"
    );
}

/// What `fn main() -> Result<(), Box<dyn Error>>` prints.
fn printed(error: impl Error + 'static) -> String {
    let error: Box<dyn Error> = Box::new(error);
    format!("{error:?}")
}

#[test]
fn an_error_that_main_returns_prints_its_message() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let text = printed(tcp::listen(&handle, address).expect_err("it is taken"));
    let message = format!(
        "cannot listen on {address}: another program listens there; choose another port, or port \
         0 for a free one"
    );
    assert!(text.starts_with(&message), "{text}");
    assert!(text.contains("os error"), "{text}");
    drop(taken);
    let connecting = handle.clone();
    let refused = reactor
        .block_on(async move { Ok::<_, RunError>(tcp::connect(&connecting, address).await) })
        .expect("the run is not stopped")
        .expect_err("nobody listens");
    let text = printed(refused);
    assert!(
        text.starts_with(&format!("nobody listens on {address}: ")),
        "{text}"
    );
}

/// Runs a future to its end, in one run.
pub(crate) fn block_on<T: 'static, F: Future<Output = T> + 'static>(
    reactor: &Standalone,
    make: impl FnOnce(Handle) -> F,
) -> T {
    let future = make(reactor.handle());
    reactor
        .block_on(async move { Ok::<_, RunError>(future.await) })
        .expect("the run is not stopped")
}

/// Reads six bytes, in as many reads as it takes.
async fn read_six(handle: &Handle, stream: &mut Stream) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < 6 {
        let mut buffer = [0; 64];
        let next =
            std::future::poll_fn(|cx| std::pin::Pin::new(&mut *stream).poll_read(cx, &mut buffer));
        match handle.timeout(Duration::from_secs(5), next).await {
            Ok(Ok(count)) if count > 0 => read.extend_from_slice(&buffer[..count]),
            other => panic!("{other:?} after {read:?}"),
        }
    }
    read
}

/// A read stops at the mark of urgent data, with more behind it.
#[test]
fn what_follows_urgent_data_is_read() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let listener = tcp::listen(&handle, "127.0.0.1:0").expect("a listener");
    let mut client =
        TcpStream::connect(listener.local_address().tcp().expect("TCP")).expect("a peer");
    client.write_all(b"abc").expect("sent");
    net::send(&client, b"!", SendFlags::OOB).expect("sent");
    client.write_all(b"def").expect("sent");
    client
        .shutdown(std::net::Shutdown::Write)
        .expect("shut down");
    net::send(&client, b"", SendFlags::empty()).ok();
    let read = block_on(&reactor, |handle| async move {
        let mut stream = listener.accept().await.expect("a connection");
        handle.sleep(Duration::from_millis(5)).await;
        read_six(&handle, &mut stream).await
    });
    assert_eq!(read, b"abcdef");
    let _ = client.read(&mut [0]);
}

/// The urgent data may come before the event of what is in front of it, or after that, or while it
/// is read.
#[test]
fn urgent_data_at_any_moment_hides_nothing() {
    const ROUNDS: usize = 300;
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let listener = tcp::listen(&handle, "127.0.0.1:0").expect("a listener");
    let address = listener.local_address().tcp().expect("TCP");
    let peer = thread::spawn(move || {
        let mut client = TcpStream::connect(address).expect("a connection");
        client.set_nodelay(true).expect("an option");
        for round in 0..ROUNDS {
            let pause = || (0..round % 7).for_each(|_| thread::yield_now());
            client.write_all(b"abc").expect("sent");
            pause();
            net::send(&client, b"!", SendFlags::OOB).expect("sent");
            pause();
            client.write_all(b"def").expect("sent");
            client.read_exact(&mut [0]).expect("an answer");
        }
    });
    block_on(&reactor, |handle| async move {
        let mut stream = listener.accept().await.expect("a connection");
        for round in 0..ROUNDS {
            let read = read_six(&handle, &mut stream).await;
            assert_eq!(read, b"abcdef", "round {round}");
            let answered =
                std::future::poll_fn(|cx| std::pin::Pin::new(&mut stream).poll_write(cx, b"."));
            assert_eq!(answered.await.expect("sent"), 1);
        }
    });
    peer.join().expect("the peer has ended");
}

/// A peer chooses the path of its socket, and a proxy what it says of one. Both come into logs.
#[test]
fn an_address_is_one_line_without_control_characters() {
    use entwined::transport::{Address, UnixAddress};
    let shown = |path: &str| Address::Unix(UnixAddress::Path(path.into())).to_string();
    assert_eq!(shown("/run/a b/\u{e9}.sock"), "/run/a b/\u{e9}.sock");
    assert_eq!(
        shown("/run/a\nERROR b\r\u{1b}[2J\u{9b}\u{7f}"),
        "/run/a\\nERROR b\\r\\u{1b}[2J\\u{9b}\\u{7f}"
    );
}
