//! Child processes: behaviour 63, what a run must not leave in the system, and behaviour 40.

use std::future::pending;

use entwined::{
    process::{Command, Io},
    transport::{UnixAddress, unix},
};

use super::{
    backend::backend,
    rig::{Rig, hold, ms},
};

pub(super) fn b63_children_and_socket_files_end_with_the_run() {
    let rig = Rig::new();
    let folder = std::env::temp_dir().join(format!(
        "entwined-b63-{}-{}",
        std::process::id(),
        backend()
            .name
            .replace(|letter: char| !letter.is_ascii_alphanumeric(), "-")
    ));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("socket");
    let handle = rig.handle.clone();
    let (file, name) = (path.clone(), UnixAddress::Path(folder.join("datagrams")));
    let child = rig.complete(async move {
        let mut child = Command::new("sleep")
            .arg("1000")
            .stdin(Io::Null)
            .kill_on_drop(true)
            .spawn(&handle)
            .expect("it starts");
        let id = child.id();
        // A task keeps all of them until the run ends.
        let listener = unix::listen(&handle, &file).expect("a listener");
        let datagrams = unix::datagram(&handle, &name).expect("a socket");
        handle.spawn(async move {
            let _kept = (&mut child, listener, datagrams);
            pending::<()>().await
        });
        assert!(file.exists());
        id
    });
    assert!(!path.exists() && !folder.join("datagrams").exists());
    let _ = std::fs::remove_dir_all(&folder);
    let pid = rustix::process::Pid::from_raw(child as i32).expect("a number");
    // It is reaped by a thread.
    for _ in 0..2_000 {
        if rustix::process::test_kill_process(pid).is_err() {
            return;
        }
        hold(ms(1));
    }
    panic!("the child still runs");
}

pub(super) fn b40_a_program_that_is_missing_says_so_over_pipes() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    rig.complete(async move {
        let error = Command::new("/nonexistent/program")
            .spawn(&handle)
            .expect_err("there is none");
        assert!(
            error.to_string().contains("/nonexistent/program"),
            "{error}"
        );
    });
}
