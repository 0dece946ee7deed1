//! Child processes: what only Windows has.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Ipv4Addr, UdpSocket},
    os::windows::io::{AsHandle, AsRawSocket},
    process,
};

use entwined::{process::Io, transport::tcp};

use crate::process::{
    Connected, child_of, is_child, is_there, read, read_beginning, read_to_end, run, wait,
    wait_until_gone,
};

fn child(what: &str) -> entwined::process::Command {
    child_of("on_windows::program", what)
}

/// Not a test: what the children of the other tests do.
#[test]
fn program() {
    let Some(what) = is_child() else { return };
    let mut words = what.split(' ');
    match words.next().expect("a word") {
        "silence" => {
            let stdout = io::stdout().as_handle().try_clone_to_owned();
            let mut stdout = File::from(stdout.expect("a copy"));
            for word in ["", "one", "", "", "two", ""] {
                // Without a buffer: some writes have no bytes.
                let count = stdout.write(word.as_bytes()).expect("written");
                assert_eq!(count, word.len());
                // This side reads each of them.
                io::stdin().read_exact(&mut [0]).expect("a byte");
            }
        }
        "exit" => {}
        // Starts a child that is to die with it, and dies.
        "die" => {
            let rest = words.collect::<Vec<_>>().join(" ");
            run(move |handle| async move {
                let child = crate::process::child_of("process::program", &rest);
                let child = child.die_with_parent(true).spawn(&handle);
                let _child = child.expect("it starts");
                io::stdin().read_exact(&mut [0]).expect("a byte");
                process::abort();
            });
        }
        _ => wait(),
    }
    process::exit(0);
}

/// .NET and Go write no bytes when they are told to, and a read returns that.
#[test]
fn a_write_of_no_bytes_is_not_the_end() {
    run(|handle| async move {
        let command = child("silence").stdin(Io::Stream).stdout(Io::Stream);
        let mut process = command.spawn(&handle).expect("it starts");
        let mut output = process.take_stdout().expect("a stream");
        let mut input = process.take_stdin().expect("a stream");
        read_beginning(&mut output).await;
        for word in ["", "one", "", "", "two", ""] {
            if !word.is_empty() {
                assert_eq!(read(&mut output).await.expect("bytes"), word.as_bytes());
            }
            crate::process::write_all(&mut input, b"?")
                .await
                .expect("written");
        }
        assert_eq!(read_to_end(&mut output).await, b"");
        assert!(process.exited().await.expect("its status").success());
    });
}

#[test]
fn a_child_dies_with_the_program_and_so_does_a_group() {
    run(|handle| async move {
        let children = Connected::new();
        let what = format!("die {}", children.what());
        let command = child(&what).stdin(Io::Stream);
        let mut process = command.spawn(&handle).expect("it starts");
        let mut input = process.take_stdin().expect("a stream");
        let grandchild = children.accept();
        assert!(is_there(&grandchild));
        crate::process::write_all(&mut input, b"?")
            .await
            .expect("written");
        assert!(!process.exited().await.expect("its status").success());
        wait_until_gone(grandchild);
    });
}

#[test]
fn children_do_not_inherit_sockets() {
    let address = run(|handle| async move {
        let listener = tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let address = listener.local_address().tcp().expect("an address");
        let process = child("wait").stdout(Io::Stream).kill_on_drop(true);
        let mut process = process.spawn(&handle).expect("it starts");
        let mut output = process.take_stdout().expect("a stream");
        read_beginning(&mut output).await;
        drop(listener);
        // The child would still have it.
        tcp::listen(&handle, address).expect("the port is free");
        address
    });
    assert_ne!(address.port(), 0);
}

/// Returns a number that grows with the open handles of this process: the system gives a new handle
/// the lowest number that is free.
fn open_handles() -> u64 {
    let sockets: Vec<_> = (0..64)
        .map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket"))
        .collect();
    let numbers = sockets.iter().map(|socket| socket.as_raw_socket() / 4);
    numbers.max().expect("some")
}

#[test]
fn two_hundred_children_come_and_go_and_leave_no_handle_behind() {
    run(|handle| async move {
        let mut before = None;
        for _ in 0..20 {
            let children: Vec<_> = (0..10)
                .map(|_| {
                    let command = child("exit").stdin(Io::Stream).stdout(Io::Stream);
                    let command = command.stderr(Io::Stream).process_group();
                    command.spawn(&handle).expect("it starts")
                })
                .collect();
            for child in children {
                assert!(child.exited().await.expect("its status").success());
            }
            before.get_or_insert_with(open_handles);
        }
        let (before, after) = (before.expect("a number"), open_handles());
        // Each child has at least five here: its pipes, itself, its job.
        assert!(after < before + 200, "{before} before, {after} after");
    });
}
