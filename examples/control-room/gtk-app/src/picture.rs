//! The window's own picture.

use std::fmt;

use entwined::deferred::Interrupted;
use gtk::prelude::*;
use gtk::{gdk, graphene};
use site::Pixels;

/// Why there is no picture of the window.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PictureError {
    /// The window is not on the screen, so it has neither a size nor a renderer.
    NotShown,
    /// The window has nothing to draw.
    Empty,
    /// The window drew no frame.
    None(Interrupted),
}

impl From<Interrupted> for PictureError {
    fn from(why: Interrupted) -> Self {
        Self::None(why)
    }
}

/// Renders what `window` shows, with its title bar, at the window's own scale.
///
/// Draws the widgets once more, off the screen, with the renderer that draws them on the screen.
/// GTK keeps what they show only from the painting of a frame until something changes, so call this
/// right after the painting. It blocks the thread for some milliseconds.
pub fn pixels(window: &gtk::Window) -> Result<Pixels, PictureError> {
    let texture = texture(window)?;
    let (width, height) = (texture.width() as usize, texture.height() as usize);
    let mut rgba = vec![0; width * height * 4];
    texture.download(&mut rgba, width * 4);
    straighten(&mut rgba);
    Ok(Pixels {
        width: width as u32,
        height: height as u32,
        rgba,
    })
}

fn texture(window: &gtk::Window) -> Result<gdk::Texture, PictureError> {
    if !window.is_mapped() {
        return Err(PictureError::NotShown);
    }
    let renderer = window.renderer().ok_or(PictureError::NotShown)?;
    let paintable = gtk::WidgetPaintable::new(Some(window));
    // Uses the paintable's size, because the window's size leaves out the frame that GTK draws
    // itself.
    let width = paintable.intrinsic_width() as f32;
    let height = paintable.intrinsic_height() as f32;
    let scale = window.scale_factor() as f32;
    let snapshot = gtk::Snapshot::new();
    snapshot.scale(scale, scale);
    paintable.snapshot(&snapshot, f64::from(width), f64::from(height));
    let node = snapshot.to_node().ok_or(PictureError::Empty)?;
    // Without bounds, a shadow outside the window would widen the picture.
    let bounds = graphene::Rect::new(0.0, 0.0, width * scale, height * scale);
    Ok(renderer.render_texture(node, Some(&bounds)))
}

/// Converts GDK's format (one native-endian word per pixel, alpha on top, premultiplied colours) to
/// PNG's: separate red, green, blue and alpha, not premultiplied.
fn straighten(pixels: &mut [u8]) {
    for pixel in pixels.as_chunks_mut::<4>().0 {
        let word = u32::from_ne_bytes(*pixel);
        let [alpha, red, green, blue] = word.to_be_bytes();
        *pixel = match alpha {
            255 => [red, green, blue, alpha],
            0 => [0; 4],
            _ => {
                let single =
                    |colour: u8| (u32::from(colour) * 255 / u32::from(alpha)).min(255) as u8;
                [single(red), single(green), single(blue), alpha]
            }
        };
    }
}

impl fmt::Display for PictureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotShown => f.write_str("the window is not shown"),
            Self::Empty => f.write_str("the window has nothing to draw"),
            Self::None(why) => write!(f, "the window drew no frame: {why}"),
        }
    }
}

impl std::error::Error for PictureError {}

#[cfg(test)]
mod tests {
    use super::straighten;

    #[test]
    fn colours_are_divided_by_their_alpha() {
        let words = [0xff_10_20_30_u32, 0x00_00_00_00, 0x80_40_00_80];
        let mut pixels: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        straighten(&mut pixels);
        let expected = [[0x10, 0x20, 0x30, 255], [0; 4], [127, 0, 255, 128]];
        assert_eq!(pixels, expected.concat());
    }
}
