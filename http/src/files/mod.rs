//! Serves static files.

mod asset;
mod disk;
mod folder;
mod head;
mod listing;
mod range;

use std::{borrow::Cow, path::PathBuf, rc::Rc};

use super::{
    Error, Handler, HeaderValue, IntoResponse, Method, Redirect, Request, Response, ResponseFuture,
    StatusCode,
    coding::accepted,
    handler::marker::Mounted,
    header::{ALLOW, CACHE_CONTROL},
    percent::decode,
};
use disk::{Disk, Found};

/// Serves files. Mount it at a path.
///
/// ```no_run
/// use entwined_http::{Files, Router};
///
/// let router = Router::new().mount("/static", Files::new("/usr/share/my-program/static"));
/// ```
///
/// - It answers GET and HEAD. It supports ranges (RFC 9110, 14: a single range; a request for
///   several ranges gets the whole file) and conditional requests (13), by date and by a strong
///   tag; `If-Range` only by the tag. The tag is made from the file's inode number (on Windows, its
///   creation time), size and modification time; for embedded files, from their content.
/// - A folder is served as its `index.html`, after a redirect to the name with a slash. A folder
///   without an index is a 404, or a [listing](Files::listing).
/// - The content type follows from the name; text is UTF-8. If `name.br` or `name.gz` exists,
///   clients that accept that encoding get it.
/// - Nothing outside the folder can be reached. Requests with `..` (encoded or not), a backslash or
///   NUL, and symbolic links that lead outside, get a 404. Names that begin with a dot also get a
///   404, except `.well-known` (RFC 8615). What enforces it:
///   - Linux: openat2(2) with `RESOLVE_BENEATH` (Linux 5.6). Links inside the folder work. Where a
///     sandbox forbids that call, it is as on macOS.
///   - macOS, FreeBSD: each part of a name is opened by itself, and no link is followed.
///   - Windows: the name that the system gives to the opened file must be the requested one, letter
///     by letter. So links, other letters' case, short names (`PROGRA~1`), devices (`NUL`), streams
///     (`x:y`) and dots or spaces at the end get a 404. Do not let others change the folder: a
///     folder that is replaced by a link while a file is opened is followed.
/// - Files on disk are read on up to four threads of their own, 128 KiB at a time, as fast as the
///   client reads. If a file becomes shorter while it is sent, the connection ends.
#[derive(Clone)]
pub struct Files {
    source: Rc<Source>,
    cache: Option<HeaderValue>,
    index: Cow<'static, str>,
    listing: bool,
}

enum Source {
    Disk(Disk),
    Assets(Box<Get>),
}

type Get = dyn Fn(&str) -> Option<Cow<'static, [u8]>>;

impl Files {
    /// Serves the files in this folder. The folder does not have to exist yet. A relative path
    /// means the directory that the program is in now, also if it changes its directory later.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        Self::from_source(Source::Disk(Disk::new(folder)))
    }

    /// Serves files embedded in the program. `get` is called with a path such as `css/page.css`.
    /// Works with `rust-embed` and `include_dir`.
    ///
    /// ```
    /// use entwined_http::{Files, Router};
    ///
    /// let files = Files::embedded(|path| match path {
    ///     "index.html" => Some(b"<!DOCTYPE html><title>hello</title>".as_slice().into()),
    ///     "style.css" => Some(b"body { margin: 0 }".as_slice().into()),
    ///     _ => None,
    /// });
    /// let router = Router::new().mount("/app", files);
    /// ```
    pub fn embedded(get: impl Fn(&str) -> Option<Cow<'static, [u8]>> + 'static) -> Self {
        Self::from_source(Source::Assets(Box::new(get)))
    }

    fn from_source(source: Source) -> Self {
        Files {
            source: Rc::new(source),
            cache: None,
            index: "index.html".into(),
            listing: false,
        }
    }

    /// Sets `Cache-Control`, for example `public, max-age=3600`. The default is to send none, so
    /// that caches revalidate.
    ///
    /// # Panics
    /// If `value` is not a valid header value.
    #[must_use]
    pub fn cache_control(mut self, value: &str) -> Self {
        self.cache = Some(HeaderValue::from_str(value).expect("a valid header value"));
        self
    }

    /// Sets the file that is served for its folder. The default is `index.html`.
    #[must_use]
    pub fn index(mut self, name: &str) -> Self {
        self.index = name.to_owned().into();
        self
    }

    /// Serves a list of the names in a folder that has no index, at most 10,000 of them and 2 MiB
    /// of HTML.
    #[must_use]
    pub fn listing(mut self) -> Self {
        self.listing = true;
        self
    }

    async fn answer(self, request: Request) -> Response {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = Error::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "files can only be read: use GET or HEAD",
            )
            .into_response();
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        // The mount path itself may be requested without a trailing slash.
        let is_folder = request.path().ends_with('/');
        let Some(name) = decode(request.path_below()).and_then(|path| relative(&path)) else {
            return missing();
        };
        let mut response = match &*self.source {
            Source::Assets(get) => self.asset(&request, get, &name, is_folder).await,
            Source::Disk(disk) => self.disk(disk, &request, &name, is_folder).await,
        };
        if let Some(cache) = self
            .cache
            .filter(|_| response.status().is_success() || response.status() == 304)
        {
            response.headers_mut().insert(CACHE_CONTROL, cache);
        }
        response
    }

    async fn asset(&self, request: &Request, get: &Get, name: &str, is_folder: bool) -> Response {
        let index = if name.is_empty() {
            self.index.to_string()
        } else {
            format!("{name}/{}", self.index)
        };
        if is_folder {
            return match get(&index) {
                Some(bytes) => asset::respond(request, &index, bytes).await,
                None => missing(),
            };
        }
        match get(name) {
            Some(bytes) => asset::respond(request, name, bytes).await,
            None if get(&index).is_some() => redirect(request),
            None => missing(),
        }
    }

    async fn disk(&self, disk: &Disk, request: &Request, name: &str, is_folder: bool) -> Response {
        let codings = accepted(request.headers());
        let is_top = request.path_below() == "/";
        let listing = self.listing.then(|| (request.path().to_owned(), is_top));
        let found = disk
            .find(
                request.handle(),
                name,
                is_folder,
                &self.index,
                &codings,
                listing,
            )
            .await;
        match found {
            Ok(Found::File(file)) => disk.respond(request, file),
            Ok(Found::Folder) if !is_folder => redirect(request),
            Ok(Found::List(page)) => listing::respond(page),
            Ok(Found::Folder | Found::Nothing) => missing(),
            Err(error) => error.into_response(),
        }
    }
}

/// The marker `Mounted` keeps this apart from the other impls of `Handler`.
impl Handler<Mounted> for Files {
    fn call(this: &Rc<Self>, request: Request) -> ResponseFuture {
        ResponseFuture::new(Files::clone(this).answer(request))
    }
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let source: &dyn std::fmt::Debug = match &*self.source {
            Source::Disk(disk) => &disk.root,
            Source::Assets(_) => &"embedded",
        };
        f.debug_struct("Files")
            .field("source", source)
            .finish_non_exhaustive()
    }
}

fn missing() -> Response {
    Error::not_found("there is no such file").into_response()
}

/// Returns the path of a file below its folder, or `None` if it is not a valid one. Clients resolve
/// `.` and `..` themselves, so a server never needs to (RFC 3986, 5.2.4).
fn relative(path: &str) -> Option<String> {
    let path = path.trim_start_matches('/').trim_end_matches('/');
    if path.is_empty() {
        return Some(String::new());
    }
    let fine = |segment: &str| {
        !segment.is_empty()
            && (!segment.starts_with('.') || segment == ".well-known")
            && !segment.contains(['\0', '\\'])
    };
    path.split('/').all(fine).then(|| path.to_owned())
}

/// Redirects to the folder's name with a trailing slash, so that relative links resolve inside the
/// folder.
fn redirect(request: &Request) -> Response {
    let query = request
        .uri()
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    // Exactly one leading slash: with two, the target would name another host.
    let target = format!("/{}/{query}", request.path().trim_matches('/'));
    Redirect::permanent(target).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out() {
        assert_eq!(relative("/a/b.txt").as_deref(), Some("a/b.txt"));
        assert_eq!(relative("/a/").as_deref(), Some("a"));
        assert_eq!(relative("/.well-known/x").as_deref(), Some(".well-known/x"));
        for wrong in [
            "/../a",
            "/a/../b",
            "/a/./b",
            "/a//b",
            "/.git/config",
            "/a\0b",
            "/a\\..\\b",
            "/..",
        ] {
            assert_eq!(relative(wrong), None, "{wrong}");
        }
    }
}
