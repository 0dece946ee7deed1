//! Forms with files: `multipart/form-data` (RFC 7578).

use std::{
    fmt,
    fs::File,
    future::{Future, poll_fn},
    io::Write,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http_body::Body as _;
use hyper::body::Incoming;

use super::{
    Error, FromRequest, IntoResponse, Request, Response, StatusCode, header::CONTENT_TYPE,
    rate::Meter,
};
use entwined::reactor::Handle;

/// A form with files, part by part, as it comes: the last argument of a handler. At most 64 MiB and
/// 1,000 parts unless it is [limited](Multipart::limit) otherwise.
///
/// ```
/// use entwined_http::{Error, Multipart, Router};
///
/// async fn upload(mut form: Multipart) -> Result<String, Error> {
///     let mut bytes = 0;
///     while let Some(mut part) = form.next().await? {
///         while let Some(piece) = part.chunk().await? {
///             bytes += piece.len();
///             // The window's progress bar may be moved here.
///         }
///     }
///     Ok(format!("{bytes} bytes"))
/// }
///
/// let router = Router::new().post("/upload", upload);
/// ```
pub struct Multipart {
    parts: multer::Multipart<'static>,
    shared: Reading,
    seen: usize,
}

/// What reading needs to know beside the parser, which has to be `Send`.
struct Reading {
    handle: Handle,
    meter: Meter,
    moved: Arc<AtomicUsize>,
    limit: usize,
    total: usize,
}

/// Parts of a form at most.
const MOST_PARTS: usize = 1_000;

/// Bytes of a form unless it is limited otherwise.
const LIMIT: usize = 64 * 1024 * 1024;

/// The body, as the parser wants it.
struct Pieces {
    body: Incoming,
    moved: Arc<AtomicUsize>,
}

impl Stream for Pieces {
    type Item = Result<Bytes, hyper::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(frame) = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                return Poll::Ready(None);
            };
            if let Ok(data) = frame?.into_data() {
                self.moved.fetch_add(data.len(), Ordering::Relaxed);
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }
}

impl FromRequest for Multipart {
    async fn from_request(request: Request) -> Result<Self, Response> {
        let (head, body, meter, handle) = request.into_parts();
        let content_type = head
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        let boundary = multer::parse_boundary(content_type).map_err(|_| {
            let message = "the content type must be multipart/form-data, with a boundary";
            Error::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).into_response()
        })?;
        let moved = Arc::<AtomicUsize>::default();
        let parts = multer::Multipart::new(
            Pieces {
                body,
                moved: moved.clone(),
            },
            boundary,
        );
        Ok(Multipart {
            parts,
            shared: Reading {
                handle,
                meter,
                moved,
                limit: LIMIT,
                total: 0,
            },
            seen: 0,
        })
    }
}

impl Reading {
    /// Waits for the peer, which has to be as fast as [`Config::min_rate`](super::Config::min_rate)
    /// says.
    async fn wait<T>(
        &mut self,
        reading: impl Future<Output = multer::Result<T>>,
    ) -> Result<T, Error> {
        let mut reading = std::pin::pin!(reading);
        poll_fn(|cx| {
            let read = reading.as_mut().poll(cx);
            self.meter.moved(self.moved.swap(0, Ordering::Relaxed));
            match read {
                Poll::Ready(result) => Poll::Ready(result.map_err(told)),
                Poll::Pending => {
                    std::task::ready!(self.meter.poll_too_slow(cx, &self.handle));
                    Poll::Ready(Err(Error::new(
                        StatusCode::REQUEST_TIMEOUT,
                        "the body comes too slowly",
                    )))
                }
            }
        })
        .await
    }

    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        self.total += bytes;
        if self.total <= self.limit {
            return Ok(());
        }
        let message = format!("the form may have {} bytes at most", self.limit);
        Err(Error::new(StatusCode::PAYLOAD_TOO_LARGE, message))
    }
}

fn told(error: multer::Error) -> Error {
    Error::bad_request(format!("the form is wrong: {error}"))
}

impl Multipart {
    /// How many bytes all its parts may have together.
    #[must_use]
    pub fn limit(mut self, bytes: usize) -> Self {
        self.shared.limit = bytes;
        self
    }

    /// The next part; what was not read of the last one is skipped.
    ///
    /// # Errors
    /// 400 when it is malformed or the peer broke off, 408 when that is too slow, 413 when there
    /// are too many parts.
    pub async fn next(&mut self) -> Result<Option<Part<'_>>, Error> {
        if self.seen >= MOST_PARTS {
            return Err(Error::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the form has too many parts",
            ));
        }
        self.seen += 1;
        let field = self.shared.wait(self.parts.next_field()).await?;
        Ok(field.map(|field| Part {
            field,
            shared: &mut self.shared,
        }))
    }
}

impl fmt::Debug for Multipart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multipart")
            .field("bytes", &self.shared.total)
            .finish_non_exhaustive()
    }
}

/// One part of a form.
pub struct Part<'a> {
    field: multer::Field<'static>,
    shared: &'a mut Reading,
}

impl Part<'_> {
    /// The name of the field.
    pub fn name(&self) -> Option<&str> {
        self.field.name()
    }

    /// The name that the file has at the client: a text to be shown. Do not make a path of it.
    pub fn file_name(&self) -> Option<&str> {
        self.field.file_name()
    }

    /// The media type that the client says it has.
    pub fn content_type(&self) -> Option<String> {
        self.field.content_type().map(ToString::to_string)
    }

    /// The next piece, none at its end.
    ///
    /// # Errors
    /// 400 when it is malformed or the peer broke off, 408 when that is too slow, 413 when the form
    /// is too large.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let piece = self.shared.wait(self.field.chunk()).await?;
        if let Some(piece) = &piece {
            self.shared.count(piece.len())?;
        }
        Ok(piece)
    }

    /// All of it.
    ///
    /// # Errors
    /// As [`chunk`](Part::chunk), and 413 when it has more than `limit` bytes.
    pub async fn bytes(&mut self, limit: usize) -> Result<Bytes, Error> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.chunk().await? {
            if all.len() + piece.len() > limit {
                let message = format!("a part may have {limit} bytes at most");
                return Err(Error::new(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// All of it, as text.
    ///
    /// # Errors
    /// As [`bytes`](Part::bytes), and 400 when it is not UTF-8.
    pub async fn text(&mut self, limit: usize) -> Result<String, Error> {
        let bytes = self.bytes(limit).await?;
        String::from_utf8(bytes.into()).map_err(|_| Error::bad_request("the part is not UTF-8"))
    }

    /// Writes it to a new file, on a thread, piece by piece: no faster than the disk takes it.
    /// Gives how many bytes it has. What cannot be written to its end, also because nobody waits
    /// for it any more, is removed.
    ///
    /// # Errors
    /// As [`chunk`](Part::chunk); 500 when there is a file of this name, or it cannot be written.
    pub async fn save(&mut self, path: impl AsRef<Path>) -> Result<u64, Error> {
        self.save_with(path, |_| {}).await
    }

    /// The same, and tells `progress` after each piece how many bytes are written: for a progress
    /// bar.
    ///
    /// # Errors
    /// As [`save`](Part::save).
    pub async fn save_with(
        &mut self,
        path: impl AsRef<Path>,
        mut progress: impl FnMut(u64),
    ) -> Result<u64, Error> {
        let path = path.as_ref().to_owned();
        let failed =
            |error: std::io::Error| Error::internal(format!("the file cannot be written: {error}"));
        let handle = self.shared.handle.clone();
        let name = path.clone();
        let open = handle.defer_to_thread(move |_| File::create_new(name).map_err(failed));
        let mut file = open.await?;
        let unfinished = Unfinished {
            handle: handle.clone(),
            path: Some(path),
        };
        let mut bytes = 0;
        while let Some(piece) = self.chunk().await? {
            bytes += piece.len() as u64;
            let writing = handle.defer_to_thread(move |_| {
                file.write_all(&piece).map_err(failed)?;
                Ok::<_, Error>(file)
            });
            file = writing.await?;
            progress(bytes);
        }
        unfinished.keep();
        Ok(bytes)
    }
}

/// A file that is removed unless it is kept.
struct Unfinished {
    handle: Handle,
    path: Option<PathBuf>,
}

impl Unfinished {
    fn keep(mut self) {
        self.path = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // What has begun is done to its end, whoever waits for it; nobody has to.
            let removing = self
                .handle
                .defer_to_thread(move |_| std::fs::remove_file(path).map_err(Error::internal));
            removing.detach();
        }
    }
}

impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("name", &self.name())
            .field("file_name", &self.file_name())
            .finish_non_exhaustive()
    }
}
