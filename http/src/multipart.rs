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

/// A form with files, read part by part as it arrives: the last argument of a handler. It may have
/// at most 64 MiB, unless you set another [maximum](Multipart::max_size), and 1,000 parts.
///
/// ```
/// use entwined_http::{Error, Multipart, Router};
///
/// async fn upload(mut form: Multipart) -> Result<String, Error> {
///     let mut bytes = 0;
///     while let Some(mut part) = form.next().await? {
///         while let Some(piece) = part.chunk().await? {
///             bytes += piece.len();
///             // A handler may update the window's progress bar here.
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

/// State for reading that is kept outside the parser, because the parser's stream must be `Send`.
struct Reading {
    handle: Handle,
    meter: Meter,
    moved: Arc<AtomicUsize>,
    max_size: usize,
    total: usize,
}

/// The most parts of a form.
const MAX_PARTS: usize = 1_000;

/// The most bytes of a form, unless the handler says otherwise.
const MAX_SIZE: usize = 64 * 1024 * 1024;

/// The body as a stream, as the parser needs it.
struct BodyStream {
    body: Incoming,
    moved: Arc<AtomicUsize>,
}

impl Stream for BodyStream {
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
            BodyStream {
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
                max_size: MAX_SIZE,
                total: 0,
            },
            seen: 0,
        })
    }
}

impl Reading {
    /// Waits for the peer, which must send at [`Config::min_rate`](super::Config::min_rate) or
    /// faster.
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
                        "the body arrives too slowly",
                    )))
                }
            }
        })
        .await
    }

    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        self.total += bytes;
        if self.total <= self.max_size {
            return Ok(());
        }
        let message = format!("the form may have at most {} bytes", self.max_size);
        Err(Error::new(StatusCode::PAYLOAD_TOO_LARGE, message))
    }
}

fn told(error: multer::Error) -> Error {
    Error::bad_request(format!("the form is wrong: {error}"))
}

impl Multipart {
    /// Sets the maximum bytes of all parts together.
    #[must_use]
    pub fn max_size(mut self, bytes: usize) -> Self {
        self.shared.max_size = bytes;
        self
    }

    /// Returns the next part. Skips what was not read of the previous one.
    ///
    /// # Errors
    /// 400 if the form is malformed or the peer closed the connection, 408 if the peer is too slow,
    /// 413 if there are too many parts.
    pub async fn next(&mut self) -> Result<Option<Part<'_>>, Error> {
        if self.seen >= MAX_PARTS {
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
    /// Returns the name of the field.
    pub fn name(&self) -> Option<&str> {
        self.field.name()
    }

    /// Returns the name of the file on the client's machine. Only show it to the user; do not use
    /// it as a path.
    pub fn file_name(&self) -> Option<&str> {
        self.field.file_name()
    }

    /// Returns the media type that the client declared.
    pub fn content_type(&self) -> Option<String> {
        self.field.content_type().map(ToString::to_string)
    }

    /// Returns the next piece, or `None` at the end of the part.
    ///
    /// # Errors
    /// 400 if the form is malformed or the peer closed the connection, 408 if the peer is too slow,
    /// 413 if the form is too large.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let piece = self.shared.wait(self.field.chunk()).await?;
        if let Some(piece) = &piece {
            self.shared.count(piece.len())?;
        }
        Ok(piece)
    }

    /// Reads the whole part.
    ///
    /// # Errors
    /// As for [`chunk`](Part::chunk), and 413 if the part has more than `max_size` bytes.
    pub async fn bytes(&mut self, max_size: usize) -> Result<Bytes, Error> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.chunk().await? {
            if all.len() + piece.len() > max_size {
                let message = format!("a part may have at most {max_size} bytes");
                return Err(Error::new(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// Reads the whole part as text.
    ///
    /// # Errors
    /// As for [`bytes`](Part::bytes), and 400 if the part is not UTF-8.
    pub async fn text(&mut self, max_size: usize) -> Result<String, Error> {
        let bytes = self.bytes(max_size).await?;
        String::from_utf8(bytes.into()).map_err(|_| Error::bad_request("the part is not UTF-8"))
    }

    /// Writes the part to a new file on a pool thread, piece by piece, no faster than the disk
    /// accepts it. Returns the number of bytes written. If the file cannot be completed, or the
    /// future is dropped, the file is removed.
    ///
    /// # Errors
    /// As for [`chunk`](Part::chunk), and 500 if the file exists already or cannot be written.
    pub async fn save(&mut self, path: impl AsRef<Path>) -> Result<u64, Error> {
        self.save_with(path, |_| {}).await
    }

    /// Like [`save`](Part::save), and calls `progress` after each piece with the number of bytes
    /// written so far. Use it for a progress bar.
    ///
    /// # Errors
    /// As for [`save`](Part::save).
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

/// A file that is removed on drop unless it is kept.
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
            // The job runs to its end even if nobody waits for it.
            self.handle
                .defer_to_thread(move |_| std::fs::remove_file(path).map_err(Error::internal));
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
