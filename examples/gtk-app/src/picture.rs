//! The window's own picture.

use std::fmt;

use gtk::prelude::*;
use gtk::{gdk, graphene};

/// Why there is no picture of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PictureError {
    /// The window is not on the screen, so it has neither a size nor a renderer.
    NotShown,
    /// The window has nothing to draw.
    Empty,
}

/// Renders what `window` shows as a PNG, title bar and all, at the window's own scale.
///
/// It draws the widgets anew, off the screen, with the renderer that draws them on the screen, so
/// it neither waits for a frame nor reads a screen. On the GUI's thread only, and it holds it for
/// some milliseconds: most of them the PNG's compression.
pub fn png(window: &gtk::Window) -> Result<Vec<u8>, PictureError> {
    texture(window).map(|texture| texture.save_to_png_bytes().to_vec())
}

fn texture(window: &gtk::Window) -> Result<gdk::Texture, PictureError> {
    if !window.is_mapped() {
        return Err(PictureError::NotShown);
    }
    let renderer = window.renderer().ok_or(PictureError::NotShown)?;
    let (width, height) = (window.width() as f32, window.height() as f32);
    let scale = window.scale_factor() as f32;
    let paintable = gtk::WidgetPaintable::new(Some(window));
    let snapshot = gtk::Snapshot::new();
    snapshot.scale(scale, scale);
    paintable.snapshot(&snapshot, f64::from(width), f64::from(height));
    let node = snapshot.to_node().ok_or(PictureError::Empty)?;
    // Without bounds a shadow that falls outside the window would widen the picture.
    let bounds = graphene::Rect::new(0.0, 0.0, width * scale, height * scale);
    Ok(renderer.render_texture(node, Some(&bounds)))
}

impl fmt::Display for PictureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotShown => "the window is not shown",
            Self::Empty => "the window has nothing to draw",
        })
    }
}

impl std::error::Error for PictureError {}
