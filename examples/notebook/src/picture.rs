//! Pictures in the window. What a file or a kernel calls a picture may be anything.

use std::io;

use entwined::Handle;
use gtk::{gdk, glib, prelude::*};

/// The most pixels of a picture: 64 MiB of memory. A file of some kilobytes can hold any number.
const MAX_PIXELS: u64 = 16 * 1024 * 1024;

/// A picture, which a thread decodes.
pub fn picture(handle: &Handle, png: &str) -> gtk::Box {
    let picture = gtk::Picture::builder().can_shrink(false).build();
    // It has its own size there.
    let line = gtk::Box::builder().margin_start(40).build();
    line.append(&picture);
    let png = png.to_owned();
    let decoded = handle.defer_to_thread(move |_| decode(&glib::base64_decode(&png)));
    handle.spawn(async move {
        match decoded.await {
            Ok(texture) => picture.set_paintable(Some(&texture)),
            Err(error) => tracing::warn!(%error, "a picture cannot be shown"),
        }
    });
    line
}

fn decode(png: &[u8]) -> io::Result<gdk::Texture> {
    match pixels(png) {
        None => Err(io::Error::other("it is not PNG")),
        Some(count) if count > MAX_PIXELS => {
            let text = format!("it has {count} pixels, and {MAX_PIXELS} are shown at most");
            Err(io::Error::other(text))
        }
        Some(_) => gdk::Texture::from_bytes(&glib::Bytes::from(png)).map_err(io::Error::other),
    }
}

/// The number of pixels, which stands at the beginning of a PNG (its specification, 5.2 and
/// 11.2.1). What begins otherwise GTK would take for another format.
fn pixels(png: &[u8]) -> Option<u64> {
    let header = png.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR")?;
    let (width, rest) = header.split_first_chunk()?;
    let height = rest.first_chunk()?;
    let [width, height] = [width, height].map(|side| u64::from(u32::from_be_bytes(*side)));
    Some(width * height)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(width: u32, height: u32) -> Vec<u8> {
        let (width, height) = (width.to_be_bytes(), height.to_be_bytes());
        [&b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"[..], &width, &height].concat()
    }

    #[test]
    fn the_size_of_a_picture_is_known_before_it_is_decoded() {
        assert_eq!(pixels(&header(2, 3)), Some(6));
        assert_eq!(
            pixels(&header(u32::MAX, u32::MAX)),
            Some(18_446_744_065_119_617_025)
        );
        assert_eq!(pixels(&header(2, 3)[..23]), None);
        assert_eq!(pixels(b"\xff\xd8\xff\xe0 a JPEG of any size"), None);
        let error = decode(&header(60_000, 60_000)).expect_err("too large");
        assert_eq!(
            error.to_string(),
            "it has 3600000000 pixels, and 16777216 are shown at most"
        );
        assert_eq!(
            decode(b"GIF89a").expect_err("another").to_string(),
            "it is not PNG"
        );
    }
}
