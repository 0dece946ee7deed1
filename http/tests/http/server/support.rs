//! A server on a thread of its own, and peers that send exactly the bytes that a test wants.

use std::{
    cell::RefCell,
    fmt::Write as _,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    rc::Rc,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use entwined::{Handle, Remote, Standalone, transport::tcp};
use entwined_http::{self as http, Config, Router, Server};

/// How long anything may take that should happen at once. Only a failing test waits this long.
pub const LIMIT: Duration = Duration::from_secs(20);

thread_local! {
    /// The server of this thread, for calls from outside.
    static SERVER: RefCell<Option<Rc<Server>>> = const { RefCell::new(None) };
}

/// A server that runs until the test ends, or until it is stopped.
pub struct Site {
    pub address: SocketAddr,
    pub remote: Remote,
    ended: mpsc::Receiver<()>,
}

impl Site {
    pub fn start(router: impl FnOnce(&Handle) -> Router + Send + 'static) -> Self {
        Self::with(Config::default(), router)
    }

    pub fn with(config: Config, router: impl FnOnce(&Handle) -> Router + Send + 'static) -> Self {
        let (tell, address) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            let reactor = Standalone::new().expect("file descriptors");
            let handle = reactor.handle();
            let listener = tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let server = Rc::new(http::serve_with(listener, router(&handle), config));
            let address = server.local_address().tcp().expect("it listens on TCP");
            tell.send((address, handle.remote()))
                .expect("the test waits");
            SERVER.set(Some(server));
            reactor.run().expect("a run without errors");
            drop(SERVER.take());
            // Nobody may be waiting for it.
            let _ = end.send(());
        });
        let (address, remote) = address.recv_timeout(LIMIT).expect("a server");
        Site {
            address,
            remote,
            ended,
        }
    }

    /// Calls `question` with the server, on its thread.
    pub fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&Server) -> R + Send + 'static,
    ) -> R {
        self.remote
            .call(move |_| {
                SERVER.with_borrow(|server| question(server.as_ref().expect("it was not dropped")))
            })
            .expect("the server runs")
    }

    /// Drops the server. Its reactor continues.
    pub fn drop_server(&self) {
        self.remote
            .call(|_| drop(SERVER.take()))
            .expect("the server runs");
    }

    /// Stops the reactor.
    pub fn stop(&self) {
        self.remote
            .call(|handle| handle.stop())
            .expect("the server runs");
    }

    /// Waits for the end of the run.
    pub fn wait_for_end(&self) {
        self.ended.recv_timeout(LIMIT).expect("the run ends");
    }

    pub fn peer(&self) -> Peer {
        Peer::connect(self.address)
    }

    /// Sends a GET request on a new connection and returns the answer.
    pub fn get(&self, path: &str) -> Answer {
        self.peer().get(path)
    }

    /// Waits until `done` is true for the server.
    pub fn wait_until(&self, done: impl Fn(&Server) -> bool + Send + Copy + 'static) {
        let start = Instant::now();
        while !self.ask(move |server| done(server)) {
            assert!(start.elapsed() < LIMIT, "it never comes true");
            thread::yield_now();
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // It may have been stopped, or have ended, before.
        let _ = self.remote.post(|handle| {
            handle.stop();
        });
    }
}

/// The default configuration with one change.
pub fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

/// The answer that a peer got.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    /// All values of a header, in order.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.head.lines().skip(1).filter_map(move |line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The status. Also checks that the connection ends after this answer.
    pub fn closes(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// The client's end of a connection. No wait for the server is longer than [`LIMIT`].
pub struct Peer {
    pub stream: BufReader<TcpStream>,
}

impl Peer {
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&address, LIMIT).expect("a connection"))
    }

    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(LIMIT)).expect("an option");
        stream.set_write_timeout(Some(LIMIT)).expect("an option");
        stream.set_nodelay(true).expect("an option");
        Peer {
            stream: BufReader::new(stream),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .get_mut()
            .write_all(bytes.as_ref())
            .expect("the server reads");
    }

    /// Like `send`, but the server may have ended the connection. Returns whether it has not.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    pub fn post(&mut self, path: &str, content_type: &str, body: &str) -> Answer {
        self.ask(
            "POST",
            path,
            &[("content-type", content_type)],
            body.as_bytes(),
        )
    }

    /// Sends one request with a body of known length, and returns its answer.
    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n");
        for (name, value) in headers {
            write!(request, "{name}: {value}\r\n").expect("a string takes everything");
        }
        if !body.is_empty() {
            write!(request, "content-length: {}\r\n", body.len())
                .expect("a string takes everything");
        }
        request.push_str("\r\n");
        self.send([request.as_bytes(), body].concat());
        self.answer_to(method)
    }

    /// Reads the next answer to anything but HEAD.
    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    pub fn answer_to(&mut self, method: &str) -> Answer {
        let mut answer = self.head();
        if method != "HEAD" && !matches!(answer.status, 204 | 304) {
            answer.body = self.body(&answer);
        }
        answer
    }

    /// Reads an answer without its body.
    pub fn head(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.stream.read_line(&mut head).expect("an answer");
            assert!(
                read > 0,
                "the connection ended within the head of an answer: {head:?}"
            );
        }
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .expect("a status");
        Answer {
            status,
            head,
            body: Vec::new(),
        }
    }

    fn body(&mut self, answer: &Answer) -> Vec<u8> {
        let mut body = Vec::new();
        if let Some(length) = answer.header("content-length") {
            body.resize(length.parse().expect("a length"), 0);
            self.stream.read_exact(&mut body).expect("the whole body");
        } else if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                body.extend(chunk);
            }
        } else {
            self.stream
                .read_to_end(&mut body)
                .expect("a body until the end of the connection");
        }
        body
    }

    /// Reads the next chunk of a chunked body. `None` is the last.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut size = String::new();
        self.stream.read_line(&mut size).expect("a chunk");
        let size = usize::from_str_radix(size.trim(), 16).expect("the size of a chunk");
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk).expect("a whole chunk");
        assert!(chunk.ends_with(b"\r\n"), "a chunk without its line end");
        chunk.truncate(size);
        (size > 0).then_some(chunk)
    }

    /// Whether the server closes the connection in order (`true`) or with a reset (`false`), and
    /// sends nothing more.
    pub fn ends_in_order(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {
                assert!(
                    rest.is_empty(),
                    "more was sent: {:?}",
                    String::from_utf8_lossy(&rest)
                );
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("the connection does not end: {error}"),
        }
    }

    /// Whether nothing at all arrives for this long.
    pub fn hears_nothing_for(&mut self, time: Duration) -> bool {
        self.stream
            .get_ref()
            .set_read_timeout(Some(time))
            .expect("an option");
        let silent = match self.stream.fill_buf() {
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            Ok(_) => false,
        };
        self.stream
            .get_ref()
            .set_read_timeout(Some(LIMIT))
            .expect("an option");
        silent
    }
}
