//! Attempts to connect to what only Unix has: more of behaviour 40.

use super::rig::Rig;
use entwined::{
    process,
    transport::{ConnectError, unix},
};

pub(super) fn b40_connect_unreachable_says_so_over_unix() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    rig.complete(async move {
        let error = unix::connect(&handle, "/nonexistent/socket")
            .await
            .expect_err("no such file");
        assert!(
            matches!(error, ConnectError::Unreachable { .. }),
            "{error:?}"
        );
    });
}

pub(super) fn b40_connect_refused_says_so_over_unix() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    rig.complete(async move {
        let name = format!("entwined-nobody-{}", std::process::id());
        let error = unix::connect_abstract(&handle, &name)
            .await
            .expect_err("nobody listens there");
        assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
        assert!(error.to_string().contains(&name), "{error}");
    });
}

pub(super) fn b40_a_program_that_is_missing_says_so_over_pipes() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    rig.complete(async move {
        let error = process::Command::new("/nonexistent/program")
            .spawn(&handle)
            .expect_err("there is none");
        assert!(
            error.to_string().contains("/nonexistent/program"),
            "{error}"
        );
    });
}
