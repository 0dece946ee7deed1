//! Pictures as PNG.

use png::{BitDepth, ColorType, Compression, Encoder};

/// Encodes `width` by `height` pixels of red, green, blue and alpha.
///
/// Compressed fast rather than small: it runs in a GUI's thread between two frames, and the
/// picture goes to a page on the same machine.
///
/// # Panics
///
/// When `pixels` does not hold exactly that many.
pub fn encode(width: u32, height: u32, pixels: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, width, height);
    encoder.set_color(ColorType::Rgba);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(pixels));
    written.expect("the pixels fill the picture, and a vector takes every byte");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let pixels: Vec<u8> = (0..4 * 3 * 2).collect();
        let encoded = encode(3, 2, &pixels);
        let decoder = png::Decoder::new(std::io::Cursor::new(encoded));
        let mut reader = decoder.read_info().unwrap();
        let mut back = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut back).unwrap();
        assert_eq!((info.width, info.height), (3, 2));
        assert_eq!(back, pixels);
    }
}
