//! Windows: a file has many names there, and only one of them is served.
//!
//! The name that Windows itself gives to what was opened must be, letter by letter, the one that
//! was asked for. So a file is not found by its short name (`PROGRA~1`), in other letters' case,
//! with a dot or a space at the end, as a stream of another (`x:y`), or through a link. A guard
//! that looks at paths thus sees all names that there are.

use std::{
    fs::{File, Metadata},
    io,
    os::windows::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Component, Path, PathBuf},
};

/// A folder, by its canonical path.
pub(in crate::files) struct Folder(PathBuf);

/// Opens folders too: FILE_FLAG_BACKUP_SEMANTICS.
const ANY: u32 = 0x0200_0000;

impl Folder {
    pub(in crate::files) fn open(path: &Path) -> io::Result<Self> {
        Ok(Folder(path.canonicalize()?))
    }

    /// Opens a file below this folder, or the folder itself if the name is empty.
    pub(in crate::files) fn entry(&self, name: &str) -> io::Result<File> {
        if name.is_empty() {
            return File::options().read(true).custom_flags(ANY).open(&self.0);
        }
        if !name.split('/').all(is_plain) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let path = self.path(name);
        let file = File::options().read(true).custom_flags(ANY).open(&path)?;
        // As long as it is open, its name can be given to no other file.
        match is_named(&path.canonicalize()?, &self.0, name) {
            true => Ok(file),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        let mut path = self.0.clone();
        path.extend(name.split('/').filter(|part| !part.is_empty()));
        path
    }

    /// The names in a folder below this one that [`entry`](Folder::entry) has opened, and whether
    /// each is a folder. Those that cannot be opened are left out, and so are all links.
    pub(in crate::files) fn names(
        &self,
        name: &str,
        _entry: File,
    ) -> io::Result<impl Iterator<Item = io::Result<(String, bool)>> + use<>> {
        let names = self.path(name).read_dir()?.filter_map(|entry| {
            let named = entry.and_then(|entry| {
                let (name, kind) = (entry.file_name().into_string(), entry.file_type()?);
                let name = name.ok().filter(|_| !kind.is_symlink());
                Ok(name.zip(Some(kind.is_dir())))
            });
            named.transpose()
        });
        Ok(names.filter(|entry| entry.as_ref().map_or(true, |entry| is_plain(&entry.0))))
    }
}

/// Whether `path` is `root` and then exactly `name`.
fn is_named(path: &Path, root: &Path, name: &str) -> bool {
    let Ok(below) = path.strip_prefix(root) else {
        return false;
    };
    let parts = below.components().map(|part| match part {
        Component::Normal(part) => part.to_str(),
        _ => None,
    });
    parts.eq(name.split('/').map(Some))
}

/// Whether a part of a name means the same to all of Windows: no device, no stream, nothing that
/// is cut off ("Naming Files, Paths, and Namespaces" in Windows' documentation).
fn is_plain(part: &str) -> bool {
    let special = |character: char| {
        matches!(
            character,
            '\0'..='\x1f' | '<' | '>' | ':' | '"' | '/' | '\\' | '|' | '?' | '*'
        )
    };
    !part.is_empty()
        && !part.contains(special)
        && !part.ends_with(['.', ' '])
        && !is_device(part.split('.').next().unwrap_or_default())
}

/// The names of devices, which exist in every folder, also with an extension.
fn is_device(stem: &str) -> bool {
    let stem = stem.trim_end_matches(' ').to_ascii_uppercase();
    let numbered = |device: &str| {
        let number = stem.strip_prefix(device).unwrap_or_default();
        matches!(
            number,
            "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"
        )
    };
    matches!(
        &*stem,
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" | "CLOCK$"
    ) || numbered("COM")
        || numbered("LPT")
}

/// Whether an error means that there is no such file, as far as a client may know.
pub(in crate::files) fn is_missing(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound, PermissionDenied};
    matches!(
        error.kind(),
        InvalidFilename | InvalidInput | NotADirectory | NotFound | PermissionDenied
    )
}

/// What differs between two files, and between two states of one.
pub(in crate::files) fn tag(metadata: &Metadata) -> String {
    format!(
        "{:x}-{:x}-{:x}",
        metadata.creation_time(),
        metadata.len(),
        metadata.last_write_time()
    )
}

pub(in crate::files) fn read_exact_at(
    file: &File,
    mut bytes: &mut [u8],
    mut from: u64,
) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.seek_read(bytes, from) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                bytes = &mut bytes[count..];
                from += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn devices_streams_and_names_that_windows_cuts_are_not_plain() {
        for part in [
            "a",
            "a.txt",
            "console",
            "com",
            "com10",
            "nullable.txt",
            "a~1",
            "ä b",
        ] {
            assert!(is_plain(part), "{part}");
        }
        for part in [
            "",
            "NUL",
            "nul.txt",
            "con",
            "Con .x",
            "COM1",
            "lpt9.a.b",
            "COM²",
            "conin$",
            "a.",
            "a ",
            "a:b",
            "a.txt::$DATA",
            "C:",
            "a\\b",
            "a?",
            "a*",
            "a\"",
            "a|b",
            "<",
            "a\u{1}",
        ] {
            assert!(!is_plain(part), "{part}");
        }
    }

    #[test]
    fn a_file_has_one_name() {
        let root = std::env::temp_dir().join(format!("entwined-names-{}", std::process::id()));
        fs::create_dir_all(root.join("Long folder name")).expect("a folder");
        fs::write(root.join("Long folder name/Page.html"), "page").expect("a file");
        let folder = Folder::open(&root).expect("it is there");
        assert!(folder.entry("").is_ok());
        assert!(folder.entry("Long folder name").is_ok());
        assert!(folder.entry("Long folder name/Page.html").is_ok());
        for name in [
            "long folder name/Page.html",
            "Long folder name/PAGE.HTML",
            "LONGFO~1/Page.html",
            "Long folder name/Page.html.",
            "Long folder name/Page.html ",
            "Long folder name/Page.html::$DATA",
            "Long folder name/../Long folder name/Page.html",
            "Long folder name\\Page.html",
            "C:/windows/win.ini",
            "NUL",
            "CON",
        ] {
            let error = folder.entry(name).expect_err(name);
            assert!(is_missing(&error), "{name}: {error}");
        }
        fs::remove_dir_all(&root).expect("it is ours");
    }
}
