//! Temporary folders.

use std::{fs, path::PathBuf};

/// A folder that is removed at the end of the test.
pub struct Folder(pub PathBuf);

impl Folder {
    /// `name` must differ from the names in other tests.
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
