//! Echo over UDP: datagrams per second of processor time.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use entwined::{
    Standalone,
    protocol::{self, DatagramProtocol, DatagramTransport},
    transport::{Address, Batch, DatagramSocket, udp},
};
use mio::{Events, Interest, Poll, Token};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

use crate::{Outcome, server::Server, spread};

/// The first is the baseline for those without batches, the second for those with batches.
const KINDS: [&str; 6] = [
    "loop",
    "loop-batches",
    "tokio",
    "entwined-socket",
    "entwined-batches",
    "entwined-protocol",
];

const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_secs(2);
const SIZES: [usize; 2] = [64, 1_200];
/// Datagrams sent at a time, before their echoes are awaited.
const BURST: usize = 64;

pub fn measure() -> Outcome {
    for size in SIZES {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(
                KINDS
                    .iter()
                    .map(|kind| cost(kind, size))
                    .collect::<Outcome<Vec<_>>>()?,
            );
        }
        println!(
            "\nUDP echo, {size} bytes, bursts of {BURST}, {ROUNDS} rounds of {TIME:?}; \
             medians (least–most)"
        );
        println!(
            "{:<20} {:>26} {:>24} {:>24}",
            "server", "thousand/processor second", "time of loop", "of loop-batches"
        );
        for (place, kind) in KINDS.iter().enumerate() {
            let speed = spread(rounds.iter().map(|round| 1e-3 / round[place]));
            let plain = spread(rounds.iter().map(|round| round[place] / round[0]));
            let batches = spread(rounds.iter().map(|round| round[place] / round[1]));
            println!("{kind:<20} {speed:>26} {plain:>24} {batches:>24}");
        }
    }
    Ok(())
}

/// Returns the processor time for a datagram, in seconds.
fn cost(kind: &str, size: usize) -> Outcome<f64> {
    let server = Server::start("serve-datagrams", kind)?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(server.address)?;
    // A lost datagram delays its burst only this long.
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    load(&socket, size, TIME / 4)?;
    let before = server.processor_time()?;
    let echoes = load(&socket, size, TIME)?;
    Ok((server.processor_time()? - before).as_secs_f64() / echoes as f64)
}

fn load(socket: &UdpSocket, size: usize, time: Duration) -> Outcome<u64> {
    let message = vec![b'x'; size];
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BURST, None);
    let mut buffer = vec![0; 2_048];
    let (start, mut echoes) = (Instant::now(), 0);
    while start.elapsed() < time {
        let slices: Vec<_> = (0..BURST).map(|_| [io::IoSlice::new(&message)]).collect();
        sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            &slices,
            [None; BURST],
            [],
            MsgFlags::empty(),
        )?;
        for _ in 0..BURST {
            match socket.recv(&mut buffer) {
                Ok(count) => echoes += u64::from(count == size),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(echoes)
}

pub fn serve(kind: &str) -> Outcome {
    match kind {
        "loop" => bare(|socket, buffer| {
            while let Ok((count, from)) = socket.recv_from(buffer) {
                // What does not fit is lost, as on any network.
                let _ = socket.send_to(&buffer[..count], from);
            }
        }),
        "loop-batches" => {
            let mut received = MultiHeaders::<SockaddrIn>::preallocate(32, None);
            let mut sent = MultiHeaders::<SockaddrIn>::preallocate(32, None);
            bare(move |socket, buffer| while batch(socket, buffer, &mut received, &mut sent) {})
        }
        "tokio" => tokio_echo(),
        "entwined-socket" => entwined_echo(async |socket| {
            let mut buffer = vec![0; 2_048];
            loop {
                let received = socket.receive(&mut buffer).await?;
                socket
                    .send_to(&buffer[..received.count], &received.from)
                    .await?;
            }
        }),
        "entwined-batches" => entwined_echo(async |socket| {
            let mut batch = Batch::new(32, 2_048);
            loop {
                socket.receive_batch(&mut batch).await?;
                let echoes: Vec<_> = batch
                    .iter()
                    .map(|(bytes, received)| (bytes, Some(&received.from)))
                    .collect();
                let mut sent = 0;
                while sent < echoes.len() {
                    sent += socket.send_batch(&echoes[sent..]).await?;
                }
            }
        }),
        "entwined-protocol" => {
            let reactor = Standalone::new()?;
            let socket = udp::bind(&reactor.handle(), (Ipv4Addr::LOCALHOST, 0))?;
            announce(socket.local_address());
            protocol::start_datagrams(socket, Echo);
            Ok(reactor.run()?)
        }
        other => Err(format!("there is no server {other}").into()),
    }
}

struct Echo;

impl DatagramProtocol for Echo {
    fn datagram_received(&mut self, transport: &DatagramTransport, data: &[u8], from: &Address) {
        transport.send_to(data, from);
    }
}

fn entwined_echo(echo: impl AsyncFnOnce(DatagramSocket) -> io::Result<()> + 'static) -> Outcome {
    let reactor = Standalone::new()?;
    let handle = reactor.handle();
    let socket = udp::bind(&handle, (Ipv4Addr::LOCALHOST, 0))?;
    announce(socket.local_address());
    handle.spawn(async move { echo(socket).await.expect("it goes on") });
    Ok(reactor.run()?)
}

fn announce(address: impl std::fmt::Display) {
    println!("{}", address.to_string().trim_start_matches("udp:"));
}

fn tokio_echo() -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        announce(socket.local_addr()?);
        let mut buffer = vec![0; 2_048];
        loop {
            let (count, from) = socket.recv_from(&mut buffer).await?;
            socket.send_to(&buffer[..count], from).await?;
        }
    })
}

/// Runs a plain loop with nothing around it.
fn bare(mut ready: impl FnMut(&mio::net::UdpSocket, &mut [u8])) -> Outcome {
    let mut poll = Poll::new()?;
    let address: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let mut socket = mio::net::UdpSocket::bind(address)?;
    announce(socket.local_addr()?);
    poll.registry()
        .register(&mut socket, Token(0), Interest::READABLE)?;
    let mut events = Events::with_capacity(16);
    let mut buffer = vec![0; 32 * 2_048];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => other?,
        }
        ready(&socket, &mut buffer);
    }
}

/// Returns false if there was no more.
fn batch(
    socket: &mio::net::UdpSocket,
    buffer: &mut [u8],
    received: &mut MultiHeaders<SockaddrIn>,
    sent: &mut MultiHeaders<SockaddrIn>,
) -> bool {
    let mut slices: Vec<_> = buffer
        .chunks_exact_mut(2_048)
        .map(|place| [io::IoSliceMut::new(place)])
        .collect();
    let Ok(messages) = recvmmsg(
        socket.as_raw_fd(),
        received,
        &mut slices,
        MsgFlags::empty(),
        None,
    ) else {
        return false;
    };
    let known: Vec<_> = messages
        .map(|message| (message.bytes, message.address))
        .collect();
    let echoes: Vec<_> = buffer
        .chunks_exact(2_048)
        .zip(&known)
        .map(|(place, (count, _))| [io::IoSlice::new(&place[..*count])])
        .collect();
    let addresses: Vec<_> = known.iter().map(|(_, from)| *from).collect();
    // What does not fit is lost, as on any network.
    let _ = sendmmsg(
        socket.as_raw_fd(),
        sent,
        &echoes,
        &addresses,
        [],
        MsgFlags::empty(),
    );
    true
}
