//! What remains of 10,000 connections over each transport, after they were opened, used and closed.

use std::{
    fs,
    future::{Future, poll_fn},
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    process::id,
    rc::Rc,
    time::{Duration, Instant},
};

use entwined::{
    Handle, Standalone,
    process::{Command, Io},
    protocol::{self, DatagramProtocol, DatagramTransport, Echo},
    tls::{Acceptor, Connector, Roots, development},
    transport::{Address, ByteStream, memory, tcp, udp, unix},
};

use crate::{Outcome, in_its_own, memory as memory_of};

const KINDS: [&str; 6] = ["tcp", "unix", "tls", "udp", "process", "memory"];
const CONNECTIONS: u32 = 10_000;
/// After this many connections, everything that is kept for reuse has been allocated.
const WARM: u32 = 1_000;
/// Connections open at a time.
const AT_A_TIME: u32 = 50;

pub fn measure_all() -> Outcome {
    println!(
        "{CONNECTIONS} connections opened, used and closed, {AT_A_TIME} at a time: before → after"
    );
    println!(
        "{:<9} {:>10} {:>13} {:>11} {:>11} {:>11} {:>11} {:>21}",
        "", "time", "fds", "children", "sources", "timers", "tasks", "KiB since 1,000th"
    );
    KINDS
        .iter()
        .try_for_each(|kind| in_its_own("connections", kind))
}

type Connect = Rc<dyn Fn() -> Pin<Box<dyn Future<Output = ()>>>>;

pub fn measure(kind: &str) -> Outcome {
    let reactor = Standalone::new()?;
    let handle = reactor.handle();
    let (connect, _server) = opened(kind, &handle)?;
    let kind = kind.to_owned();
    handle.clone().spawn(async move {
        connect().await;
        // Wait until the other side has seen the end.
        handle.sleep(Duration::from_millis(20)).await;
        let (before, start) = (Counts::now(&handle), Instant::now());
        let mut memory = 0;
        for round in 0..CONNECTIONS / AT_A_TIME {
            let all: Vec<_> = (0..AT_A_TIME).map(|_| handle.spawn(connect())).collect();
            for one in all {
                one.await.expect("a connection");
            }
            if round == WARM / AT_A_TIME {
                memory = memory_of("self", "VmRSS").expect("Linux");
            }
        }
        // The other sides see the end of the last ones, and children are reaped.
        let time = start.elapsed();
        let mut after = Counts::now(&handle);
        while after != before && start.elapsed() < 2 * time {
            handle.sleep(Duration::from_millis(1)).await;
            after = Counts::now(&handle);
        }
        let grown = memory_of("self", "VmRSS").expect("Linux") as i64 - memory as i64;
        let show = |get: fn(&Counts) -> usize| format!("{} → {}", get(&before), get(&after));
        println!(
            "{kind:<9} {:>8.2} s {:>13} {:>11} {:>11} {:>11} {:>11} {grown:>21}",
            time.as_secs_f64(),
            show(|counts| counts.fds),
            show(|counts| counts.children),
            show(|counts| counts.sources),
            show(|counts| counts.timers),
            show(|counts| counts.tasks),
        );
        handle.stop();
    });
    Ok(reactor.run()?)
}

#[derive(PartialEq, Eq)]
struct Counts {
    fds: usize,
    children: usize,
    sources: usize,
    timers: usize,
    tasks: usize,
}

impl Counts {
    fn now(handle: &Handle) -> Self {
        let metrics = handle.metrics();
        let fds = fs::read_dir("/proc/self/fd").expect("Linux").count();
        let children =
            fs::read_to_string(format!("/proc/self/task/{}/children", id())).unwrap_or_default();
        Counts {
            fds,
            children: children.split_whitespace().count(),
            sources: metrics.sources,
            timers: metrics.timers,
            tasks: metrics.tasks,
        }
    }
}

async fn talk(mut stream: impl ByteStream) {
    let mut sent = 0;
    while sent < 4 {
        sent += poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, &b"ping"[sent..]))
            .await
            .expect("written");
    }
    poll_fn(|cx| Pin::new(&mut stream).poll_flush(cx))
        .await
        .expect("flushed");
    let (mut seen, mut buffer) = (0, [0; 4]);
    while seen < 4 {
        let count = poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut buffer[seen..]))
            .await
            .expect("an echo");
        assert!(count > 0, "it ended");
        seen += count;
    }
    // An abort, so that no port waits for late packets (TIME_WAIT).
    stream.abort();
}

fn connect<F: Future<Output = ()> + 'static>(make: impl Fn() -> F + 'static) -> Connect {
    Rc::new(move || Box::pin(make()))
}

struct EchoDatagrams;

impl DatagramProtocol for EchoDatagrams {
    fn datagram_received(&mut self, transport: &DatagramTransport, data: &[u8], from: &Address) {
        transport.send_to(data, from);
    }
}

/// A function that opens a connection, and the server that it connects to.
type Opened = (Connect, Option<protocol::Server>);

fn opened(kind: &str, handle: &Handle) -> Outcome<Opened> {
    match kind {
        "tcp" => over_tcp(handle),
        "unix" => over_unix(handle),
        "tls" => over_tls(handle),
        "udp" => over_udp(handle),
        "process" => Ok((to_process(handle), None)),
        "memory" => Ok((in_memory(handle), None)),
        other => Err(format!("there is no transport {other}").into()),
    }
}

fn over_tcp(handle: &Handle) -> Outcome<Opened> {
    let server = protocol::serve(tcp::listen(handle, local())?, |_| Some(Echo));
    let address = server.local_address().tcp().ok_or("TCP")?;
    let handle = handle.clone();
    let dial = move || {
        let handle = handle.clone();
        async move { talk(tcp::connect(&handle, address).await.expect("a connection")).await }
    };
    Ok((connect(dial), Some(server)))
}

fn over_unix(handle: &Handle) -> Outcome<Opened> {
    let name = format!("entwined-bench-{}", id());
    let server = protocol::serve(unix::listen_abstract(handle, &name)?, |_| Some(Echo));
    let handle = handle.clone();
    let dial = move || {
        let (handle, name) = (handle.clone(), name.clone());
        async move {
            talk(
                unix::connect_abstract(&handle, &name)
                    .await
                    .expect("a connection"),
            )
            .await
        }
    };
    Ok((connect(dial), Some(server)))
}

fn over_tls(handle: &Handle) -> Outcome<Opened> {
    let identity = development::identity(["localhost"])?;
    let connector = Connector::builder()
        .roots(Roots::only(identity.certificates()))
        .build()?;
    let listener = Acceptor::builder(identity)
        .build()?
        .listen(tcp::listen(handle, local())?);
    let server = protocol::serve(listener, |_| Some(Echo));
    let address = server.local_address().tcp().ok_or("TCP")?;
    let handle = handle.clone();
    let dial = move || {
        let (handle, connector) = (handle.clone(), connector.clone());
        async move {
            let stream = tcp::connect(&handle, address).await.expect("a connection");
            talk(connector.connect(stream, "localhost").expect("a name")).await;
        }
    };
    Ok((connect(dial), Some(server)))
}

fn over_udp(handle: &Handle) -> Outcome<Opened> {
    let server = protocol::start_datagrams(udp::bind(handle, local())?, EchoDatagrams);
    let address = server.local_address().udp().ok_or("UDP")?;
    let handle = handle.clone();
    let dial = move || {
        let socket = udp::connect(&handle, address).expect("a way");
        async move {
            socket.send(b"ping").await.expect("sent");
            assert_eq!(socket.receive(&mut [0; 8]).await.expect("an echo").count, 4);
        }
    };
    Ok((connect(dial), None))
}

fn to_process(handle: &Handle) -> Connect {
    let handle = handle.clone();
    connect(move || {
        let handle = handle.clone();
        async move {
            let command = Command::new("cat").stdin(Io::Stream).stdout(Io::Stream);
            let mut process = command.spawn(&handle).expect("apt-get install coreutils");
            talk(process.take_stream().expect("both are streams")).await;
            assert!(process.exited().await.expect("its status").success());
        }
    })
}

fn in_memory(handle: &Handle) -> Connect {
    let handle = handle.clone();
    connect(move || {
        let (near, far) = memory::pair(&handle);
        protocol::start(&handle, far, Echo);
        talk(near)
    })
}

/// Any port of this machine.
fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}
