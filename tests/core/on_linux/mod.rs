//! Tests of what only Linux has, or all Unix systems: file descriptors, Unix sockets, processes and
//! signals. Many have programs of others as peers.

mod accept;
mod addresses;
mod datagram;
#[cfg(feature = "tls")]
mod endpoint;
mod framing;
mod interleave;
mod policy;
mod process;
mod process_protocol;
mod proxy;
#[cfg(feature = "rpc")]
mod rpc;
mod service;
mod signal;
mod thread;

use std::{
    env,
    process::{Command, Stdio},
};

/// Makes a system call fail, as a security module or a sandbox does (seccomp(2)), and then executes
/// its arguments.
const FORBIDS: &str = r#"
import ctypes, os, struct, sys

libc = ctypes.CDLL(None)
numbers = {
    "accept4": {"x86_64": 288, "aarch64": 242},
    "chdir": {"x86_64": 80, "aarch64": 49},
    "close_range": {"x86_64": 436, "aarch64": 436},
    "ppoll": {"x86_64": 271, "aarch64": 73},
    "pidfd_open": {"x86_64": 434, "aarch64": 434},
    "recvmmsg": {"x86_64": 299, "aarch64": 243},
}
number, errno = numbers[sys.argv[1]][os.uname().machine], int(sys.argv[2])
deny, allow = (0x06, 0, 0, 0x50000 | errno), (0x06, 0, 0, 0x7fff0000)
lines = [(0x20, 0, 0, 0), (0x15, 0, 1, number), deny, allow]
code = b"".join(struct.pack("HBBI", *line) for line in lines)
memory = ctypes.create_string_buffer(code)

class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

program = Program(len(lines), ctypes.addressof(memory))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program)) == 0
os.execv(sys.argv[3], sys.argv[3:])
"#;

/// Runs the test of this name in a process of its own in which a system call fails with this
/// error. Returns whether this is that process.
fn forbidden(call: &str, errno: i32, name: &str) -> bool {
    const VARIABLE: &str = "ENTWINED_TEST_FORBIDDEN";
    if env::var_os(VARIABLE).is_some() {
        return true;
    }
    let status = Command::new("/usr/bin/python3")
        .args(["-c", FORBIDS, call, &errno.to_string()])
        .arg(env::current_exe().expect("this program"))
        .args(["--exact", &format!("on_linux::{name}")])
        .env(VARIABLE, "1")
        .stdout(Stdio::null())
        .status()
        .expect("apt-get install python3");
    assert!(status.success(), "{status}");
    false
}
