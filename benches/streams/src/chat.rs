//! A chat of strangers: each gets a partner, and receives the partner's lines.

use std::{
    cell::{Cell, RefCell},
    ffi::OsStr,
    fs,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use entwined::{
    Standalone,
    framing::Lines,
    protocol::{self, Connection, FrameReceiver, Framed, Lost},
    transport::tcp,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::LocalSet,
};

use crate::{Outcome, server::Server};

const PAIRS: usize = 5_000;
/// Each sends one message in this time.
const PERIOD: Duration = Duration::from_secs(1);
const TIME: Duration = Duration::from_secs(15);

/// The same server in Python: with gevent, and with Twisted.
const PYTHON: [(&str, &str); 2] = [
    ("gevent", include_str!("chat_gevent.py")),
    ("twisted", include_str!("chat_twisted.py")),
];

/// `python` is a Python that has gevent and Twisted installed.
pub fn measure(python: Option<&str>) -> Outcome {
    println!("{PAIRS} pairs, a message each way in {PERIOD:?}, for {TIME:?}");
    println!(
        "{:<10} {:>28} {:>13} {:>10} {:>10}",
        "server", "messages/processor second", "p50", "p99", "lost"
    );
    report("entwined", &Server::start("serve-chat", "strangers")?)?;
    let Some(python) = python else { return Ok(()) };
    for (name, source) in PYTHON {
        let file =
            std::env::temp_dir().join(format!("entwined-chat-{}-{name}.py", std::process::id()));
        fs::write(&file, source)?;
        let server = Server::run(&[python.as_ref(), file.as_os_str() as &OsStr]);
        let reported = server.and_then(|server| report(name, &server));
        fs::remove_file(&file)?;
        reported?;
    }
    Ok(())
}

fn report(name: &str, server: &Server) -> Outcome {
    let load = load(server.address, server)?;
    let mut late = load.late;
    late.sort_unstable();
    let at = |part: usize| late[(late.len() - 1) * part / 100].as_secs_f64() * 1e3;
    println!(
        "{name:<10} {:>28.0} {:>10.2} ms {:>7.2} ms {:>10}",
        late.len() as f64 / load.spent.as_secs_f64(),
        at(50),
        at(99),
        load.said - late.len(),
    );
    Ok(())
}

struct Load {
    late: Vec<Duration>,
    said: usize,
    /// The server's processor time.
    spent: Duration,
}

fn load(address: SocketAddr, server: &Server) -> Outcome<Load> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut clients = Vec::new();
        for _ in 0..2 * PAIRS {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            clients.push(stream);
        }
        let (start, late, said) = (
            Instant::now(),
            Rc::new(RefCell::new(Vec::new())),
            Rc::new(Cell::new(0)),
        );
        let before = server.processor_time()?;
        for (number, stream) in clients.into_iter().enumerate() {
            let (reader, mut writer) = stream.into_split();
            let (late, said) = (late.clone(), said.clone());
            tokio::task::spawn_local(async move {
                let mut lines = BufReader::with_capacity(256, reader).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let sent: u64 = line
                        .split(' ')
                        .next()
                        .and_then(|time| time.parse().ok())
                        .expect("a time");
                    late.borrow_mut()
                        .push(start.elapsed() - Duration::from_nanos(sent));
                }
            });
            tokio::task::spawn_local(async move {
                // Spread over the period.
                let first = start + PERIOD.mul_f64(number as f64 / (2 * PAIRS) as f64);
                let mut next = first;
                while next < start + TIME {
                    tokio::time::sleep_until(next.into()).await;
                    let line = format!("{} how are you, stranger?\n", start.elapsed().as_nanos());
                    writer.write_all(line.as_bytes()).await.expect("written");
                    said.set(said.get() + 1);
                    next += PERIOD;
                }
                // Held open until the end.
                tokio::time::sleep(TIME).await;
            });
        }
        tokio::time::sleep(TIME + Duration::from_millis(500)).await;
        let spent = server.processor_time()? - before;
        Ok(Load {
            late: late.take(),
            said: said.get(),
            spent,
        })
    })
}

/// Where a stranger's partner is stored.
type Place = Rc<RefCell<Option<Connection>>>;

struct Stranger {
    /// The stranger who waits for a partner, if any.
    waiting: Rc<RefCell<Option<(Connection, Place)>>>,
    partner: Place,
}

impl FrameReceiver<Lines> for Stranger {
    fn connection_made(&mut self, connection: &Connection) {
        let mut waiting = self.waiting.borrow_mut();
        match waiting.take() {
            None => *waiting = Some((connection.clone(), self.partner.clone())),
            Some((other, place)) => {
                *place.borrow_mut() = Some(connection.clone());
                *self.partner.borrow_mut() = Some(other);
            }
        }
    }

    fn frame_received(&mut self, _: &Connection, _: &mut Lines, line: &[u8]) {
        if let Some(partner) = &*self.partner.borrow() {
            partner.write_all(&[line, b"\n"]);
        }
    }

    fn connection_lost(&mut self, _: &Lost) {
        if let Some(partner) = self.partner.take() {
            partner.close();
        }
    }
}

pub fn serve() -> Outcome {
    let reactor = Standalone::new()?;
    let listener = tcp::listen(&reactor.handle(), (Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_address());
    let waiting = Rc::default();
    let server = protocol::serve(listener, move |_| {
        Some(Framed::new(
            Lines::new(1_000),
            Stranger {
                waiting: Rc::clone(&waiting),
                partner: Rc::default(),
            },
        ))
    });
    server.set_max_connections(2 * PAIRS + 10);
    Ok(reactor.run()?)
}
