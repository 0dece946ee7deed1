//! The messages that a user sees after starting the app incorrectly.

use std::process::Command;

use crate::app::{App, PROGRAM};

/// Returns the exit status and the text on standard error.
fn failure(command: &mut Command) -> (i32, String) {
    let output = command.output().expect("it runs");
    assert!(
        output.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    (
        output.status.code().expect("a status"),
        String::from_utf8(output.stderr).expect("a text"),
    )
}

fn failure_with(address: &str) -> (i32, String) {
    failure(Command::new(PROGRAM).args(["--seconds", "5", "--http", address]))
}

#[test]
fn a_used_port_is_named_with_what_to_do() {
    let app = App::start();
    let (status, said) = failure_with(&app.address.to_string());
    let expected = format!(
        "standalone: cannot listen on {}: another program listens there; \
         choose another port, or port 0 for a free one\n",
        app.address
    );
    assert_eq!((status, said), (1, expected));
}

#[test]
fn an_address_that_does_not_parse_is_named_with_one_that_does() {
    for address in ["localhost:80", "127.0.0.1", "127.0.0.1:99999", "::1:80", ""] {
        let (status, said) = failure_with(address);
        let expected = format!(
            "standalone: --http: '{address}' is not an address and port, \
             such as 127.0.0.1:8080 or [::1]:8080\n\
             Try 'standalone --help'.\n"
        );
        assert_eq!((status, said), (2, expected));
    }
}

#[test]
fn an_address_of_another_machine_is_told_apart() {
    // TEST-NET-1, RFC 5737: assigned to nobody.
    let (status, said) = failure_with("192.0.2.1:8080");
    assert_eq!(
        (status, said.as_str()),
        (
            1,
            "standalone: cannot listen on 192.0.2.1:8080: this machine has no such address\n"
        )
    );
}

/// Whether a port needs privileges depends on the user and the machine; the message does not.
#[test]
fn a_port_that_needs_privileges_is_told_apart() {
    let mut strace = Command::new("strace");
    strace.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "--inject=bind:error=EACCES",
        PROGRAM,
        "--http",
        "127.0.0.1:80",
    ]);
    let (status, said) = failure(&mut strace);
    let expected = "standalone: cannot listen on 127.0.0.1:80: not allowed; \
                    ports below 1024 need privileges\n";
    assert_eq!((status, said.as_str()), (1, expected));
}

#[test]
fn too_few_file_descriptors_to_start_with_are_told() {
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--nofile=5:5", PROGRAM, "--http", "127.0.0.1:0"]);
    let (status, said) = failure(&mut prlimit);
    assert_eq!(status, 1);
    assert!(said.contains("Too many open files"), "{said}");
}
