//! What must hold whatever breaks. `FAULTS` is how often; `cargo xtask programs --faults` sets it.

use super::*;

#[test]
fn no_process_is_left_and_no_file_is_torn() {
    let rounds = std::env::var("FAULTS").unwrap_or_else(|_| "3".into());
    let folder = tempfile::tempdir().expect("a folder");
    let script = format!("{}/tests/crash.py", env!("CARGO_MANIFEST_DIR"));
    let text = run(Command::new("/usr/bin/python3")
        .arg(script)
        .arg(env!("CARGO_BIN_EXE_notebook"))
        .arg(folder.path())
        .arg(rounds));
    print!("{text}");
}
