//! Offers 200 MB to a peer that does not read, and measures the memory that this costs.

use std::{
    cell::Cell,
    convert::Infallible,
    fs,
    future::{Future, poll_fn},
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use entwined::{
    Handle, Standalone,
    process::{Command, Io},
    protocol::{self, Connection, Flow, Protocol},
    rpc::{self, Items, Methods},
    tls::{Acceptor, Connector, Roots, development},
    transport::{ByteStream, memory, tcp, unix},
};
use entwined_http::{self as http, Body, Router};

use futures_io::AsyncWrite;

use crate::{Outcome, in_its_own, memory as memory_of};

const KINDS: [&str; 8] = [
    "tcp", "unix", "tls", "process", "memory", "async", "rpc", "http",
];
const OFFERED: usize = 200_000_000;
const PIECE: [u8; 10_000] = [b'x'; 10_000];
/// How long the data is offered.
const TIME: Duration = Duration::from_secs(2);

pub fn measure_all() -> Outcome {
    println!("{OFFERED} bytes for a peer that does not read, offered for {TIME:?}");
    println!(
        "{:<9} {:>24} {:>26}",
        "", "bytes asked for", "peak above idle, KiB"
    );
    KINDS.iter().try_for_each(|kind| in_its_own("unread", kind))
}

pub fn measure(kind: &str) -> Outcome {
    let reactor = Standalone::new()?;
    let handle = reactor.handle();
    let (given, kind) = (Rc::new(Cell::new(0)), kind.to_owned());
    handle.clone().spawn(async move {
        let offering = open(&kind, &handle, &given).await.expect("a connection");
        // Wait so that the pages of the code are loaded.
        handle.sleep(Duration::from_millis(50)).await;
        fs::write("/proc/self/clear_refs", "5").expect("proc(5)");
        let idle = memory_of("self", "VmRSS").expect("Linux");
        let held = offering.await;
        handle.sleep(TIME).await;
        let peak = memory_of("self", "VmHWM").expect("Linux");
        assert!(
            given.get() > 0 && given.get() < OFFERED,
            "{} bytes were asked for",
            given.get()
        );
        println!(
            "{kind:<9} {:>24} {:>26}",
            given.get(),
            peak.saturating_sub(idle)
        );
        drop(held);
        handle.stop();
    });
    Ok(reactor.run()?)
}

/// Produces pieces as long as they are accepted.
struct Producer {
    given: Rc<Cell<usize>>,
}

impl Producer {
    fn offer(&self, connection: &Connection) {
        while self.given.get() < OFFERED {
            self.given.set(self.given.get() + PIECE.len());
            match connection.write(&PIECE) {
                Flow::Open => {}
                Flow::Full => return,
                Flow::Closed => panic!("it was closed"),
            }
        }
    }
}

impl Protocol for Producer {
    fn connection_made(&mut self, connection: &Connection) {
        self.offer(connection);
    }

    fn data_received(&mut self, _: &Connection, _: &[u8]) {}

    fn resume_writing(&mut self, connection: &Connection) {
        self.offer(connection);
    }
}

type Held = Box<dyn std::any::Any>;
type Offering = Pin<Box<dyn Future<Output = Held>>>;

/// Opens a connection of this kind; returns both ends, and the function that begins to offer.
async fn open(kind: &str, handle: &Handle, given: &Rc<Cell<usize>>) -> Outcome<Offering> {
    let (own, given) = (handle.clone(), given.clone());
    let (near, far): (Box<dyn ByteStream>, Held) = match kind {
        "tcp" | "async" => {
            let (near, far) = tcp_pair(handle).await?;
            (Box::new(near), Box::new(far))
        }
        "unix" => {
            let (near, far) = unix::pair(handle)?;
            (Box::new(near), Box::new(far))
        }
        "memory" => {
            let (near, far) = memory::pair(handle);
            (Box::new(near), Box::new(far))
        }
        "process" => {
            // It reads nothing.
            let mut process = Command::new("sleep")
                .args(["100"])
                .stdin(Io::Stream)
                .kill_on_drop(true)
                .spawn(handle)?;
            (
                Box::new(process.take_stdin().ok_or("a stream")?),
                Box::new(process),
            )
        }
        "tls" => {
            let identity = development::identity(["localhost"])?;
            let connector = Connector::builder()
                .roots(Roots::only(identity.certificates()))
                .build()?;
            let (near, far) = unix::pair(handle)?;
            let mut near: Box<dyn ByteStream> =
                Box::new(Acceptor::builder(identity).build()?.accept(near));
            let mut far: Box<dyn ByteStream> = Box::new(connector.connect(far, "localhost")?);
            let shaker = handle.clone();
            let shaking = handle.spawn(async move {
                far.established(&shaker, Duration::from_secs(10))
                    .await
                    .expect("a handshake");
                far
            });
            near.established(handle, Duration::from_secs(10)).await?;
            (near, Box::new(shaking.await?))
        }
        "rpc" => return rpc_items(handle, given),
        "http" => return http_body(handle, given).await,
        other => return Err(format!("there is no kind {other}").into()),
    };
    if kind == "async" {
        return Ok(Box::pin(async move {
            let mut near = near;
            let writing = own.spawn(async move {
                while given.get() < OFFERED {
                    let count = poll_fn(|cx| Pin::new(&mut near).poll_write(cx, &PIECE))
                        .await
                        .expect("written");
                    given.set(given.get() + count);
                }
            });
            Box::new((far, writing)) as Held
        }));
    }
    Ok(Box::pin(async move {
        Box::new((far, protocol::start(&own, near, Producer { given }))) as Held
    }))
}

async fn tcp_pair(handle: &Handle) -> Outcome<(entwined::transport::Stream, TcpStream)> {
    let listener = tcp::listen(handle, (Ipv4Addr::LOCALHOST, 0))?;
    let far = TcpStream::connect(listener.local_address().tcp().ok_or("TCP")?)?;
    Ok((listener.accept().await?, far))
}

/// A method with many results, whose caller reads none of them.
fn rpc_items(handle: &Handle, given: Rc<Cell<usize>>) -> Outcome<Offering> {
    let (near, far) = unix::pair(handle)?;
    let mut methods = Methods::new();
    methods.add_stream("all", move |_, (): (), items: Items<String>| {
        let (given, piece) = (given.clone(), "x".repeat(PIECE.len()));
        async move {
            while given.get() < OFFERED {
                given.set(given.get() + PIECE.len());
                items.send(&piece).await?;
            }
            Ok(())
        }
    });
    rpc::start(handle, near, methods);
    let caller = rpc::start(handle, far, Methods::new());
    Ok(Box::pin(async move {
        Box::new((caller.stream::<String>("all", &()), caller)) as Held
    }))
}

/// A response whose client does not read it.
async fn http_body(handle: &Handle, given: Rc<Cell<usize>>) -> Outcome<Offering> {
    let router = Router::new().get("/", move || {
        let given = given.clone();
        let pieces = futures_lite::stream::iter(std::iter::from_fn(move || {
            given.set(given.get() + PIECE.len());
            (given.get() < OFFERED).then(|| Ok::<_, Infallible>(PIECE.to_vec().into()))
        }));
        std::future::ready(Body::stream(pieces))
    });
    let server = http::serve(tcp::listen(handle, (Ipv4Addr::LOCALHOST, 0))?, router);
    let address: SocketAddr = server.local_address().tcp().ok_or("TCP")?;
    Ok(Box::pin(async move {
        let mut client = TcpStream::connect(address).expect("a connection");
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .expect("written");
        Box::new((server, client)) as Held
    }))
}
