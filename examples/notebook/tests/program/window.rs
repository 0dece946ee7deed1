//! The window, on a display of its own. A person with a screen reader uses it.

use super::*;

/// A display without a window manager, and a bus, by which the window tells what it shows.
struct Desktop {
    display: String,
    bus: String,
    folder: TempDir,
    _processes: [Ending; 2],
}

struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn first_line(command: &mut Command) -> (Ending, String) {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let process = command.stderr(Stdio::null()).spawn();
    let mut process = process.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let mut line = String::new();
    let output = process.stdout.take().expect("piped");
    BufReader::new(output).read_line(&mut line).expect("text");
    (Ending(process), line.trim_end().to_owned())
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

    fn person(&self, steps: &[&str]) {
        run(Command::new("/usr/bin/python3")
            .arg(format!("{}/tests/window.py", env!("CARGO_MANIFEST_DIR")))
            .args(steps)
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
fn a_person_works_in_the_window() {
    let desktop = Desktop::start();
    let mut program = Program::start_with(|command| {
        command.arg("--window").envs(desktop.environment());
        command.env_remove("WAYLAND_DISPLAY");
    });
    let plot = "write=import matplotlib.pyplot as plot\n\
                plot.figure(figsize=(5, 2))\nplot.plot([1, 4, 2, 8])";
    desktop.person(&[
        "see=No notebook",
        "name=mine",
        "press=Create",
        "cells=1",
        "write=print('hello')\n6 * 7",
        "press=Run",
        "see=hello",
        "see=42",
        "press=Add a cell",
        "cells=2",
        plot,
        "press=Run",
        "see=[2]",
        "see=The kernel is idle",
        "press=Add a cell",
        "cells=3",
        // Output comes while it runs.
        "write=import time\nfor i in range(100_000): print('line', i)\ntime.sleep(1000)",
        "press=Run",
        "see=The kernel is busy",
        "see=There is too much output",
        "press=Interrupt",
        "see=KeyboardInterrupt",
    ]);
    desktop.picture();
    desktop.person(&[
        "press=Remove",
        "cells=2",
        "press=Add a cell",
        "cells=3",
        "write=1 + 1 + '",
    ]);

    // A page shows the same, with the picture.
    let page = program.python("whole.py", &["mine"]);
    assert!(page.contains("iVBOR"), "{page}");
    assert!(page.contains("1 + 1 + '"), "{page}");
    run(Command::new("kill").arg(program.process.id().to_string()));
    assert!(program.process.wait().expect("it was started").success());
    let file = program.folder.path().join("notebooks/mine.ipynb");
    let text = fs::read_to_string(file).expect("it was saved");
    assert!(text.contains("1 + 1 + '"), "{text}");
}

/// No text of GTK has a NUL.
#[test]
fn a_window_bears_every_source() {
    let desktop = Desktop::start();
    let program = Program::start_with(|command| {
        command.arg("--window").envs(desktop.environment());
        command.env_remove("WAYLAND_DISPLAY");
    });
    desktop.person(&["see=No notebook", "name=mine", "press=Create", "cells=1"]);
    program.python("nul.py", &["mine"]);
    desktop.person(&[
        "see=never",
        "write=print('after')",
        "press=Run",
        "see=after",
    ]);
}

#[test]
fn a_program_whose_window_is_closed_ends_with_its_kernels() {
    let desktop = Desktop::start();
    let mut program = Program::start_with(|command| {
        command.arg("--window").envs(desktop.environment());
        command.env_remove("WAYLAND_DISPLAY");
    });
    desktop.person(&["see=No notebook"]);
    // What a page makes is there too.
    let (base, token) = program.url.split_once("/?token=").expect("a token");
    run(Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--max-time", "20"])
        .args(["--header", &format!("authorization: Bearer {token}")])
        .args(["--json", r#"{"name": "mine", "kernel": "python"}"#])
        .arg(format!("{base}/notebooks")));
    desktop.person(&[
        "see=mine",
        "cells=1",
        "write=import subprocess\nprint('begun', subprocess.Popen(['sleep', '1000']).pid)",
        "press=Run",
        "see=begun ",
    ]);
    let kernels = below(program.process.id());
    assert!(kernels.len() >= 3, "{kernels:?}");
    run(Command::new("xdotool")
        .args(["mousemove", "100", "600", "key", "ctrl+w"])
        .envs(desktop.environment()));
    assert!(program.process.wait().expect("it was started").success());
    until_gone(&kernels);
}
