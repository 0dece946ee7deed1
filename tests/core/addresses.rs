//! Addresses as they are written in programs, and the errors of those that do not work.

use std::{
    error::Error,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
};

use entwined::{
    Standalone,
    reactor::RunError,
    transport::{ConnectError, IntoSocketAddr, Stream, tcp, udp},
};

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

#[test]
fn a_tcp_socket_from_elsewhere_has_no_delay_either() {
    let reactor = Standalone::new().expect("a reactor");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let socket = TcpStream::connect(address).expect("a connection");
    assert!(!socket.nodelay().expect("an option"));
    let fd = OwnedFd::from(socket.try_clone().expect("a descriptor"));
    let stream = Stream::from_fd(&reactor.handle(), fd).expect("a stream");
    assert!(socket.nodelay().expect("an option"));
    stream.set_nodelay(false).expect("an option");
    assert!(!socket.nodelay().expect("an option"));
}
