//! Errors that only the program's author can mend.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
};

use tracing::{dispatcher, subscriber::NoSubscriber};

/// Reports an error to the log. If this thread has no `tracing` subscriber, it goes to standard
/// error: it must not be unseen because a program does not use `tracing`.
pub(super) fn error(what: &str, cause: &(dyn Error + 'static)) {
    let cause = Chain(cause);
    tracing::error!(%cause, "{what}");
    if dispatcher::get_default(|dispatch| dispatch.is::<NoSubscriber>()) {
        // One call, so that lines of several threads do not mix. If it fails, there is nowhere left
        // to tell.
        let _ = io::stderr().write_all(format!("entwined-http: {what}: {cause}\n").as_bytes());
    }
}

/// Shows an error with the errors behind it.
pub(super) struct Chain<'a>(pub(super) &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut error = self.0;
        write!(f, "{error}")?;
        while let Some(source) = error.source() {
            write!(f, ": {source}")?;
            error = source;
        }
        Ok(())
    }
}

/// Hides what may be a user name and password in a text that may not be a URL.
#[cfg(any(feature = "client", feature = "websocket"))]
pub(super) fn hide(text: &str) -> String {
    let begin = text.find("//").map_or(0, |place| place + 2);
    let end = text[begin..].find(['/', '?', '#']);
    let end = end.map_or(text.len(), |place| begin + place);
    // A password may contain the characters that end an authority, if somebody forgot to encode it.
    let at = text[begin..end].rfind('@').map(|place| begin + place);
    match at.or_else(|| text.rfind('@').filter(|place| *place >= begin)) {
        Some(at) => format!("{}***{}", &text[..begin], &text[at..]),
        None => text.to_owned(),
    }
}
