//! The files of builds: a log each, and artifacts. Files are used on threads only.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use entwined::{Handle, deferred::Deferred};

/// A log stops growing here, and says so.
const MAX_LOG: u64 = 64 * 1024 * 1024;

/// All artifacts of a build have this size at most.
const MAX_ARTIFACT: u64 = 256 * 1024 * 1024;

/// A build has this many artifacts at most, however small they are.
const MAX_ARTIFACTS: usize = 1_000;

#[derive(Clone)]
pub struct Files {
    handle: Handle,
    folder: PathBuf,
}

impl Files {
    pub fn new(handle: &Handle, folder: &Path) -> io::Result<Files> {
        for name in ["logs", "artifacts"] {
            fs::create_dir_all(folder.join(name))?;
        }
        Ok(Files {
            handle: handle.clone(),
            folder: folder.to_owned(),
        })
    }

    pub fn artifacts(&self) -> PathBuf {
        self.folder.join("artifacts")
    }

    fn log(&self, id: i64) -> PathBuf {
        self.folder.join("logs").join(format!("{id}.log"))
    }

    /// Begins a build: artifacts of an earlier try go, its log stays.
    pub fn begin(&self, id: i64) -> Deferred<(), io::Error> {
        let folder = self.artifacts().join(id.to_string());
        self.handle
            .defer_to_thread(move |_| match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            })
    }

    /// Appends to a build's log. The result comes when it is written.
    pub fn append(&self, id: i64, bytes: Vec<u8>) -> Deferred<(), io::Error> {
        let path = self.log(id);
        self.handle.defer_to_thread(move |_| {
            let mut file = fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)?;
            match file.metadata()?.len() {
                length if length > MAX_LOG => Ok(()),
                length if length + bytes.len() as u64 > MAX_LOG => {
                    file.write_all(b"\n[the log is too long: the rest is left out]\n")?;
                    file.set_len(MAX_LOG + 1)
                }
                _ => file.write_all(&bytes),
            }
        })
    }

    /// Reads a piece of a build's log; it is empty at the end.
    pub fn read(&self, id: i64, at: u64) -> Deferred<Vec<u8>, io::Error> {
        let path = self.log(id);
        self.handle.defer_to_thread(move |_| {
            let mut piece = vec![0; 64 * 1024];
            let count = match fs::File::open(path) {
                Ok(file) => file.read_at(&mut piece, at)?,
                // Nothing was written yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                Err(error) => return Err(error),
            };
            piece.truncate(count);
            Ok(piece)
        })
    }

    /// Reads the end of a build's log, and says how long the log is.
    #[cfg(feature = "window")]
    pub fn read_end(&self, id: i64, most: u64) -> Deferred<(Vec<u8>, u64), io::Error> {
        let path = self.log(id);
        self.handle.defer_to_thread(move |_| {
            let file = match fs::File::open(path) {
                Ok(file) => file,
                // Nothing was written yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((vec![], 0)),
                Err(error) => return Err(error),
            };
            let length = file.metadata()?.len();
            let most = length.min(most);
            let mut piece = vec![0; most as usize];
            file.read_exact_at(&mut piece, length - most)?;
            Ok((piece, length))
        })
    }

    /// Appends to an artifact.
    pub fn store(&self, id: i64, name: String, bytes: Vec<u8>) -> Deferred<(), io::Error> {
        let folder = self.artifacts().join(id.to_string());
        self.handle.defer_to_thread(move |_| {
            if !is_plain(&name) {
                return Err(io::Error::other(format!(
                    "{name:?} is not a name of an artifact"
                )));
            }
            fs::create_dir_all(&folder)?;
            let (mut stored, mut count) = (0, 0);
            for entry in fs::read_dir(&folder)? {
                stored += entry?.metadata()?.len();
                count += 1;
            }
            if stored + bytes.len() as u64 > MAX_ARTIFACT {
                return Err(io::Error::other("the artifacts are too large"));
            }
            let path = folder.join(name);
            if count >= MAX_ARTIFACTS && !path.try_exists()? {
                return Err(io::Error::other("there are too many artifacts"));
            }
            fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)?
                .write_all(&bytes)
        })
    }
}

/// A worker is trusted to run builds, but not with the master's files.
fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.len() < 200 && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_artifacts_stay_in_their_folder() {
        assert!(["a", "a-1.2.tar.gz", "x_y"].into_iter().all(is_plain));
        assert!(
            !["", ".", "..", ".ssh", "a/b", "../a", "a\0", "ü"]
                .into_iter()
                .any(is_plain)
        );
    }
}
