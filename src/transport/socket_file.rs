//! The file of a Unix socket.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A socket's file. It is removed on drop if it is still the same file.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    pub(super) fn of(path: &Path) -> Option<Self> {
        Some(SocketFile {
            // The program may change its directory before the file is removed.
            path: std::path::absolute(path).ok()?,
            identity: identity(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path) == Some(self.identity) {
            // Somebody else may already have removed it; then nothing is left to do.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Distinguishes this file from a later one with the same name.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = std::fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}
