//! A worker: runs what the master asks for, and says what it prints.

use std::{
    error::Error, fs::File, io, os::unix::fs::OpenOptionsExt as _, path::Path, pin::pin,
    time::Duration,
};

use entwined::{
    Handle, Standalone, endpoint,
    process::{Command, Io},
    rpc::{self, Failure, Items, Methods},
    service::Backoff,
    signal::{self, Signal},
};
use futures_util::{
    AsyncRead, AsyncReadExt,
    future::{Either, select},
};
use rustix::fs::OFlags;
use tempfile::TempDir;

use crate::{
    trust::Trust,
    wire::{Job, MASTER, PIECE, Said},
};

pub fn run(master: &str, trust: &Trust) -> Result<(), Box<dyn Error>> {
    let reactor = Standalone::new()?;
    let handle = reactor.handle();
    signal::stop_on(&handle, [Signal::INT, Signal::TERM])?.keep();
    let master = endpoint::client(master)?;
    let connector = trust.connector()?;
    let task = handle.clone();
    handle.spawn(async move {
        let mut backoff = Backoff::default();
        backoff.max = Duration::from_secs(10);
        loop {
            match master.connect(&task).await {
                Ok(stream) => match connector.connect(stream, MASTER) {
                    Ok(stream) => {
                        let peer = rpc::start(&task, stream, methods(&task));
                        backoff.reset();
                        // It lasts as long as the connection.
                        if let Err(why) = peer.call::<()>("work", &()).await {
                            tracing::warn!(%why, "the master is lost");
                        }
                        peer.close();
                    }
                    Err(error) => tracing::error!(%error, "no TLS"),
                },
                Err(error) => tracing::warn!(%error, "no master"),
            }
            task.sleep(backoff.next(0.5)).await;
        }
    });
    Ok(reactor.run()?)
}

fn methods(handle: &Handle) -> Methods {
    let mut methods = Methods::new();
    methods.add("ping", |_call, (): ()| async { Ok::<_, Failure>(()) });
    let handle = handle.clone();
    // If the master cancels, or is lost, this future is dropped, and the process is killed with it.
    methods.add_stream("run", move |_call, job: Job, said| {
        build(handle.clone(), job, said)
    });
    methods
}

async fn build(handle: Handle, job: Job, said: Items<Said>) -> Result<(), Failure> {
    tracing::info!(id = job.id, "a build");
    let folder = tempfile::tempdir()?;
    let (work, artifacts) = (folder.path().join("work"), folder.path().join("artifacts"));
    let _folder = Folder(handle.clone(), Some(folder));
    std::fs::create_dir(&work)?;
    std::fs::create_dir(&artifacts)?;
    if let Some(repository) = &job.repository {
        let clone = ["clone", "--quiet", "--depth", "1", "--", repository, "."];
        let git = Command::new("git")
            .args(clone)
            .env("GIT_TERMINAL_PROMPT", "0");
        let code = follow(&handle, git.current_dir(&work), &said).await?;
        if code != Some(0) {
            return said.send(&Said::Exit(code)).await;
        }
    }
    // One file for both outputs, so that their lines come in order. What the script has left in the
    // background ends with it.
    let end = "code=$?; trap \"\" TERM; kill -s TERM 0; exit $code";
    let script = format!("exec 2>&1; trap '{end}' EXIT\n{}", job.script);
    let shell = Command::new("sh")
        .args(["-c", &script])
        .env("ARTIFACTS", &artifacts)
        .env("BUILD", job.id.to_string())
        .current_dir(&work);
    let code = follow(&handle, shell, &said).await?;
    if code == Some(0) {
        deliver(&handle, &artifacts, &said).await?;
    }
    said.send(&Said::Exit(code)).await
}

/// The folder of a build. It is removed on a thread: there may be a hundred thousand files in it,
/// and a worker that does not answer for seconds is given up.
struct Folder(Handle, Option<TempDir>);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(folder) = self.1.take() {
            self.0.drop_on_thread(folder);
        }
    }
}

/// Runs a program, and passes on what it prints. Returns its exit code.
async fn follow(
    handle: &Handle,
    command: Command,
    said: &Items<Said>,
) -> Result<Option<i32>, Failure> {
    let mut process = command
        .stdin(Io::Null)
        .stdout(Io::Stream)
        .process_group()
        .kill_on_drop(true)
        .die_with_parent(true)
        .spawn(handle)?;
    let mut output = process.take_stdout().ok_or("the output is a stream")?;
    let mut exited = process.exited();
    let status = loop {
        match select(pin!(read(&mut output)), &mut exited).await {
            Either::Left((piece, _)) => match piece? {
                Some(piece) => said.send(&Said::Output(piece)).await?,
                None => break exited.await?,
            },
            Either::Right((status, _)) => break status?,
        }
    };
    // What is still there of the output. Somebody in the background may keep it open.
    let mut left = MAX_REST;
    while let Ok(Some(piece)) = handle
        .timeout(REST, read(&mut output))
        .await
        .unwrap_or(Ok(None))
    {
        left = left.saturating_sub(piece.len());
        said.send(&Said::Output(piece)).await?;
        if left == 0 {
            break;
        }
    }
    Ok(status.code())
}

/// How long a program that has ended is still listened to, and for how many bytes.
const REST: Duration = Duration::from_secs(1);
const MAX_REST: usize = 1024 * 1024;

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut piece = vec![0; PIECE];
    let count = stream.read(&mut piece).await?;
    piece.truncate(count);
    Ok((count > 0).then_some(piece))
}

/// Sends the files that the build has left.
async fn deliver(handle: &Handle, folder: &Path, said: &Items<Said>) -> Result<(), Failure> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        let Some(mut file) = handle.defer_to_thread(move |_| open(&path)).await? else {
            continue;
        };
        loop {
            let (back, piece) = handle
                .defer_to_thread(move |_| {
                    let mut piece = Vec::new();
                    let mut part = io::Read::take(&mut file, PIECE as u64);
                    io::Read::read_to_end(&mut part, &mut piece)?;
                    Ok::<_, io::Error>((file, piece))
                })
                .await?;
            file = back;
            let last = piece.len() < PIECE;
            said.send(&Said::Artifact(name.clone(), piece)).await?;
            if last {
                break;
            }
        }
    }
    Ok(())
}

/// Opens a file that a build has left. What runs on in the background may have put something else
/// in its place: a pipe, whose opening would wait for a writer, or a link to a file of the worker.
fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = File::options();
    let file = options
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}
