//! How a file comes over HTTP: what is there already is not asked for again, if it is still the
//! same file (RFC 9110, 13.1.5 and 14.2).

use std::{
    error::Error,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use entwined::{Handle, deferred::Interrupted, thread::ThreadPool};
use entwined_http::{
    HeaderMap, StatusCode,
    client::{Client, ClientError, ClientResponse},
    header,
};
use futures_util::future::{Either, select};

use crate::name;

/// Without a newer byte for this long, the connection is given up.
pub const SILENCE: Duration = Duration::from_secs(30);

/// What a transfer takes.
pub struct Means {
    pub client: Client,
    /// They write the file.
    pub threads: ThreadPool,
    pub handle: Handle,
}

/// What is known of a file that is partly here.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Bytes that are on the disk.
    pub received: u64,
    /// The size of the whole file, if the server says it.
    pub total: Option<u64>,
    /// Says whether the file on the server is the same: a strong ETag or a date.
    validator: Option<String>,
    /// What the server calls the file.
    pub name: Option<String>,
}

/// Why a transfer has ended, other than at the end of the file.
#[derive(Debug)]
pub enum Ended {
    /// By request. It can go on later.
    Stopped,
    /// The network or the server. To try again may help.
    Lost(String),
    /// To try again does not help.
    Failed(String),
}

/// Fetches the file, or the rest of it, and appends it to `path`. `stop` ends this when what has
/// come is written. `progress` hears of each piece.
pub async fn fetch(
    means: &Means,
    url: &str,
    path: &Path,
    part: &mut Part,
    stop: &mut (impl Future<Output = Result<(), Interrupted>> + Unpin),
    progress: impl Fn(&Part),
) -> Result<(), Ended> {
    let Means {
        client,
        threads,
        handle,
    } = means;
    let (file, length) = (path.to_owned(), part.received);
    let has = threads.defer(handle, move |_| {
        // Somebody may have cleaned up since then.
        Ok::<_, Interrupted>(fs::metadata(file).is_ok_and(|file| file.len() >= length))
    });
    if !has.await.unwrap_or(false) {
        *part = Part::default();
    }
    // The file as it is: otherwise every coding would be fine (RFC 9110, 12.5.3).
    let mut request = client.get(url).header("accept-encoding", "identity");
    let rest = part.validator.as_ref().filter(|_| part.received > 0);
    if let Some(validator) = rest {
        request = request
            .header("range", &format!("bytes={}-", part.received))
            .header("if-range", validator);
    }
    let mut response = match select(pin!(request.send()), &mut *stop).await {
        Either::Left((response, _)) => response.map_err(lost)?,
        Either::Right(_) => return Err(Ended::Stopped),
    };
    let answer = begin(part, &response)?;
    progress(part);
    let (path, length) = (path.to_owned(), part.received);
    let open = threads.defer(handle, move |_| open(path, length));
    let mut file: fs::File = open.await.map_err(disk)?;
    loop {
        if answer == Answer::Nothing {
            break;
        }
        let piece = match select(pin!(response.chunk()), &mut *stop).await {
            Either::Left((Ok(Some(piece)), _)) => piece,
            Either::Left((Ok(None), _)) => break,
            Either::Left((Err(error), _)) => return Err(lost(error)),
            Either::Right(_) => return Err(Ended::Stopped),
        };
        let count = piece.len() as u64;
        if part
            .total
            .is_some_and(|total| part.received + count > total)
        {
            *part = Part::default();
            return Err(Ended::Lost("The server sends more than it has said".into()));
        }
        // The next piece is asked for when this one is written, so nothing piles up.
        let written = threads.defer(handle, move |_| {
            file.write_all(&piece)?;
            Ok::<_, io::Error>(file)
        });
        file = written.await.map_err(disk)?;
        part.received += count;
        progress(part);
    }
    if answer != Answer::Nothing && part.total.is_some_and(|total| total != part.received) {
        return Err(Ended::Lost("The file is not complete".into()));
    }
    if answer == Answer::Part && part.total.is_none() {
        return Err(Ended::Lost("There may be more of the file".into()));
    }
    let synced = threads.defer(handle, move |_| file.sync_all());
    synced.await.map_err(disk)
}

fn lost(error: ClientError) -> Ended {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Ended::Lost(text)
}

fn disk(error: io::Error) -> Ended {
    Ended::Failed(error.to_string())
}

/// What a server sends.
#[derive(PartialEq)]
enum Answer {
    Whole,
    /// The rest, or a piece of it.
    Part,
    /// Everything is here already.
    Nothing,
}

/// Reads the head of an answer: whether this is the rest, or the whole again.
fn begin(part: &mut Part, response: &ClientResponse) -> Result<Answer, Ended> {
    let status = response.status();
    let headers = response.headers();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match status {
        StatusCode::PARTIAL_CONTENT => {
            let range = text(header::CONTENT_RANGE).and_then(content_range);
            let Some((start, total)) = range.filter(|(start, _)| *start == part.received) else {
                *part = Part::default();
                return Err(Ended::Lost("The server sent another part".into()));
            };
            debug_assert_eq!(start, part.received);
            // Some servers do not look at `If-Range`. Parts of different files are no file (RFC
            // 9110, 15.3.7.3).
            let same_size = total.is_none() || part.total.is_none() || total == part.total;
            if !same_size || !is_of(part.validator.as_deref(), headers) {
                *part = Part::default();
                return Err(Ended::Lost(
                    "The file on the server is another one now".into(),
                ));
            }
            part.total = total.or(part.total);
            Ok(Answer::Part)
        }
        StatusCode::OK => {
            *part = Part {
                received: 0,
                total: text(header::CONTENT_LENGTH).and_then(|text| text.parse().ok()),
                validator: validator(headers),
                name: headers.get(header::CONTENT_DISPOSITION).and_then(|value| {
                    // Many servers write UTF-8 as it is.
                    name::in_disposition(&String::from_utf8_lossy(value.as_bytes()))
                }),
            };
            Ok(Answer::Whole)
        }
        // There is no rest: this was the whole, or it is another file now.
        StatusCode::RANGE_NOT_SATISFIABLE => {
            let whole = text(header::CONTENT_RANGE)
                .and_then(|text| text.strip_prefix("bytes */")?.parse::<u64>().ok());
            if whole == Some(part.received) && is_of(part.validator.as_deref(), headers) {
                return Ok(Answer::Nothing);
            }
            *part = Part::default();
            Err(Ended::Lost("The file on the server is shorter now".into()))
        }
        _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Err(Ended::Lost(format!("The server says {status}")))
        }
        _ => Err(Ended::Failed(format!("The server says {status}"))),
    }
}

/// What can tell that a file is the same byte for byte (RFC 9110, 8.8): a strong tag, or a date
/// that was a minute ago when the answer was made.
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(tag) = text(header::ETAG)
        && tag.starts_with('"')
    {
        return Some(tag.to_owned());
    }
    let modified = text(header::LAST_MODIFIED)?;
    let now = httpdate::parse_http_date(text(header::DATE)?).ok()?;
    let age = now.duration_since(httpdate::parse_http_date(modified).ok()?);
    (age.ok()? >= Duration::from_secs(60)).then(|| modified.to_owned())
}

/// Whether a part is of the file with this validator, as far as its headers say.
fn is_of(validator: Option<&str>, headers: &HeaderMap) -> bool {
    let name = match validator {
        Some(tag) if tag.starts_with('"') => header::ETAG,
        Some(_) => header::LAST_MODIFIED,
        None => return true,
    };
    headers
        .get(name)
        .is_none_or(|told| Some(told.as_bytes()) == validator.map(str::as_bytes))
}

/// `bytes 100-199/200` or `bytes 100-199/*`: the start, and the size of the whole.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-')?.0.parse().ok()?;
    Some((start, total.parse().ok()))
}

/// Opens the file so that what is written goes behind its first `length` bytes.
fn open(path: PathBuf, length: u64) -> io::Result<fs::File> {
    let file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    if file.metadata()?.len() < length {
        return Err(io::Error::other("another program has changed the file"));
    }
    file.set_len(length)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_strong_can_tell() {
        let headers = |lines: &[(&'static str, &'static str)]| {
            let lines = lines.iter().map(|(name, value)| {
                (
                    name.parse().expect("a name"),
                    value.parse().expect("a value"),
                )
            });
            validator(&lines.collect())
        };
        assert_eq!(headers(&[("etag", "\"1\"")]), Some("\"1\"".into()));
        assert_eq!(headers(&[("etag", "W/\"1\"")]), None);
        let now = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let old = "Sun, 06 Nov 1994 08:48:37 GMT";
        assert_eq!(headers(&[now, ("last-modified", old)]), Some(old.into()));
        let new = ("last-modified", "Sun, 06 Nov 1994 08:48:38 GMT");
        assert_eq!(headers(&[now, new]), None);
    }

    #[test]
    fn ranges_are_read() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(content_range("bytes */10"), None);
    }
}
