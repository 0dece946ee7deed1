//! Accepting where that is forbidden.

use std::{
    env,
    future::poll_fn,
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use entwined::{Standalone, reactor::RunError, transport::tcp};

/// Makes a system call fail, as a security module or a sandbox does (seccomp(2)), and then executes
/// its arguments.
pub(super) const FORBIDS: &str = r#"
import ctypes, os, struct, sys

libc = ctypes.CDLL(None)
numbers = {
    "accept4": {"x86_64": 288, "aarch64": 242},
    "pidfd_open": {"x86_64": 434, "aarch64": 434},
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

const VARIABLE: &str = "ENTWINED_TEST_FORBIDDEN";

#[test]
fn a_listener_that_may_not_accept_does_not_keep_the_thread_busy() {
    if env::var_os(VARIABLE).is_none() {
        let name = "on_linux::accept::a_listener_that_may_not_accept_does_not_keep_the_thread_busy";
        let status = Command::new("/usr/bin/python3")
            // EACCES. The connection stays where it is, and the listener readable.
            .args(["-c", FORBIDS, "accept4", "13"])
            .arg(env::current_exe().expect("this program"))
            .args(["--exact", name])
            .env(VARIABLE, "1")
            .stdout(Stdio::null())
            .status()
            .expect("apt-get install python3");
        assert!(status.success(), "{status}");
        return;
    }
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let listener = tcp::listen(&handle, "127.0.0.1:0").expect("a listener");
    let address = listener.local_address().tcp().expect("TCP");
    let _peer = TcpStream::connect(address).expect("a connection");
    let turns = reactor.block_on(async move {
        let accepted = poll_fn(|cx| listener.poll_accept(cx));
        let accepted = handle.timeout(Duration::from_millis(500), accepted).await;
        assert!(accepted.is_err(), "nothing is accepted");
        Ok::<_, RunError>(handle.metrics().turns)
    });
    let turns = turns.expect("a run without a panic");
    assert!(turns < 100, "{turns} turns");
}
