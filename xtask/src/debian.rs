//! The system packages that a command needs: the only list of them, and their installation.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use crate::{Result, process};

/// Packages with one purpose.
pub struct Group {
    why: &'static str,
    packages: &'static [&'static str],
}

pub const GTK: Group = Group {
    why: "GTK 4 to build with, and the icons and a font that its windows show",
    packages: &["libgtk-4-dev", "adwaita-icon-theme", "fonts-dejavu-core"],
};

pub const GTK3: Group = Group {
    why: "the GTK 3 window",
    packages: &["libgtk-3-dev"],
};

pub const GLIB: Group = Group {
    why: "GLib to build with",
    packages: &["libglib2.0-dev"],
};

pub const WINIT: Group = Group {
    why: "what winit loads when it starts, on X11 and on Wayland",
    packages: &[
        "libx11-6",
        "libx11-xcb1",
        "libxcursor1",
        "libxi6",
        "libxkbcommon-x11-0",
        "libxkbcommon0",
        "libxrandr2",
        "libwayland-client0",
        "fonts-dejavu-core",
    ],
};

pub const QT: Group = Group {
    why: "Qt 6 and Qt 5 to build with",
    packages: &[
        "g++",
        "make",
        "pkg-config",
        "qt6-base-dev",
        "qtbase5-dev",
        "fonts-dejavu-core",
    ],
};

pub const GNUSTEP: Group = Group {
    why: "GNUstep, which has Cocoa's classes, to build with, and its way to draw",
    packages: &[
        "fonts-dejavu-core",
        "gnustep-back0.29-cairo",
        "gnustep-make",
        "gobjc",
        "libgnustep-gui-dev",
        "make",
    ],
};

pub const EGUI: Group = Group {
    why: "what eframe loads when it starts: OpenGL, in software if need be",
    packages: &["libegl1", "libgl1", "libgl1-mesa-dri"],
};

pub const FLTK: Group = Group {
    why: "FLTK to build with",
    packages: &["g++", "libfltk1.3-dev"],
};

pub const DISPLAY: Group = Group {
    why: "a display in memory (Xvfb) where there is none, and pictures of it (ImageMagick)",
    packages: &["xvfb", "imagemagick"],
};

pub const WINDOWS: Group = Group {
    why: "requests to windows (curl), and what wakes them when nothing happens (strace)",
    packages: &["curl", "strace"],
};

pub const CROSS: Group = Group {
    why: "a compiler that builds its standard library for other systems, and Wine",
    packages: &[
        "curl",
        "gcc-mingw-w64-x86-64",
        "libstd-rust-web-dev",
        "rust-web-src",
        "rustc-web",
        "wine64",
    ],
};

pub const TESTS: Group = Group {
    why: "faults injected into system calls (strace), and peers that are not ours (the others)",
    packages: &[
        "ca-certificates",
        "curl",
        "haproxy",
        "netcat-openbsd",
        "nghttp2-client",
        "nginx-light",
        "nodejs",
        "openssh-client",
        "openssl",
        "python3-h2",
        "python3-httpx",
        "python3-msgpack",
        "python3-twisted",
        "python3-websockets",
        "socat",
        "strace",
        "systemd",
        "weston",
        "wget",
    ],
};

pub const PROGRAMS: Group = Group {
    why: "clients and servers that the example programs are tested with",
    packages: &[
        "at-spi2-core",
        "chromium",
        "chromium-driver",
        "curl",
        "dbus-daemon",
        "gir1.2-atspi-2.0",
        "gir1.2-gtk-4.0",
        "git",
        "libglib2.0-bin",
        "litmus",
        "nginx-light",
        "openssl",
        "postgresql",
        "python3-caldav",
        "python3-dbusmock",
        "python3-gi",
        "python3-matplotlib",
        "python3-nbformat",
        "python3-selenium",
        "python3-websockets",
        "redis-server",
        "redis-tools",
        "sqlite3",
        "telnet",
        "vdirsyncer",
        "xdotool",
    ],
};

pub const PYTHON: Group = Group {
    why: "Python with packages of its own, for comparison",
    packages: &["python3", "python3-venv"],
};

pub const STRANGERS: Group = Group {
    why: "Redis, and chats in Python to measure against",
    packages: &[
        "python3-autobahn",
        "python3-gevent",
        "python3-gevent-websocket",
        "python3-hiredis",
        "python3-redis",
        "python3-twisted",
        "redis-server",
    ],
};

pub const WEB_PEERS: Group = Group {
    why: "web servers to measure against",
    packages: &[
        "curl",
        "gcc",
        "libsoup-3.0-dev",
        "nginx-light",
        "pkg-config",
    ],
};

pub const LOAD: Group = Group {
    why: "load for the HTTP servers",
    packages: &["wrk"],
};

pub const PAGES: Group = Group {
    why: "a browser that looks at the pages",
    packages: &["chromium", "chromium-driver", "openssl", "python3-selenium"],
};

/// Installs the missing packages of these groups. On other systems than Debian it only prints what
/// is needed.
pub fn ensure(groups: &[&Group]) -> Result<()> {
    let mut missing = Vec::new();
    for group in groups {
        for package in group.packages {
            match installed(package) {
                Ok(true) => {}
                Ok(false) => missing.push(*package),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    // The packages may exist under other names, so this is not an error.
                    eprintln!(
                        "This is not Debian. Packages needed, by their Debian names:\n{}",
                        list(groups)
                    );
                    return Ok(());
                }
                Err(error) => return Err(format!("cannot run dpkg-query: {error}").into()),
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    missing.sort_unstable();
    missing.dedup();
    eprintln!("Installing {}", missing.join(" "));
    // A fresh container has no package lists, or old ones, which name old versions: those of a
    // compiler differ by years. Without a network, what is there may do.
    if let Err(error) = apt_get(&["update"]) {
        eprintln!("The lists of packages may be old: {error}");
    }
    install(&missing).map_err(|error| {
        format!(
            "{error}\nThese packages are missing and could not be installed: {}\n\
             All packages needed:\n{}",
            missing.join(" "),
            list(groups)
        )
        .into()
    })
}

fn list(groups: &[&Group]) -> String {
    groups
        .iter()
        .map(|group| format!("  {}\n      for {}\n", group.packages.join(" "), group.why))
        .collect()
}

fn installed(package: &str) -> std::io::Result<bool> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output()?;
    // If there are several architectures, there is a word for each.
    Ok(String::from_utf8_lossy(&output.stdout).starts_with("installed"))
}

fn install(packages: &[&str]) -> Result<()> {
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    apt_get(&arguments)
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let root = process::output(Command::new("id").arg("-u"))?.trim() == "0";
    let mut command = Command::new(if root { "env" } else { "sudo" });
    // Passed through env, because sudo does not pass our environment on.
    if !root {
        command.arg("env");
    }
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    command.args(arguments);
    process::succeed(&mut command)
}
