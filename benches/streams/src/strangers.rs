//! The program `chat` in several processes that pair their people by Redis, beside the same in
//! Python: what a message costs the processes.

use std::{
    cell::{Cell, RefCell},
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::LocalSet,
};

use crate::Outcome;

const PEOPLE: usize = 2_000;
/// Each sends one message in this time.
const PERIOD: Duration = Duration::from_secs(1);
const TIME: Duration = Duration::from_secs(10);
/// How long it may take until all are paired.
const PATIENCE: Duration = Duration::from_secs(60);

const PYTHON: &str = "/usr/bin/python3";
const GEVENT: &str = include_str!("strangers_gevent.py");
const TWISTED: &str = include_str!("strangers_twisted.py");

/// `chat` is the program of this name.
pub fn measure(chat: &str) -> Outcome {
    let folder = std::env::temp_dir().join(format!("entwined-strangers-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let measured = measure_in(&folder, chat);
    fs::remove_dir_all(&folder)?;
    measured
}

fn measure_in(folder: &Path, chat: &str) -> Outcome {
    println!("{PEOPLE} browsers, each says something in {PERIOD:?}, for {TIME:?}");
    println!(
        "{:<26} {:>9} {:>28} {:>10} {:>10} {:>6}",
        "server", "processes", "messages/processor second", "p50 ms", "p99 ms", "lost"
    );
    let ours = |more: &[String]| {
        let anywhere = "tcp:0:interface=127.0.0.1";
        let mut words = vec![chat.to_owned()];
        words.extend(["--listen", anywhere, "--lines", anywhere].map(str::to_owned));
        words.extend_from_slice(more);
        words
    };
    report(folder, "Entwined, without Redis", 1, |_| ours(&[]))?;
    for processes in 1..=3 {
        report(folder, "Entwined", processes, |redis| {
            ours(&[format!("--hub=unix://{}", redis.display())])
        })?;
    }
    for (name, source) in [("gevent", GEVENT), ("Twisted, autobahn", TWISTED)] {
        let script = folder.join("server.py");
        fs::write(&script, source)?;
        for processes in [1, 3] {
            report(folder, name, processes, |redis| {
                let words = [PYTHON.into(), script.clone(), redis.to_owned()];
                words.map(|word: PathBuf| word.display().to_string()).into()
            })?;
        }
    }
    Ok(())
}

/// A process that ends with this.
struct Running(Child);

impl Running {
    fn start(processor: &str, words: &[impl AsRef<std::ffi::OsStr>]) -> Outcome<(Self, String)> {
        let mut command = Command::new("taskset");
        command.args(["-c", processor]).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().ok_or("a pipe")?);
        output.read_line(&mut line)?;
        // It may print more.
        thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        Ok((Running(child), line.trim().to_owned()))
    }

    fn processor_time(&self) -> Outcome<Duration> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let statistics = fs::read_to_string(task?.path().join("schedstat"))?;
            let first = statistics.split(' ').next().ok_or("a number")?;
            sum += first.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(sum))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn report(
    folder: &Path,
    name: &str,
    processes: usize,
    words: impl Fn(&Path) -> Vec<String>,
) -> Outcome {
    let socket = folder.join("redis");
    let redis: Vec<OsString> = [
        "redis-server".as_ref(),
        "--port".as_ref(),
        "0".as_ref(),
        "--save".as_ref(),
        "".as_ref(),
        "--unixsocket".as_ref(),
        socket.as_os_str(),
    ]
    .map(OsString::from)
    .into();
    let (_redis, _) = Running::start("1", &redis)?;
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        thread::sleep(Duration::from_millis(20));
    }
    let mut servers = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..processes {
        let (server, line) = Running::start("0", &words(&socket))?;
        addresses.push(line.rsplit(' ').next().unwrap_or_default().to_owned());
        servers.push(server);
    }
    // Until they have found Redis.
    thread::sleep(Duration::from_millis(500));
    let load = load(&addresses, &servers)?;
    let mut late = load.late;
    late.sort_unstable();
    let at = |part: usize| late[(late.len() - 1) * part / 100].as_secs_f64() * 1e3;
    println!(
        "{name:<26} {processes:>9} {:>28.0} {:>10.2} {:>10.2} {:>6}",
        late.len() as f64 / load.spent.as_secs_f64(),
        at(50),
        at(99),
        load.said - late.len(),
    );
    fs::remove_file(&socket)?;
    Ok(())
}

struct Load {
    late: Vec<Duration>,
    said: usize,
    /// The processor time of all servers.
    spent: Duration,
}

fn load(addresses: &[String], servers: &[Running]) -> Outcome<Load> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let spent = || {
        servers
            .iter()
            .map(Running::processor_time)
            .sum::<Outcome<Duration>>()
    };
    LocalSet::new().block_on(&runtime, async {
        let epoch = Instant::now();
        let late = Rc::new(RefCell::new(Vec::new()));
        let (paired, said) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (begin, begun) = watch::channel(None::<Instant>);
        for number in 0..PEOPLE {
            let mut stream = TcpStream::connect(&addresses[number % addresses.len()]).await?;
            stream.set_nodelay(true)?;
            greet(&mut stream).await?;
            let (reader, mut writer) = stream.into_split();
            let (late, paired) = (late.clone(), paired.clone());
            tokio::task::spawn_local(async move {
                let mut reader = tokio::io::BufReader::with_capacity(512, reader);
                while let Ok(text) = frame(&mut reader).await {
                    if text.contains("\"paired\"") {
                        paired.set(paired.get() + 1);
                    }
                    if let Some((_, rest)) = text.split_once("how are you at ") {
                        let digits: String =
                            rest.chars().take_while(char::is_ascii_digit).collect();
                        let sent = Duration::from_nanos(digits.parse().expect("a time"));
                        late.borrow_mut().push(epoch.elapsed() - sent);
                    }
                }
            });
            let (mut begun, said) = (begun.clone(), said.clone());
            tokio::task::spawn_local(async move {
                let start = loop {
                    if let Some(start) = *begun.borrow_and_update() {
                        break start;
                    }
                    if begun.changed().await.is_err() {
                        return;
                    }
                };
                // Spread over the period.
                let mut next = start + PERIOD.mul_f64(number as f64 / PEOPLE as f64);
                while next < start + TIME {
                    tokio::time::sleep_until(next.into()).await;
                    let now = epoch.elapsed().as_nanos();
                    let text = format!(r#"{{"type":"say","text":"how are you at {now}"}}"#);
                    // A short text that ends a message, masked with zeros.
                    let mut message = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
                    message.extend_from_slice(text.as_bytes());
                    writer.write_all(&message).await.expect("written");
                    said.set(said.get() + 1);
                    next += PERIOD;
                }
                // Held open until the end.
                tokio::time::sleep(TIME).await;
            });
        }
        let end = Instant::now() + PATIENCE;
        while paired.get() < PEOPLE {
            if Instant::now() > end {
                return Err(format!("only {} are paired", paired.get()).into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let before = spent()?;
        begin.send(Some(Instant::now()))?;
        tokio::time::sleep(TIME + Duration::from_secs(1)).await;
        let spent = spent()? - before;
        Ok(Load {
            late: late.take(),
            said: said.get(),
            spent,
        })
    })
}

/// Asks for a WebSocket.
async fn greet(stream: &mut TcpStream) -> Outcome {
    stream
        .write_all(
            b"GET /talk HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
              Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
              Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        )
        .await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    match head.starts_with(b"HTTP/1.1 101") {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&head).into()),
    }
}

/// Reads a message of a server.
async fn frame(reader: &mut (impl AsyncRead + Unpin)) -> std::io::Result<String> {
    let _kind = reader.read_u8().await?;
    let length = match reader.read_u8().await? {
        126 => reader.read_u16().await?.into(),
        length => u64::from(length),
    };
    let mut text = vec![0; length as usize];
    reader.read_exact(&mut text).await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
