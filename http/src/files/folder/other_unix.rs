//! Unix without openat2(2): a name is opened one part after the other, and links are not followed.

use std::{fs::File, io, os::fd::OwnedFd, path::Path};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::by_parts;

pub(in crate::files) struct Folder(OwnedFd);

impl Folder {
    pub(in crate::files) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Folder(openat(CWD, path, flags, Mode::empty())?))
    }

    /// Opens a file below this folder, or the folder itself if the name is empty.
    pub(in crate::files) fn entry(&self, name: &str) -> io::Result<File> {
        by_parts(&self.0, name)
    }
}
