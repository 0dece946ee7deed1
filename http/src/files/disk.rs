//! Files on disk, read on threads.

use std::{
    fs::File,
    io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;

use super::{
    super::{
        Body, ETag, Error, HeaderValue, Request, Response, StatusCode, Validators,
        coding::Coding,
        header::{CONTENT_ENCODING, VARY},
    },
    folder::{self, Folder, is_missing},
    head::head,
    listing::{self, Names},
    range::{About, decide},
};
use entwined::{
    deferred::Deferred,
    reactor::Handle,
    task::Sleep,
    thread::{Config, ThreadPool},
};

pub(super) struct Disk {
    pub(super) root: PathBuf,
    pool: ThreadPool,
}

/// Bytes per read.
const PIECE: u64 = 128 * 1024;

/// The most names in the listing of a folder.
const MOST_NAMES: usize = 10_000;

/// What a name refers to.
pub(super) enum Found {
    File(Opened),
    Folder,
    /// The page that lists the folder.
    List(String),
    Nothing,
}

/// A file that is about to be sent.
pub(super) struct Opened {
    file: Arc<File>,
    /// Without the suffix of the compressed form.
    name: String,
    coding: Option<Coding>,
    /// Whether the response depends on `Accept-Encoding`.
    varies: bool,
    about: About,
    /// The whole content, if the file is small.
    content: Option<Bytes>,
}

/// Everything that a thread needs to look for a file.
struct Look {
    root: PathBuf,
    name: String,
    /// Whether the request asked for a folder of this name.
    is_folder: bool,
    index: String,
    codings: Vec<Coding>,
    /// The path that the request named, if folders are listed; and whether it is the top of these
    /// files.
    listing: Option<(String, bool)>,
}

impl Disk {
    pub(super) fn new(root: PathBuf) -> Self {
        let config = Config {
            max_threads: 4,
            ..Config::default()
        };
        Disk {
            root,
            pool: ThreadPool::new("files", config),
        }
    }

    pub(super) async fn find(
        &self,
        handle: &Handle,
        name: &str,
        is_folder: bool,
        index: &str,
        codings: &[Coding],
        listing: Option<(String, bool)>,
    ) -> Result<Found, Error> {
        let look = Look {
            root: self.root.clone(),
            name: name.to_owned(),
            is_folder,
            index: index.to_owned(),
            codings: codings.to_vec(),
            listing,
        };
        let job = self
            .pool
            .try_defer(handle, move |_| look.run().map_err(Error::internal));
        match job {
            Ok(deferred) => deferred.await,
            Err(_) => Err(busy()),
        }
    }

    pub(super) fn respond(&self, request: &Request, opened: Opened) -> Response {
        let mut response = head(&opened.name);
        if opened.varies {
            response
                .headers_mut()
                .insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        if let Some(coding) = opened.coding {
            response
                .headers_mut()
                .insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        }
        let Some(range) = decide(request, &opened.about, &mut response) else {
            return response;
        };
        *response.body_mut() = match opened.content {
            Some(content) => Body::from(content.slice(range.start as usize..range.end as usize)),
            None => Body::stream(Pieces {
                file: opened.file,
                next: range.start,
                end: range.end,
                reading: None,
                pause: None,
                asked: 0,
                pool: self.pool.clone(),
                handle: request.handle().clone(),
            }),
        };
        response
    }
}

fn busy() -> Error {
    Error::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "too many files are being read",
    )
}

impl Look {
    fn run(self) -> io::Result<Found> {
        let root = match Folder::open(&self.root) {
            Ok(root) => root,
            Err(error) => return nothing(error),
        };
        let name = &self.name;
        let entry = match root.entry(name) {
            Ok(entry) => entry,
            Err(error) => return nothing(error),
        };
        if !entry.metadata()?.is_dir() {
            // "file/" is not a file.
            return if self.is_folder {
                Ok(Found::Nothing)
            } else {
                self.file(&root, entry, name)
            };
        }
        if !self.is_folder {
            return Ok(Found::Folder);
        }
        let index = match name.is_empty() {
            true => self.index.clone(),
            false => format!("{name}/{}", self.index),
        };
        match root.entry(&index) {
            Ok(entry) if entry.metadata()?.is_file() => self.file(&root, entry, &index),
            Ok(_) => Ok(Found::Folder),
            Err(error) => match &self.listing {
                Some((path, is_top)) if is_missing(&error) => {
                    list(root.names(name, entry)?, path, *is_top)
                }
                _ => nothing(error),
            },
        }
    }

    /// Returns the file, or a compressed form of it that the client accepts.
    fn file(&self, root: &Folder, entry: File, name: &str) -> io::Result<Found> {
        if !entry.metadata()?.is_file() {
            // Reading a device or a pipe might never end.
            return Ok(Found::Nothing);
        }
        let beside = |coding: Coding| {
            let end = match coding {
                Coding::Brotli => "br",
                Coding::Gzip => "gz",
            };
            root.entry(&format!("{name}.{end}"))
                .ok()
                .filter(|file| file.metadata().is_ok_and(|about| about.is_file()))
        };
        let (brotli, gzip) = (beside(Coding::Brotli), beside(Coding::Gzip));
        let varies = brotli.is_some() || gzip.is_some();
        let mut others = [(Coding::Brotli, brotli), (Coding::Gzip, gzip)];
        let mut chosen = None;
        for wanted in &self.codings {
            let other = others
                .iter_mut()
                .find(|other| other.0 == *wanted)
                .and_then(|other| other.1.take());
            if let Some(file) = other {
                chosen = Some((*wanted, file));
                break;
            }
        }
        let (coding, file) = chosen.map_or((None, entry), |(coding, file)| (Some(coding), file));
        let metadata = file.metadata()?;
        let about = About {
            length: metadata.len(),
            validators: Validators {
                etag: Some(ETag::strong(&folder::tag(&metadata))),
                modified: metadata.modified().ok(),
            },
        };
        let content = if about.length <= PIECE {
            Some(read(&file, 0, about.length)?)
        } else {
            None
        };
        let file = Arc::new(file);
        Ok(Found::File(Opened {
            file,
            name: name.to_owned(),
            coding,
            varies,
            about,
            content,
        }))
    }
}

/// Clients cannot tell a missing file from one that they must not see.
fn nothing(error: io::Error) -> io::Result<Found> {
    if is_missing(&error) {
        Ok(Found::Nothing)
    } else {
        Err(error)
    }
}

fn list(
    entries: impl Iterator<Item = io::Result<(String, bool)>>,
    path: &str,
    is_top: bool,
) -> io::Result<Found> {
    let (mut names, mut is_whole) = (Names::new(), true);
    for entry in entries {
        let (name, is_folder) = entry?;
        if name.starts_with('.') {
            continue;
        }
        // There may be millions.
        if names.len() == MOST_NAMES {
            is_whole = false;
            break;
        }
        names.push((name, is_folder));
    }
    names.sort();
    Ok(Found::List(listing::page(path, is_top, &names, is_whole)))
}

fn read(file: &File, from: u64, count: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; count as usize];
    folder::read_exact_at(file, &mut bytes, from)?;
    Ok(bytes.into())
}

/// A large file, sent in pieces. The next piece is read while the last one is sent.
struct Pieces {
    file: Arc<File>,
    next: u64,
    end: u64,
    reading: Option<Deferred<Bytes, Error>>,
    /// Until the threads are asked again. Others have given them as much to do as they take.
    pause: Option<Sleep>,
    /// How often they were asked for this piece.
    asked: u32,
    pool: ThreadPool,
    handle: Handle,
}

const PAUSE: Duration = Duration::from_millis(10);

/// After a minute there may be no threads at all.
const MAX_ASKED: u32 = 6_000;

impl Pieces {
    /// Begins with the next piece, if there is room for it among the jobs.
    fn read_ahead(&mut self) {
        if self.reading.is_some() || self.next == self.end {
            return;
        }
        let (file, from) = (self.file.clone(), self.next);
        let count = PIECE.min(self.end - from);
        let job = move |_: &_| read(&file, from, count).map_err(Error::internal);
        if let Ok(reading) = self.pool.try_defer(&self.handle, job) {
            (self.reading, self.asked) = (Some(reading), 0);
            self.next += count;
        }
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            this.read_ahead();
            if let Some(reading) = &mut this.reading {
                let piece = ready!(Pin::new(reading).poll(cx));
                this.reading = None;
                if piece.is_ok() {
                    this.read_ahead();
                }
                return Poll::Ready(Some(piece));
            }
            if this.next == this.end {
                return Poll::Ready(None);
            }
            if this.asked == MAX_ASKED {
                return Poll::Ready(Some(Err(busy())));
            }
            let pause = || this.handle.sleep(PAUSE);
            ready!(Pin::new(this.pause.get_or_insert_with(pause)).poll(cx));
            (this.pause, this.asked) = (None, this.asked + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io::Write, sync::mpsc};

    use entwined::{Standalone, reactor::RunError};

    use super::*;

    /// It ended, though only others had too much to do.
    #[test]
    fn a_download_waits_for_room_among_the_jobs() {
        let reactor = Standalone::new().expect("a reactor");
        let handle = reactor.handle();
        let config = Config {
            max_threads: 1,
            max_queued: 0,
            ..Config::default()
        };
        let pool = ThreadPool::new("files", config);
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"content").expect("there is room");
        let mut pieces = Pieces {
            file: Arc::new(file),
            next: 0,
            end: 7,
            reading: None,
            pause: None,
            asked: 0,
            pool: pool.clone(),
            handle: handle.clone(),
        };
        let read = reactor.block_on(async move {
            let (go, goes) = mpsc::channel::<()>();
            let other = pool.try_defer(&handle, move |_| {
                goes.recv().expect("it is sent");
                Ok::<_, Error>(())
            });
            let other = other.expect("there is a thread");
            let first = poll_fn(|cx| Poll::Ready(Pin::new(&mut pieces).poll_next(cx))).await;
            assert!(first.is_pending(), "the thread is busy");
            go.send(()).expect("it waits");
            other.await.expect("it ends");
            let piece = poll_fn(|cx| Pin::new(&mut pieces).poll_next(cx)).await;
            let piece = piece.expect("a piece").expect("it is read");
            assert!(
                poll_fn(|cx| Pin::new(&mut pieces).poll_next(cx))
                    .await
                    .is_none()
            );
            Ok::<_, RunError>(piece)
        });
        assert_eq!(read.expect("a run without a panic"), "content");
    }
}
