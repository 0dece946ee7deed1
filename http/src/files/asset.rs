//! Files embedded in the program.

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hasher},
};

use bytes::Bytes;

use super::{
    super::{Body, ETag, Request, Response},
    head::head,
    range::{About, decide},
};

pub(super) fn respond(request: &Request, name: &str, bytes: Cow<'static, [u8]>) -> Response {
    let mut response = head(name);
    // Embedded files have no modification time, so the tag is a hash of the content.
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    let about = About {
        length: bytes.len() as u64,
        validators: ETag::strong(&format!("{:x}-{:x}", bytes.len(), hasher.finish())).into(),
    };
    if let Some(range) = decide(request, &about, &mut response) {
        let (start, end) = (range.start as usize, range.end as usize);
        *response.body_mut() = Body::from(match bytes {
            Cow::Borrowed(bytes) => Bytes::from_static(&bytes[start..end]),
            Cow::Owned(bytes) => Bytes::from(bytes).slice(start..end),
        });
    }
    response
}
