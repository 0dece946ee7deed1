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
    fs::{Dir, FileType, Mode, OFlags, openat},
    io::Errno,
};

use super::Folder;

impl Folder {
    /// The names in a folder below this one that [`entry`](Folder::entry) has opened as `folder`,
    /// and whether each is a folder. Those that cannot be asked for are left out: no
    /// [path](crate::path) can have the name, or it is not a file, or a link that leads to none.
    pub(in crate::files) fn names(
        &self,
        folder: &str,
        entry: File,
    ) -> io::Result<impl Iterator<Item = io::Result<(String, bool)>>> {
        let names = Dir::new(entry)?.filter_map(move |entry| match entry {
            Ok(entry) => {
                let name = entry.file_name().to_str().ok()?;
                let is_folder = match entry.file_type() {
                    FileType::RegularFile => false,
                    FileType::Directory => true,
                    // Some file systems do not tell.
                    FileType::Symlink | FileType::Unknown => self.leads_to(folder, name)?,
                    _ => return None,
                };
                let fine = !name.contains('\\');
                fine.then(|| Ok((name.to_owned(), is_folder)))
            }
            Err(error) => Some(Err(error.into())),
        });
        Ok(names)
    }

    /// Whether this leads to a folder; `None` if it leads to no file.
    fn leads_to(&self, folder: &str, name: &str) -> Option<bool> {
        let path = format!("{folder}/{name}");
        let entry = self.entry(path.trim_start_matches('/')).ok()?;
        let about = entry.metadata().ok()?;
        (about.is_dir() || about.is_file()).then(|| about.is_dir())
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
