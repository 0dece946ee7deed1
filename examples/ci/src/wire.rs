//! What master and worker tell each other.
//!
//! A worker calls `work`, which does not return. While it runs, the master calls the worker: `run`
//! for a build, and `ping`.

use serde::{Deserialize, Serialize};

/// A build, as a worker gets it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub id: i64,
    /// What `git clone` takes, or nothing.
    pub repository: Option<String>,
    /// A script for `sh`, which is run in the clone or in an empty folder.
    pub script: String,
}

/// What a worker says of a build while it runs.
#[derive(Debug, Serialize, Deserialize)]
pub enum Said {
    /// A piece of what it prints.
    Output(#[serde(with = "serde_bytes")] Vec<u8>),
    /// A piece of a file that it leaves in the folder `$ARTIFACTS`.
    Artifact(String, #[serde(with = "serde_bytes")] Vec<u8>),
    /// The exit code, or nothing if it was killed by a signal.
    Exit(Option<i32>),
}

/// The size of a piece. With the window of a stream, 16, it is the most that a build may be ahead
/// of the master's disk.
pub const PIECE: usize = 32 * 1024;

/// The name that is asked for in the handshake, for which the master's certificate must be.
pub const MASTER: &str = "master";
