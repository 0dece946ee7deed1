//! All Unix systems.

use std::{
    fs::{File, Metadata},
    io,
    os::{
        fd::AsFd,
        unix::fs::{FileExt, MetadataExt},
    },
};

use rustix::{
    fs::{Dir, Mode, OFlags, openat},
    io::Errno,
};

use super::Folder;

impl Folder {
    /// The names in a folder below this one that [`entry`](Folder::entry) has opened, and whether
    /// each is a folder. Those that no [path](crate::path) can have are left out.
    pub(in crate::files) fn names(
        &self,
        _name: &str,
        entry: File,
    ) -> io::Result<impl Iterator<Item = io::Result<(String, bool)>> + use<>> {
        let names = Dir::new(entry)?.filter_map(|entry| match entry {
            Ok(entry) => {
                let name = entry.file_name().to_str().ok()?;
                let fine = !name.contains('\\');
                fine.then(|| Ok((name.to_owned(), entry.file_type().is_dir())))
            }
            Err(error) => Some(Err(error.into())),
        });
        Ok(names)
    }
}

const READ: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// Opens a file below a folder, one part of its name after the other. Links are not followed.
pub(super) fn by_parts(folder: impl AsFd, name: &str) -> io::Result<File> {
    let mut at = openat(folder, ".", READ | OFlags::DIRECTORY, Mode::empty())?;
    for part in name.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            return Err(io::ErrorKind::NotFound.into());
        }
        at = openat(at.as_fd(), part, READ | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(at.into())
}

/// Whether an error means that there is no such file, as far as a client may know.
pub(in crate::files) fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || matches!(
            Errno::from_io_error(error),
            Some(
                Errno::NOTDIR
                    | Errno::XDEV
                    | Errno::LOOP
                    | Errno::MLINK
                    | Errno::NAMETOOLONG
                    | Errno::ACCESS
                    | Errno::PERM
                    | Errno::INVAL
                    | Errno::NXIO
            )
        )
}

/// What differs between two files, and between two states of one.
pub(in crate::files) fn tag(metadata: &Metadata) -> String {
    format!(
        "{:x}-{:x}-{:x}-{:x}",
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec()
    )
}

pub(in crate::files) fn read_exact_at(file: &File, bytes: &mut [u8], from: u64) -> io::Result<()> {
    file.read_exact_at(bytes, from)
}
