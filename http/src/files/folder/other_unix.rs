//! Unix without openat2(2): a name is opened one part after the other, and links are not followed.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::fs::{CWD, Mode, OFlags, openat};

pub(in crate::files) struct Folder(OwnedFd);

const READ: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

impl Folder {
    pub(in crate::files) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Folder(openat(CWD, path, flags, Mode::empty())?))
    }

    /// Opens a file below this folder, or the folder itself if the name is empty.
    pub(in crate::files) fn entry(&self, name: &str) -> io::Result<File> {
        let mut at = openat(&self.0, ".", READ | OFlags::DIRECTORY, Mode::empty())?;
        for part in name.split('/').filter(|part| !part.is_empty()) {
            if matches!(part, "." | "..") {
                return Err(io::ErrorKind::NotFound.into());
            }
            at = openat(at.as_fd(), part, READ | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(at.into())
    }
}
