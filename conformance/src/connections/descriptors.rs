//! A process without file descriptors: behaviour 43.

use std::{
    net::SocketAddr,
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketType, recv, send},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use crate::{
    carrier::Carrier,
    rig::{Rig, ms},
    sys,
};
use entwined::{
    protocol::{self, Echo},
    transport::{Address, Listen as _},
};

/// Lowers the process's limit on file descriptors until it is dropped.
struct FewFds(Rlimit);

impl FewFds {
    fn new(limit: u64) -> Self {
        let before = getrlimit(Resource::Nofile);
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(limit),
                maximum: before.maximum,
            },
        )
        .expect("a limit");
        FewFds(before)
    }
}

impl Drop for FewFds {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.0).expect("the previous limit");
    }
}

pub(crate) fn b43_out_of_fds_nobody_hangs_nothing_spins_and_accepting_goes_on<C: Carrier>() {
    const CLIENTS: usize = 30;
    let rig = Rig::new();
    let listener = C::open(&rig.handle).listener;
    let address = Listening::of(&listener.local_address());
    let server = protocol::serve(listener, |_| Some(Echo));
    let handle = rig.handle.clone();
    // Make the clients' sockets first, so that the limit does not affect them.
    let clients: Vec<_> = (0..CLIENTS).map(|_| address.socket()).collect();
    let spare: Vec<_> = (0..3).map(|_| address.socket()).collect();
    let limit = clients
        .iter()
        .chain(&spare)
        .map(|socket| socket.as_raw_fd())
        .max()
        .expect("some") as u64
        + 1;
    rig.complete(async move {
        let few = FewFds::new(limit);
        drop(spare);
        let before = handle.metrics();
        let start = Instant::now();
        for client in &clients {
            address.connect(client);
        }
        // Each client is served or turned away within five seconds.
        let mut answers = Vec::new();
        for client in &clients {
            // The send fails if the peer was turned away already. Over TLS, the byte is not TLS and
            // is answered with an alert, which counts as served.
            let _ = send(client, b"!", sys::SEND);
            answers.push(loop {
                match recv(client, &mut [0; 1], RecvFlags::DONTWAIT) {
                    Err(Errno::AGAIN) => {
                        assert!(
                            start.elapsed() < Duration::from_secs(5),
                            "a peer was left hanging"
                        );
                        handle.sleep(ms(1)).await;
                    }
                    answer => break matches!(answer, Ok((1, _))),
                }
            });
        }
        let served = answers.iter().filter(|served| **served).count();
        assert!(
            served < CLIENTS,
            "all were served, so the fds did not run out"
        );
        let turns = handle.metrics().turns - before.turns;
        assert!(turns < 5_000, "{turns} turns for {CLIENTS} peers");
        // With nothing to do the loop is idle, although there are no fds.
        let quiet = handle.metrics().callbacks;
        handle.sleep(ms(100)).await;
        let spun = handle.metrics().callbacks - quiet;
        assert!(spun < 20, "{spun} callbacks in 100 ms with nothing to do");
        // Fds are free again, so a peer is served within a second.
        drop((few, clients));
        let start = Instant::now();
        loop {
            let client = address.socket();
            address.connect(&client);
            send(&client, b"!", sys::SEND).expect("written");
            handle.sleep(ms(10)).await;
            if matches!(recv(&client, &mut [0; 1], RecvFlags::DONTWAIT), Ok((1, _))) {
                break;
            }
            assert!(
                start.elapsed() < Duration::from_secs(1),
                "the server no longer accepts"
            );
        }
        drop(server);
    });
}

/// An address to connect to, for sockets that were made before the connection.
enum Listening {
    Tcp(SocketAddr),
    Unix(SocketAddrUnix),
}

impl Listening {
    fn of(address: &Address) -> Self {
        match address {
            Address::Tcp(address) => Listening::Tcp(*address),
            Address::Unix(address) => {
                Listening::Unix(sys::unix_address(address).expect("an address"))
            }
            other => panic!("{other}: not for sockets"),
        }
    }

    fn socket(&self) -> OwnedFd {
        let family = match self {
            Listening::Tcp(_) => AddressFamily::INET,
            Listening::Unix(_) => AddressFamily::UNIX,
        };
        rustix::net::socket(family, SocketType::STREAM, None).expect("a socket")
    }

    fn connect(&self, socket: &OwnedFd) {
        let result = match self {
            Listening::Tcp(address) => rustix::net::connect(socket, address),
            Listening::Unix(address) => rustix::net::connect(socket, address),
        };
        result.expect("the backlog takes it");
    }
}
