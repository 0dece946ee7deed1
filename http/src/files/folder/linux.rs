//! Linux: the kernel keeps a name below its folder (openat2(2)). Where that call is missing or
//! forbidden, it is as on other systems.

use std::{fs::File, io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};

use super::by_parts;

pub(in crate::files) struct Folder(OwnedFd);

impl Folder {
    pub(in crate::files) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Folder(openat(CWD, path, flags, Mode::empty())?))
    }

    /// Opens a file below this folder, or the folder itself if the name is empty. Symbolic links
    /// are followed as long as they stay below it.
    pub(in crate::files) fn entry(&self, name: &str) -> io::Result<File> {
        let name = if name.is_empty() { "." } else { name };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match openat2(&self.0, name, flags, Mode::empty(), resolve) {
            // An old kernel, or a sandbox that does not know the call (seccomp(2)).
            Err(Errno::NOSYS | Errno::PERM) => by_parts(&self.0, name),
            file => Ok(file?.into()),
        }
    }
}
