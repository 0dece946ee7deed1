//! Pictures as PNG.

use png::{BitDepth, ColorType, Compression, Encoder};

/// A picture in raw pixels.
#[derive(Debug, PartialEq, Eq)]
pub struct Pixels {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Red, green, blue and alpha of each pixel, row by row.
    pub rgba: Vec<u8>,
}

impl Pixels {
    /// Encodes the picture as PNG. It compresses fast rather than small, because the picture
    /// usually goes to a page on the same machine. Even so, it takes long enough to miss a frame,
    /// so run it on a thread.
    ///
    /// # Panics
    /// Panics if the number of bytes does not match the size.
    pub fn png(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out, self.width, self.height);
        encoder.set_color(ColorType::Rgba);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(Compression::Fast);
        let written = encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&self.rgba));
        written.expect("the pixels fill the picture, and a vector takes every byte");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let pixels: Vec<u8> = (0..4 * 3 * 2).collect();
        let encoded = Pixels {
            width: 3,
            height: 2,
            rgba: pixels.clone(),
        }
        .png();
        let decoder = png::Decoder::new(std::io::Cursor::new(encoded));
        let mut reader = decoder.read_info().unwrap();
        let mut back = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut back).unwrap();
        assert_eq!((info.width, info.height), (3, 2));
        assert_eq!(back, pixels);
    }
}
