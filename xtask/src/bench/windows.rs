//! `bench windows`: the windows of the example programs, while they have nothing to do and while
//! they are busy. Are their frames undisturbed?

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::figures::{Spread, print_table};
use super::{OTHERS, Options};
use crate::display::Display;
use crate::process::{self, Running};
use crate::{Result, debian, programs, workspace};

/// What a window had to do, and how its frames came.
#[derive(Clone, Copy, Default)]
struct Sample {
    frames: f64,
    lost: f64,
    p50: f64,
    p99: f64,
    max: f64,
}

/// A program, and what it has to do.
struct Program {
    name: &'static str,
    /// What it shows while nothing comes, or little, and while much does.
    loads: [&'static str; 2],
    measure: fn(&Stage, bool) -> Result<Sample>,
}

const PROGRAMS: [Program; 3] = [
    Program {
        name: "ci",
        loads: ["two builds that sleep", "two builds that print without end"],
        measure: ci,
    },
    Program {
        name: "notebook",
        loads: ["20 kernels that sleep", "20 kernels that print without end"],
        measure: notebook,
    },
    Program {
        name: "downloads",
        loads: [
            "20 downloads, 4 at a time, 0.4 MB/s",
            "20 downloads, 4 at a time, 100 MB/s",
        ],
        measure: downloads,
    },
];

struct Stage {
    display: Display,
    /// What measures frames, for LD_PRELOAD.
    frames: PathBuf,
    folder: PathBuf,
    seconds: u64,
}

/// Measures the programs of these names, or all. A window's threads may run on any processor, as
/// they do for users: some of them write files, and on one processor they would take turns with
/// the thread that draws.
pub fn run(names: &[&str], options: Options) -> Result<()> {
    debian::ensure(&[&debian::GTK, &debian::DISPLAY, &debian::PROGRAMS])?;
    let mut cargo = programs::programs("build");
    cargo.args(["--release", "--all-features"]);
    for program in &PROGRAMS {
        cargo.args(["--package", program.name]);
    }
    process::succeed(workspace::aligned(&mut cargo)?)?;
    let folder = workspace::target()?.join("windows");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let frames = folder.join("frames.so");
    super::gui::compile(
        Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&frames)
            .arg(workspace::root().join("benches/gui/frames.c")),
        &["gtk4"],
    )?;
    let display = Display::start(Some(OTHERS))?;
    display.come_first()?;
    let stage = Stage {
        display,
        frames,
        folder,
        seconds: options.seconds.into(),
    };
    let chosen: Vec<_> = PROGRAMS
        .iter()
        .filter(|program| names.is_empty() || names.contains(&program.name))
        .collect();
    let mut samples = vec![[Vec::new(), Vec::new()]; chosen.len()];
    for _ in 0..options.rounds {
        for (program, samples) in chosen.iter().zip(&mut samples) {
            for busy in [false, true] {
                let sample = (program.measure)(&stage, busy)?;
                println!(
                    "{}, busy: {busy}: p50 {:.2} p99 {:.2} max {:.2} lost {} of {}",
                    program.name, sample.p50, sample.p99, sample.max, sample.lost, sample.frames
                );
                samples[usize::from(busy)].push(sample);
            }
        }
    }
    println!(
        "\n{} rounds of {} s; median (least–most)",
        options.rounds, options.seconds
    );
    let mut rows = Vec::new();
    for (program, samples) in chosen.iter().zip(&samples) {
        for (samples, what) in samples.iter().zip(program.loads) {
            let column = |field: fn(&Sample) -> f64| Spread::of(samples.iter().map(field));
            rows.push(vec![
                format!("{}, {what}", program.name),
                format!("{:.1}", column(|sample| sample.p50).median),
                format!("{:.1}", column(|sample| sample.p99)),
                format!("{:.1}", column(|sample| sample.max)),
                format!("{:.0}", column(|sample| sample.lost)),
            ]);
        }
    }
    print_table(&["window", "gap p50 ms", "p99 ms", "max ms", "lost"], &rows);
    Ok(())
}

/// A program with a window that is measured.
struct Window {
    process: Running,
    reports: mpsc::Receiver<String>,
    url: String,
    /// The second line that it prints.
    second: String,
}

impl Window {
    fn open(stage: &Stage, name: &str, arguments: &[&str]) -> Result<Window> {
        let program = workspace::target()?.join("bench/release").join(name);
        let mut command = process::tied(program, None);
        command
            .args(["--listen", "tcp:0:interface=127.0.0.1"])
            .args(arguments)
            .current_dir(&stage.folder)
            .env("LD_PRELOAD", &stage.frames)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Running::start(stage.display.show(&mut command))?;
        let reports = lines(process.errors()?);
        let (address, mut output) = process.line_after("http listening on ")?;
        let mut second = String::new();
        output.read_line(&mut second)?;
        thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        // Until it is drawn.
        thread::sleep(Duration::from_secs(1));
        Ok(Window {
            process,
            reports,
            url: format!("http://{address}"),
            second: second.trim_end().to_owned(),
        })
    }

    fn curl(&self, arguments: &[&str], path: &str) -> Result<String> {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-f"]).args(arguments);
        process::output(curl.arg(format!("{}{path}", self.url)))
    }

    /// Measures now, when what makes it busy has begun.
    fn measure(&self, seconds: u64) -> Result<Sample> {
        thread::sleep(Duration::from_secs(1));
        self.signal("USR1")?;
        thread::sleep(Duration::from_secs(seconds));
        self.signal("USR2")?;
        let report = self.reports.recv_timeout(Duration::from_secs(10))?;
        let number = |key| {
            let found = super::gui::number(&report, key);
            found.ok_or_else(|| format!("no number {key:?} in the report {report}"))
        };
        Ok(Sample {
            frames: number("frames")?,
            lost: number("lost")?,
            p50: number("p50")?,
            p99: number("p99")?,
            max: number("max")?,
        })
    }

    fn signal(&self, name: &str) -> Result<()> {
        process::succeed(
            Command::new("sh").args(["-c", &format!("kill -{name} {}", self.process.id())]),
        )
    }
}

/// The reports among the lines that a window prints.
fn lines(errors: ChildStderr) -> mpsc::Receiver<String> {
    let (send, reports) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(errors).lines().map_while(|line| line.ok()) {
            if line.starts_with('{') {
                let _ = send.send(line);
            }
        }
    });
    reports
}

fn ci(stage: &Stage, busy: bool) -> Result<Sample> {
    let _ = fs::remove_dir_all(stage.folder.join("ci-data"));
    for name in ["master", "one", "two"] {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
            .args(["ec_paramgen_curve:P-256", "-nodes", "-subj"])
            .arg(format!("/CN={name}"))
            .args(["-addext", &format!("subjectAltName=DNS:{name}")])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", &format!("{name}.key")])
            .args(["-out", &format!("{name}.pem")])
            .current_dir(&stage.folder)
            .stderr(Stdio::null());
        process::succeed(&mut openssl)?;
    }
    let identity = ["--certificate", "master.pem", "--key", "master.key"];
    let mut arguments = vec![
        "master",
        "--window",
        "--workers",
        "tcp:0:interface=127.0.0.1",
    ];
    arguments.extend(identity);
    arguments.extend(["--trust", "one.pem", "--trust", "two.pem"]);
    let window = Window::open(stage, "ci", &arguments)?;
    let workers = window.second.rsplit(' ').next().unwrap_or_default();
    let (host, port) = workers.rsplit_once(':').ok_or("no address for workers")?;
    let mut running = Vec::new();
    for name in ["one", "two"] {
        let program = workspace::target()?.join("bench/release/ci");
        let mut worker = process::tied(program, Some(OTHERS));
        worker
            .args(["worker", "--master", &format!("tcp:{host}:{port}")])
            .args(["--certificate", &format!("{name}.pem")])
            .args(["--key", &format!("{name}.key")])
            .args(["--trust", "master.pem"])
            .current_dir(&stage.folder)
            .stderr(Stdio::null());
        running.push(Running::start(&mut worker)?);
        let script = match busy {
            true => "yes a line of a log that says how far this build is",
            false => "echo begun; sleep 1000",
        };
        let new = format!(r#"{{"script": "{script}"}}"#);
        window.curl(&["--json", &new], "/builds")?;
    }
    window.measure(stage.seconds)
}

fn notebook(stage: &Stage, busy: bool) -> Result<Sample> {
    let folder = stage.folder.join("notebooks");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let window = Window::open(stage, "notebook", &["--window"])?;
    let script = workspace::root().join("benches/gui/kernels.py");
    let url = window.second.trim_start_matches("open ");
    let mut python = process::tied("/usr/bin/python3", Some(OTHERS));
    python
        .arg(script)
        .args([url, if busy { "busy" } else { "idle" }])
        .stdout(Stdio::piped());
    let mut kernels = Running::start(&mut python)?;
    kernels.line_after("begun")?;
    window.measure(stage.seconds)
}

fn downloads(stage: &Stage, busy: bool) -> Result<Sample> {
    let site = stage.folder.join("site");
    fs::create_dir_all(&site)?;
    // Written, not a hole: the web server then only sends what is in memory.
    fs::write(site.join("large"), vec![1; 100_000_000])?;
    let folder = stage.folder.join("downloads");
    let _ = fs::remove_dir_all(&folder);
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let config = site.join("config");
    let at = site.display();
    // The window draws as much either way.
    let rate = if busy { "25m" } else { "100k" };
    fs::write(
        &config,
        format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\n\
             user root; events {{}}\n\
             http {{ access_log off; sendfile on; limit_rate {rate};\n\
             client_body_temp_path {at}/a;\n\
             proxy_temp_path {at}/b; fastcgi_temp_path {at}/c; uwsgi_temp_path {at}/d;\n\
             scgi_temp_path {at}/e; server {{ listen 127.0.0.1:{port}; root {at}; }} }}\n"
        ),
    )?;
    let mut nginx = process::tied("/usr/sbin/nginx", Some(OTHERS));
    let _nginx = Running::start(nginx.arg("-c").arg(&config))?;
    let folder = folder.to_str().ok_or("not a plain path")?;
    let window = Window::open(stage, "downloads", &["--folder", folder])?;
    let token = window.second.trim_start_matches("token ");
    let header = format!("authorization: Bearer {token}");
    let url = format!("http://127.0.0.1:{port}/large");
    let plain = ["-H", &header, "-H", "content-type: text/plain", "-d", &url];
    for _ in 0..20 {
        window.curl(&plain, "/downloads")?;
    }
    let sample = window.measure(stage.seconds);
    let list = window.curl(&["-H", &header], "/downloads")?;
    if !list.contains("\"running\"") {
        return Err("all downloads were complete before the end: take fewer seconds".into());
    }
    drop(window);
    fs::remove_dir_all(folder)?;
    sample
}
