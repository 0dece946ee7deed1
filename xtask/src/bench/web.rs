//! `bench web`: several kinds of web servers, ours on each backend, and the cost of their idle
//! connections.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::figures::{Mean, Spread, print_table};
use super::server::{Sample, Server};
use super::{OTHERS, Options, SERVER, alternating, announce, python};
use crate::process::{self, Running};
use crate::{Result, debian, workspace};

/// The paths to request, and what they return.
const PATHS: [(&str, &str); 3] = [
    ("/hello", "twelve bytes"),
    ("/json", "10 KiB of JSON, written for each"),
    ("/file.bin", "a file of 1 MiB"),
];

/// The baseline for each of the paths: hyper serves no files.
const BASES: [&str; 3] = ["hyper on tokio", "hyper on tokio", "axum on tokio"];

/// The prefix of our servers' names.
const OURS: &str = "entwined";

/// Idle connections, and the path that each of them requested once.
const HELD: [(u32, &str, &str); 2] = [
    (10_000, "/hello", "keep-alive connections"),
    (5_000, "/ws", "WebSockets"),
];

type Start = Box<dyn Fn() -> Result<Server>>;

struct Contestant {
    name: &'static str,
    start: Start,
    files: bool,
    sockets: bool,
}

pub fn run(options: Options) -> Result<()> {
    debian::ensure(&[&debian::LOAD, &debian::GLIB, &debian::WEB_PEERS])?;
    let folder = workspace::target()?.join("web");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("file.bin"), vec![b'x'; 1024 * 1024])?;
    let contestants = contestants(&folder)?;
    // libsoup and nginx return what hyper has written.
    let hyper = (contestants[0].start)()?;
    let json = process::output(
        Command::new("curl").args(["-sf", &format!("http://{}/json", hyper.address())]),
    )?;
    fs::write(folder.join("json"), json)?;
    drop(hyper);

    for ((path, what), base) in PATHS.into_iter().zip(BASES) {
        let able: Vec<_> = contestants
            .iter()
            .filter(|it| it.files || path != "/file.bin")
            .collect();
        // All take their turn in each round, so that a temporary slowdown of the machine affects
        // all alike.
        let mut rounds: Vec<Vec<Sample>> = Vec::new();
        for round in 1..=options.rounds {
            let mut samples = Vec::new();
            for contestant in &able {
                let sample = (contestant.start)()?.measure_path(path, options)?;
                announce(round, contestant.name, sample);
                samples.push(sample);
            }
            rounds.push(samples);
        }
        println!(
            "\n`GET {path}` ({what}), {} connections, {} rounds of {} s, \
             server on processor {SERVER}; median (least–most); \
             ratios are of processor time, within a round",
            options.connections, options.rounds, options.seconds
        );
        let compared = able
            .iter()
            .position(|it| it.name == base)
            .ok_or("no server to compare with")?;
        let rows: Vec<_> = able
            .iter()
            .enumerate()
            .map(|(place, it)| row(it.name, place, compared, &rounds))
            .collect();
        print_table(
            &["server", "µs/request", &format!("of {base}"), "requests/s"],
            &rows,
        );
    }

    for path in ["/hello", "/json"] {
        alternate(&contestants, path, options)?;
    }

    let hold = workspace::build_to_measure("peers", "hold")?;
    for (count, path, what) in HELD {
        let able = contestants.iter().filter(|it| it.sockets || path != "/ws");
        let rows: Result<Vec<_>> = able
            .map(|it| Ok(vec![it.name.to_owned(), held(it, &hold, count, path)?]))
            .collect();
        print_table(&[&format!("{count} {what}"), "bytes each"], &rows?);
    }
    Ok(())
}

fn row(name: &str, place: usize, base: usize, rounds: &[Vec<Sample>]) -> Vec<String> {
    let cost = |round: &Vec<Sample>, place: usize| round[place].microseconds_per_request;
    vec![
        name.to_owned(),
        Spread::of(rounds.iter().map(|round| cost(round, place))).to_string(),
        Spread::of(
            rounds
                .iter()
                .map(|round| cost(round, place) / cost(round, base)),
        )
        .to_string(),
        format!(
            "{:.0}",
            Spread::of(rounds.iter().map(|round| round[place].requests_per_second))
        ),
    ]
}

/// Compares ours with hyper, and hyper with itself, under a client that keeps them busy.
fn alternate(contestants: &[Contestant], path: &str, options: Options) -> Result<()> {
    let hyper = contestants
        .iter()
        .find(|it| it.name == BASES[0])
        .ok_or("hyper")?;
    let ours = contestants.iter().filter(|it| it.name.starts_with(OURS));
    let able: Vec<_> = [("hyper on tokio", hyper), ("hyper once more", hyper)]
        .into_iter()
        .chain(ours.map(|it| (it.name, it)))
        .collect();
    let starts: Vec<_> = able.iter().map(|(_, it)| &*it.start).collect();
    let generations = alternating::generations(&starts, path, options)?;
    println!(
        "\n`GET {path}`, {} connections, a client that never lets the server wait, \
         turns of a tenth of a second; {} times with new processes; \
         ratios: mean and standard error",
        options.connections,
        generations.len()
    );
    let rows = able.iter().enumerate().map(|(place, (name, _))| {
        vec![
            (*name).to_owned(),
            Spread::of(generations.iter().map(|it| it.costs[place])).to_string(),
            Mean::of(generations.iter().map(|it| it.ratios[place])).to_string(),
        ]
    });
    print_table(
        &["server", "µs/request", &format!("of {}", BASES[0])],
        &rows.collect::<Vec<_>>(),
    );
    Ok(())
}

/// Returns how many bytes a server grows by for each held connection.
fn held(contestant: &Contestant, hold: &Path, count: u32, path: &str) -> Result<String> {
    let server = (contestant.start)()?;
    // The cost of the first connections is paid before.
    drop(holding(hold, server.address(), 100, path)?);
    let before = server.memory()?;
    let holding = holding(hold, server.address(), count, path)?;
    let after = server.memory()?;
    drop(holding);
    Ok((after.saturating_sub(before) / u64::from(count)).to_string())
}

fn holding(hold: &Path, address: &str, count: u32, path: &str) -> Result<Running> {
    let mut command = process::tied("prlimit", Some(OTHERS));
    command
        .arg("--nofile=20000:20000")
        .arg(hold)
        .args([address, &count.to_string(), path]);
    let mut running = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
    running.line_after("holding ")?;
    Ok(running)
}

/// Returns a command on the server's processor, with as many file descriptors as it needs and the
/// folder of the files.
fn command(program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
    let mut command = process::tied("prlimit", Some(SERVER));
    command
        .arg("--nofile=20000:20000")
        .arg(program)
        .env("ENTWINED_BENCH_FILES", folder);
    command
}

/// Builds everything first: nothing is measured while a compiler runs.
fn contestants(folder: &Path) -> Result<Vec<Contestant>> {
    let ours = workspace::build_to_measure("loops", "entwined-http")?;
    let mut all = vec![
        printing(
            "hyper on tokio",
            folder,
            workspace::build_to_measure("peers", "hyper-tokio-http")?,
            &[],
            (false, false),
        ),
        printing(
            "axum on tokio",
            folder,
            workspace::build_to_measure("peers", "axum-tokio-http")?,
            &[],
            (true, true),
        ),
    ];
    for (name, backend) in [
        ("entwined standalone", "standalone"),
        ("the same, nothing timed", "untimed"),
        ("entwined on GLib", "glib"),
        ("entwined on calloop", "calloop"),
    ] {
        all.push(printing(
            name,
            folder,
            ours.clone(),
            &[backend],
            (true, true),
        ));
    }
    all.push(nginx(folder)?);
    all.push(printing(
        "libsoup",
        folder,
        libsoup(folder)?,
        &[],
        (true, false),
    ));
    match python::with(&["twisted"]) {
        Ok(python) => {
            let script = workspace::root().join("benches/peers/twisted_http.py");
            let script = script.to_str().ok_or("the path is not valid UTF-8")?;
            all.push(printing(
                "Twisted",
                folder,
                python,
                &[script],
                (true, false),
            ));
        }
        Err(error) => {
            eprintln!("Skipping Twisted, which needs Python 3 with venv and pip, and PyPI: {error}")
        }
    }
    Ok(all)
}

/// A server that takes `--http` and prints its address.
fn printing(
    name: &'static str,
    folder: &Path,
    program: PathBuf,
    arguments: &[&str],
    (files, sockets): (bool, bool),
) -> Contestant {
    let (folder, arguments) = (
        folder.to_owned(),
        arguments
            .iter()
            .map(|it| (*it).to_owned())
            .collect::<Vec<_>>(),
    );
    let start = move || {
        let mut command = command(&program, &folder);
        command.args(&arguments).args(["--http", "127.0.0.1:0"]);
        Server::launch(command)
    };
    Contestant {
        name,
        start: Box::new(start),
        files,
        sockets,
    }
}

fn libsoup(folder: &Path) -> Result<PathBuf> {
    let program = folder.join("libsoup-http");
    let flags =
        process::output(Command::new("pkg-config").args(["--cflags", "--libs", "libsoup-3.0"]))?;
    let source = workspace::root().join("benches/peers/libsoup_http.c");
    process::succeed(
        Command::new("cc")
            .args(["-O2", "-o"])
            .arg(&program)
            .arg(source)
            .args(flags.split_whitespace()),
    )?;
    Ok(program)
}

fn nginx(folder: &Path) -> Result<Contestant> {
    let path = folder
        .to_str()
        .ok_or("the path is not valid UTF-8")?
        .to_owned();
    let start = move || {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: String = temporary
            .iter()
            .map(|name| format!("{name}_temp_path {path}/{name};"))
            .collect();
        let config = format!(
            "daemon off; master_process off; pid {path}/pid; error_log stderr crit;
             events {{ worker_connections 15000; }}
             http {{ access_log off; {temporary}
             keepalive_requests 100000000; sendfile on; server {{
             listen 127.0.0.1:{port} backlog=4096; root {path}; default_type application/json;
             location /hello {{ default_type text/plain; return 200 'hello, world'; }} }} }}"
        );
        let file = Path::new(&path).join("nginx.conf");
        fs::write(&file, config)?;
        // nginx does not print its address, so the shell does, before it becomes nginx.
        let mut command = command("sh", Path::new(&path));
        command.args([
            "-c",
            "echo \"http listening on 127.0.0.1:$1\"; exec nginx -p \"$2\" -c \"$3\"",
            "sh",
        ]);
        let server = Server::launch({
            command.arg(port.to_string()).arg(&path).arg(&file);
            command
        })?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                return Err("nginx does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    };
    Ok(Contestant {
        name: "nginx",
        start: Box::new(start),
        files: true,
        sockets: false,
    })
}
