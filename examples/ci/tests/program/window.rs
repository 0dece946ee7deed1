//! The window of a master, on a display of its own. A person with a screen reader uses it.

use super::*;

/// A display without a window manager, and a bus, by which the window tells what it shows.
struct Desktop {
    display: String,
    bus: String,
    folder: tempfile::TempDir,
    _processes: [Running; 2],
}

fn first_line(command: &mut Command) -> (Running, String) {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let process = command.stderr(Stdio::null()).spawn();
    let mut process = process.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let mut line = String::new();
    let output = process.stdout.take().expect("piped");
    BufReader::new(output).read_line(&mut line).expect("text");
    (Running(process), line.trim_end().to_owned())
}

impl Desktop {
    fn start() -> Desktop {
        let (server, number) = first_line(
            Command::new("Xvfb")
                .args(["-displayfd", "1", "-screen", "0", "800x700x24"])
                .args(["-nolisten", "tcp", "-noreset", "-br"]),
        );
        let folder = tempfile::tempdir().expect("a folder");
        let (daemon, bus) = first_line(
            Command::new("dbus-daemon")
                .args(["--session", "--nofork", "--print-address"])
                .env("XDG_RUNTIME_DIR", folder.path()),
        );
        Desktop {
            display: format!(":{number}"),
            bus,
            folder,
            _processes: [server, daemon],
        }
    }

    fn environment(&self) -> [(&str, &str); 7] {
        let folder = self.folder.path().to_str().expect("a plain name");
        [
            ("DISPLAY", &self.display),
            ("DBUS_SESSION_BUS_ADDRESS", &self.bus),
            ("XDG_RUNTIME_DIR", folder),
            ("GDK_BACKEND", "x11"),
            ("GTK_A11Y", "atspi"),
            ("GSK_RENDERER", "cairo"),
            ("GSETTINGS_BACKEND", "memory"),
        ]
    }

    fn person(&self, what: &str, wanted: &str) {
        run(Command::new("/usr/bin/python3")
            .arg(format!("{}/tests/window.py", env!("CARGO_MANIFEST_DIR")))
            .args([what, wanted])
            .envs(self.environment()));
    }

    fn picture(&self) {
        if let Ok(folder) = std::env::var("PICTURES") {
            // It is told before it is drawn.
            thread::sleep(Duration::from_secs(1));
            run(Command::new("import")
                .args(["-window", "root", "-trim", "+repage"])
                .arg(format!("{folder}/window.png"))
                .envs(self.environment()));
        }
    }
}

#[test]
fn a_person_watches_and_cancels_in_the_window() {
    let desktop = Desktop::start();
    let site = Site::new(&["master", "one"]);
    let mut command = site.master_command(&["one"], None);
    command.arg("--window").envs(desktop.environment());
    command.env_remove("WAYLAND_DISPLAY");
    let mut master = Master::start(&mut command);
    let _worker = site.worker("one", &master);
    desktop.person("see", "Workers: one");

    master.build("echo hello");
    desktop.person("see", "passed");
    // More than the window shows.
    master.build("seq 3000000; echo the end; exit 3");
    desktop.person("see", "failed: exit status 3");
    let running = master.build("seq 40; echo begun; sleep 1000");
    let queued = master.build("make");
    desktop.person("see", "running on one");
    desktop.person("see", "Build 1");
    desktop.person("select", "echo begun");
    desktop.person("see", "40\nbegun\n");
    desktop.picture();
    desktop.person("press", &format!("Cancel build {queued}"));
    master.until_state(&queued, "cancelled");
    desktop.person("press", &format!("Cancel build {running}"));
    master.until_state(&running, "cancelled");
    desktop.person("see", "cancelled");
    desktop.person("select", "seq 3000000");
    desktop.person("see", "3000000\nthe end\n");

    // The page goes on, and the master ends in order.
    assert!(master.curl(&[], "/builds").contains("cancelled"));
    master.process.signal("TERM");
    assert!(master.process.0.wait().expect("it was started").success());
}

/// No text of GTK has a NUL.
#[test]
fn a_window_bears_every_script() {
    let desktop = Desktop::start();
    let site = Site::new(&["master", "one"]);
    let mut command = site.master_command(&["one"], None);
    command.arg("--window").envs(desktop.environment());
    command.env_remove("WAYLAND_DISPLAY");
    let master = Master::start(&mut command);
    // An older master has let it in.
    run(Command::new("sqlite3")
        .arg(site.file("ci-data/builds.db"))
        .arg(
            "INSERT INTO build (script, repository)
                VALUES ('echo a' || char(0) || 'b', 'r' || char(0))",
        ));
    master.build("echo next");
    desktop.person("see", "echo next");
    master.build("echo another");
    desktop.person("see", "echo another");
}

#[test]
fn a_master_whose_window_is_closed_ends() {
    let desktop = Desktop::start();
    let site = Site::new(&["master", "one"]);
    let mut command = site.master_command(&["one"], None);
    command.arg("--window").envs(desktop.environment());
    command.env_remove("WAYLAND_DISPLAY");
    let mut master = Master::start(&mut command);
    desktop.person("see", "There is no worker.");
    run(Command::new("xdotool")
        .args(["mousemove", "100", "100", "key", "ctrl+w"])
        .envs(desktop.environment()));
    assert!(master.process.0.wait().expect("it was started").success());
}
