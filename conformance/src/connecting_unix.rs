//! Attempts to connect to what only Unix has: more of behaviour 40.

use super::{rig::Rig, sys};
use entwined::transport::{ConnectError, unix};

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
        let name = sys::UnixName::new();
        let error = name
            .connect(&handle)
            .await
            .expect_err("nobody listens there");
        assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
        assert!(name.is_named_in(&error.to_string()), "{error}");
    });
}
