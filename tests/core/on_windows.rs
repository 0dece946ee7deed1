//! What only Windows has: of child processes, and its handles.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpStream, UdpSocket},
    os::windows::io::{AsHandle, AsRawSocket},
    process,
    sync::{Mutex, PoisonError},
};

use entwined::{
    process::{ExitError, Io},
    transport::tcp,
};

use crate::{
    process::{
        Connected, LIMIT, child_of, is_child, is_there, read, read_beginning, read_to_end, run,
        wait, wait_until_gone, write_all,
    },
    streams,
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
            let in_group = words.next() == Some("group");
            let rest = words.collect::<Vec<_>>().join(" ");
            run(move |handle| async move {
                let child = child_of("process::program", &rest);
                let child = match in_group {
                    true => child.process_group().kill_on_drop(true),
                    false => child.die_with_parent(true),
                };
                let _child = child.spawn(&handle).expect("it starts");
                io::stdin().read_exact(&mut [0]).expect("a byte");
                process::abort();
            });
        }
        _ => wait(),
    }
    process::exit(0);
}

/// .NET and Go write no bytes when they are told to, and on Windows a read returns that. (Wine does
/// not hand such a write on, so there this shows less.)
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
            write_all(&mut input, b"?").await.expect("written");
        }
        assert_eq!(read_to_end(&mut output).await, b"");
        assert!(process.exited().await.expect("its status").success());
    });
}

/// Starts a program that starts a child and a grandchild, and dies. Returns the connections of both
/// of them.
async fn survivors(handle: entwined::Handle, how: &str) -> [TcpStream; 2] {
    let (first, second) = (Connected::new(), Connected::new());
    let what = format!("die {how} both {} {}", first.address(), second.address());
    let command = child(&what).stdin(Io::Stream);
    let mut process = command.spawn(&handle).expect("it starts");
    let mut input = process.take_stdin().expect("a stream");
    let connections = [first.accept(), second.accept()];
    assert!(connections.iter().all(is_there));
    write_all(&mut input, b"?").await.expect("written");
    assert!(!process.exited().await.expect("its status").success());
    connections
}

#[test]
fn a_child_dies_with_the_program_and_what_it_has_started_does_not() {
    run(|handle| async move {
        let [child, grandchild] = survivors(handle, "alone").await;
        wait_until_gone(child);
        assert!(is_there(&grandchild));
    });
}

#[test]
fn a_group_that_is_killed_on_drop_dies_with_the_program() {
    run(|handle| async move {
        let [child, grandchild] = survivors(handle, "group").await;
        wait_until_gone(child);
        wait_until_gone(grandchild);
    });
}

#[test]
fn what_dies_with_the_program_outlives_the_run() {
    let children = Connected::new();
    let what = children.what();
    let exited = run(move |handle| async move {
        let child = child_of("process::program", &what).die_with_parent(true);
        child.spawn(&handle).expect("it starts").exited()
    });
    assert_eq!(run(|_| exited), Err(ExitError::Stopped));
    assert!(is_there(&children.accept()));
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

/// Held by tests that count handles.
static COUNTING: Mutex<()> = Mutex::new(());

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
    let _counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    // On a busy machine they take minutes, so each has its limit.
    crate::run::run(|handle| async move {
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
                let status = handle.timeout(LIMIT, child.exited()).await;
                let status = status.expect("an end in time").expect("its status");
                assert!(status.success());
            }
            before.get_or_insert_with(open_handles);
        }
        let (before, after) = (before.expect("a number"), open_handles());
        // Each child has at least five here: its pipes, itself, its job.
        assert!(after < before + 200, "{before} before, {after} after");
    });
}

#[test]
fn ten_thousand_connections_come_and_go_and_leave_no_handle_behind() {
    let _counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    // On a busy machine they take minutes, so each has its limit.
    crate::run::run(|handle| async move {
        let listener = tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let address = listener.local_address().tcp().expect("an address");
        let mut before = None;
        for _ in 0..100 {
            let mut open = Vec::new();
            for _ in 0..100 {
                let connection = async {
                    let mut client = tcp::connect(&handle, address).await.expect("a server");
                    let mut server = listener.accept().await.expect("a client");
                    streams::write_all(&mut client, b"?")
                        .await
                        .expect("written");
                    let count = streams::read(&mut server, &mut [0]).await;
                    assert_eq!(count.expect("a byte"), 1);
                    [client, server]
                };
                let connection = handle.timeout(LIMIT, connection).await;
                open.push(connection.expect("a connection in time"));
            }
            drop(open);
            before.get_or_insert_with(open_handles);
        }
        let (before, after) = (before.expect("a number"), open_handles());
        assert!(after < before + 100, "{before} before, {after} after");
    });
}
