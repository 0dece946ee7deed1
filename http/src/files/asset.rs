//! Files embedded in the program.

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hasher},
};

use bytes::Bytes;

use super::{
    super::{Body, ETag, Error, IntoResponse, Request, Response},
    head::head,
    range::{About, decide},
};

/// The most bytes that are hashed on the loop's thread. This takes about a nanosecond for each.
const MAX_HASHED_HERE: usize = 256 * 1024;

pub(super) async fn respond(request: &Request, name: &str, bytes: Cow<'static, [u8]>) -> Response {
    let mut response = head(name);
    let bytes = match bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    let tag = if bytes.len() <= MAX_HASHED_HERE {
        tag(&bytes)
    } else {
        let bytes = bytes.clone();
        let hashing = request
            .handle()
            .defer_to_thread(move |_| Ok::<_, Error>(tag(&bytes)));
        match hashing.await {
            Ok(tag) => tag,
            Err(error) => return error.into_response(),
        }
    };
    let about = About {
        length: bytes.len() as u64,
        validators: tag.into(),
    };
    if let Some(range) = decide(request, &about, &mut response) {
        let (start, end) = (range.start as usize, range.end as usize);
        *response.body_mut() = Body::from(bytes.slice(start..end));
    }
    response
}

/// Embedded files have no modification time, so the tag is a hash of the content.
fn tag(bytes: &[u8]) -> ETag {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    ETag::strong(&format!("{:x}-{:x}", bytes.len(), hasher.finish()))
}
