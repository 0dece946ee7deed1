//! Forms with files: `multipart/form-data` (RFC 7578).

mod parameters;
mod parser;

use std::{
    fmt,
    fs::File,
    future::poll_fn,
    io::Write,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use hyper::body::Incoming;

use self::{
    parameters::Parameters,
    parser::{Event, Head, Parser},
};
use super::{
    Error, FromRequest, IntoResponse, Request, Response, StatusCode, header::CONTENT_TYPE,
    rate::Meter,
};
use entwined::reactor::Handle;

/// A form with files, read part by part as it arrives: the last argument of a handler. It may have
/// at most 64 MiB, unless you set another [maximum](Multipart::max_size), and 1,000 parts. The head
/// of a part may have 16 KiB. No more is kept in memory than one head and what arrived last.
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
    body: Incoming,
    parser: Parser,
    handle: Handle,
    meter: Meter,
    max_size: usize,
    /// Bytes of the form so far: parts, their heads, and what is between them.
    read: usize,
    /// Parts so far.
    seen: usize,
    /// Whether a part has begun and not ended.
    in_part: bool,
    /// Whether the body was read to its end.
    ended: bool,
}

/// The most parts of a form.
const MAX_PARTS: usize = 1_000;

/// The most bytes of a form, unless the handler says otherwise.
const MAX_SIZE: usize = 64 * 1024 * 1024;

/// The most bytes of a boundary: RFC 2046, 5.1.1.
const MAX_BOUNDARY: usize = 70;

impl FromRequest for Multipart {
    async fn from_request(request: Request) -> Result<Self, Response> {
        request.check_coding().map_err(Error::into_response)?;
        let (head, body, meter, handle) = request.into_parts();
        let content_type = head
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        let boundary = boundary(content_type).ok_or_else(|| {
            let message = "the content type must be multipart/form-data, with a boundary";
            Error::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).into_response()
        })?;
        Ok(Multipart {
            body,
            parser: Parser::new(&boundary),
            handle,
            meter,
            max_size: MAX_SIZE,
            read: 0,
            seen: 0,
            in_part: false,
            ended: false,
        })
    }
}

fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = Parameters::parse(content_type).ok()?;
    let boundary = parameters.find("boundary")?;
    let fine = kind.eq_ignore_ascii_case("multipart/form-data")
        && (1..=MAX_BOUNDARY).contains(&boundary.len())
        && boundary.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && !boundary.ends_with(' ');
    fine.then(|| boundary.to_owned())
}

impl Multipart {
    /// Sets the maximum bytes of the form: of all parts, also those that the handler skips, with
    /// their heads.
    #[must_use]
    pub fn max_size(mut self, bytes: usize) -> Self {
        self.max_size = bytes;
        self
    }

    /// Returns the next part. Skips what was not read of the previous one. It returns `None` when
    /// the whole body has been read, with what is behind the last part.
    ///
    /// # Errors
    /// 400 if the form is malformed or the peer closed the connection, 408 if the peer is slower
    /// than [`Config::min_rate`](super::Config::min_rate), 413 if the form is too large or has too
    /// many parts.
    pub async fn next(&mut self) -> Result<Option<Part<'_>>, Error> {
        while self.in_part {
            self.piece().await?;
        }
        match poll_fn(|cx| self.poll_event(cx)).await? {
            Event::Part(head) => {
                self.in_part = true;
                self.seen += 1;
                if self.seen > MAX_PARTS {
                    return Err(Error::new(
                        StatusCode::PAYLOAD_TOO_LARGE,
                        "the form has too many parts",
                    ));
                }
                Ok(Some(Part {
                    head,
                    form: self,
                    begun: BytesMut::new(),
                    lost: false,
                }))
            }
            _ => Ok(None),
        }
    }

    /// Returns the next piece of a part, or `None` at its end.
    async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        if !self.in_part {
            return Ok(None);
        }
        match poll_fn(|cx| self.poll_event(cx)).await? {
            Event::Data(data) => Ok(Some(data)),
            _ => {
                self.in_part = false;
                Ok(None)
            }
        }
    }

    /// Waits for the peer where that is necessary.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        let malformed =
            |why: &dyn fmt::Display| Error::bad_request(format!("the form is wrong: {why}"));
        loop {
            match self.parser.next() {
                Ok(Event::NeedsMore) => {}
                // Otherwise what is behind it would end the connection.
                Ok(Event::End) if !self.ended => {}
                Ok(event) => return Poll::Ready(Ok(event)),
                Err(wrong) => return Poll::Ready(Err(malformed(&wrong))),
            }
            // Whoever says how much comes need not send it first.
            let known = usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX);
            if self.read.saturating_add(known) > self.max_size {
                return Poll::Ready(Err(self.too_large()));
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                ready!(self.meter.poll_too_slow(cx, &self.handle));
                return Poll::Ready(Err(Error::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "the body arrives too slowly",
                )));
            };
            match frame {
                None if self.parser.is_at_end() => self.ended = true,
                None => return Poll::Ready(Err(malformed(&"it has no last boundary"))),
                Some(Err(error)) => return Poll::Ready(Err(malformed(&error))),
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    self.meter.moved(data.len());
                    self.read += data.len();
                    if self.read > self.max_size {
                        return Poll::Ready(Err(self.too_large()));
                    }
                    self.parser.feed(&data);
                }
            }
        }
    }

    fn too_large(&self) -> Error {
        let message = format!("the form may have at most {} bytes", self.max_size);
        Error::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }
}

impl fmt::Debug for Multipart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multipart")
            .field("bytes", &self.read)
            .finish_non_exhaustive()
    }
}

/// One part of a form.
pub struct Part<'a> {
    head: Head,
    form: &'a mut Multipart,
    /// What was read by those who wanted the whole part and did not wait for its end.
    begun: BytesMut,
    /// Whether a piece of it is in a file that is not finished.
    lost: bool,
}

impl Part<'_> {
    /// Returns the name of the field.
    pub fn name(&self) -> Option<&str> {
        self.head.name.as_deref()
    }

    /// Returns the name of the file on the client's machine: `filename*` (RFC 6266, 4.3) if it is
    /// there and in UTF-8, `filename` otherwise. Only show it to the user; do not use it as a path.
    pub fn file_name(&self) -> Option<&str> {
        self.head.file_name.as_deref()
    }

    /// Returns the media type that the client declared.
    pub fn content_type(&self) -> Option<&str> {
        self.head.content_type.as_deref()
    }

    /// Returns the next piece, or `None` at the end of the part.
    ///
    /// # Errors
    /// 400 if the form is malformed or the peer closed the connection, 408 if the peer is too slow,
    /// 413 if the form is too large.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let begun = std::mem::take(&mut self.begun);
        if !begun.is_empty() {
            return Ok(Some(begun.freeze()));
        }
        self.piece().await
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        if self.lost {
            let message = "a piece of this part is lost with a file that was not finished";
            return Err(Error::internal(message));
        }
        self.form.piece().await
    }

    /// Reads the whole part. If the future is dropped before its end, what it has read is not lost:
    /// the next call goes on.
    ///
    /// # Errors
    /// As for [`chunk`](Part::chunk), and 413 if the part has more than `max_size` bytes.
    pub async fn bytes(&mut self, max_size: usize) -> Result<Bytes, Error> {
        loop {
            if self.begun.len() > max_size {
                let message = format!("a part may have at most {max_size} bytes");
                return Err(Error::new(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            match self.piece().await? {
                Some(piece) => self.begun.extend_from_slice(&piece),
                None => return Ok(std::mem::take(&mut self.begun).freeze()),
            }
        }
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
    /// future is dropped, the file is removed, and the part cannot be read any further.
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
        // The program may change its directory before an unfinished file is removed.
        let path = path.as_ref();
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let failed =
            |error: std::io::Error| Error::internal(format!("the file cannot be written: {error}"));
        let handle = self.form.handle.clone();
        let open = handle.defer_to_thread(move |_| {
            let file = File::create_new(&path).map_err(failed)?;
            // If nobody waits for it any more, it goes with this.
            Ok::<_, Error>((file, Partial(Some(path))))
        });
        let (mut file, partial) = open.await?;
        let unfinished = Unfinished {
            handle: handle.clone(),
            partial,
        };
        let mut bytes = 0;
        let mut next = self.chunk().await?;
        while let Some(piece) = next {
            // With all that is in the file.
            self.lost = true;
            bytes += piece.len() as u64;
            let writing = handle.defer_to_thread(move |_| {
                file.write_all(&piece).map_err(failed)?;
                Ok::<_, Error>(file)
            });
            file = writing.await?;
            progress(bytes);
            next = self.form.piece().await?;
        }
        self.lost = false;
        unfinished.keep();
        Ok(bytes)
    }
}

/// A file that is removed on drop.
struct Partial(Option<PathBuf>);

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Somebody else may have removed it.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A file that is removed unless it is kept: on a thread, or here if the threads have no room or
/// the run ends.
struct Unfinished {
    handle: Handle,
    partial: Partial,
}

impl Unfinished {
    fn keep(mut self) {
        self.partial.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = self.partial.0.take() {
            self.handle.drop_on_thread(Partial(Some(path)));
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
