//! What must hold whatever breaks. `FAULTS` is how often; `cargo xtask programs --faults` sets it.

use super::*;

#[test]
fn nobody_is_stranded_or_hears_something_twice() {
    let rounds = std::env::var("FAULTS").unwrap_or_else(|_| "4".into());
    let folder = tempfile::tempdir().expect("a folder");
    let status = Command::new("/usr/bin/python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults.py"))
        .arg(env!("CARGO_BIN_EXE_chat"))
        .arg(folder.path())
        .arg(rounds)
        .status()
        .expect("it is Debian's");
    assert!(status.success());
}
