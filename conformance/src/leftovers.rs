//! Child processes: behaviour 63, what a run must not leave in the system, and behaviour 40.

use std::future::pending;

use entwined::process::{Command, Io};

use super::{
    rig::{Rig, hold, ms},
    sys,
};

pub(super) fn b63_children_end_with_the_run() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    let child = rig.complete(async move {
        let child = sys::long_program()
            .stdin(Io::Null)
            .kill_on_drop(true)
            .spawn(&handle)
            .expect("it starts");
        let id = child.id();
        // A task keeps it until the run ends.
        handle.spawn(async move {
            let _kept = child;
            pending::<()>().await
        });
        id
    });
    // On Unix it is reaped by a thread.
    for _ in 0..2_000 {
        if !sys::is_process(child) {
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
