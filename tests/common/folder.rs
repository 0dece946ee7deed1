//! A place for files.

use std::{fs, path::PathBuf};

/// A folder that goes with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    /// `name` tells it from those of other tests.
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("entwined-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
