//! The window's contents, drawn in software.
//!
//! Three layers, by how often they change. The *ground* (cards, captions, the button) is kept and
//! copied. Figures and text are composed of cached glyphs. Only the plot is rasterised with every
//! frame, because only the plot looks different in every frame. So a frame costs a fraction of a
//! millisecond, which leaves the thread enough time for its other work sixty times a second.
//!
//! Text is set from left to right in the one font that is built into the program, without shaping:
//! enough for Latin, Greek and Cyrillic, not for Arabic or Devanagari.

mod ground;
mod layout;
mod palette;
mod surface;
mod text;

use std::time::Instant;

use tiny_skia::{Paint, PathBuilder, Pixmap, Stroke, Transform};

use crate::model::Model;
use crate::plot;
use ground::Ground;
use layout::Layout;
use palette::Palette;
use surface::{Area, Surface};
use text::{Face, Style, Type};

pub use layout::Target;

/// What a frame shows besides the model.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The state.
    pub model: &'a Model,
    /// The web server's address.
    pub address: &'a str,
    /// The focused element, if the window has the focus.
    pub focus: Option<Target>,
    /// What the pointer is over.
    pub hover: Option<Target>,
    /// Whether the button is held down.
    pub pressed: bool,
    /// The index of the character before which the cursor is, while the text is being edited.
    pub cursor: Option<usize>,
    /// Whether the cursor is visible at this point of its blinking.
    pub cursor_shown: bool,
    /// Whether to draw light on dark.
    pub dark: bool,
    /// The frame's time, which determines how far the plot has scrolled.
    pub now: Instant,
}

/// Draws [`Scene`]s. It caches what a frame can share with the previous one, so reuse it.
pub struct Canvas {
    ground: Option<Ground>,
    plot: Option<Pixmap>,
    history: Vec<u32>,
    curve: Vec<(f32, f32)>,
    text: Type,
}

impl Canvas {
    /// Creates a canvas that has drawn nothing yet.
    pub fn new() -> Self {
        Self {
            ground: None,
            plot: None,
            history: Vec::new(),
            curve: Vec::new(),
            text: Type::new(),
        }
    }

    /// Draws `scene` into `pixels`, in rows of `width`, as `0x00RRGGBB` each.
    ///
    /// `scale` is the number of physical pixels per logical pixel. Contents that do not fit are
    /// clipped.
    ///
    /// # Panics
    ///
    /// Panics if `pixels` is not `width` times `height` long.
    pub fn draw(
        &mut self,
        scene: &Scene<'_>,
        (width, height): (u32, u32),
        scale: f64,
        pixels: &mut [u32],
    ) {
        let mut surface = Surface::new(pixels, width as usize, height as usize);
        let layout = Layout::new(width as f32, height as f32, scale as f32);
        let palette = Palette::new(scene.dark);
        let key = ground::Key::new(scene, layout);
        if self.ground.as_ref().is_none_or(|ground| !ground.is(&key)) {
            self.ground = Ground::draw(key, &palette, &mut self.text);
        }
        match &self.ground {
            Some(ground) => surface.copy(ground.pixels()),
            None => return, // nothing fits into a window without an area
        }
        self.figures(&mut surface, scene, &layout, &palette);
        self.entry(&mut surface, scene, &layout, &palette);
        self.plot(&mut surface, scene, &layout, &palette);
    }

    /// Returns what is at a position in physical pixels, in a window of this size.
    pub fn target(size: (u32, u32), scale: f64, at: (f64, f64)) -> Option<Target> {
        let layout = Layout::new(size.0 as f32, size.1 as f32, scale as f32);
        layout.target(at.0 as f32, at.1 as f32)
    }

    fn figures(&mut self, to: &mut Surface<'_>, scene: &Scene<'_>, at: &Layout, with: &Palette) {
        let model = scene.model;
        let count = plot::thousands(model.count());
        let size = self
            .text
            .fitting(&count, Face::Bold, at.px(52.0), at.number.width);
        let number = Style::new(Face::Bold, size, with.ink);
        self.text.draw(to, at.number, &count, number);

        let figures = format!(
            "{}/s  ·  {} total  ·  {} frames/s",
            plot::thousands(model.rps().into()),
            plot::thousands(model.requests()),
            model.fps(),
        );
        let style = Style::new(Face::Regular, at.px(12.5), with.ink);
        let width = self.text.width(&figures, style);
        self.text.draw(to, at.figures.right(width), &figures, style);

        let link = Style::new(Face::Regular, at.px(13.0), with.tint);
        let width = self.text.width(scene.address, link);
        let area = at.address.right(width);
        self.text.draw(to, area, scene.address, link);
        if scene.hover == Some(Target::Address) && !scene.address.is_empty() {
            let under = Area {
                y: area.y + at.px(23.0),
                height: at.px(1.0),
                ..area
            };
            to.fill(under, with.tint);
        }
    }

    fn entry(&mut self, to: &mut Surface<'_>, scene: &Scene<'_>, at: &Layout, with: &Palette) {
        let text = scene.model.text();
        let style = Style::new(Face::Regular, at.px(14.0), with.ink);
        if text.is_empty() && scene.focus != Some(Target::Text) {
            let hint = Style {
                color: with.soft,
                ..style
            };
            self.text.draw(to, at.entry_text, "Type here…", hint);
            return;
        }
        let cursor = scene.cursor.map(|cursor| {
            let before = text
                .char_indices()
                .nth(cursor)
                .map_or(text.len(), |(i, _)| i);
            self.text.width(&text[..before], style)
        });
        // Scrolls left far enough to keep the cursor visible.
        let shift = cursor.map_or(0.0, |x| (x - at.entry_text.width + at.px(1.5)).max(0.0));
        self.text
            .draw_shifted(to, at.entry_text, shift, &text, style);
        if let Some(cursor) = cursor.filter(|_| scene.cursor_shown) {
            let area = at.entry_text;
            let bar = Area {
                x: (area.x + cursor - shift).round(),
                width: at.px(1.5).max(1.0).round(),
                ..area
            };
            to.fill(bar.inset(0.0, at.px(8.0)), with.tint);
        }
    }

    fn plot(&mut self, to: &mut Surface<'_>, scene: &Scene<'_>, at: &Layout, with: &Palette) {
        let area = at.plot;
        let (width, height) = (area.width as u32, area.height as u32);
        let kept = self
            .plot
            .take()
            .filter(|kept| (kept.width(), kept.height()) == (width, height));
        let Some(mut pixmap) = kept.or_else(|| Pixmap::new(width, height)) else {
            return;
        };
        pixmap.fill(tiny_skia::Color::TRANSPARENT);
        scene.model.history(&mut self.history);
        let line = at.px(2.0);
        let size = (f64::from(width), f64::from(area.height - line));
        let top = plot::scale(self.history.iter().copied().max().unwrap_or(0));
        let points = plot::points(&self.history, top, scene.model.phase(scene.now), size);
        let points = points.map(|(x, y)| (x as f32, y as f32 + line / 2.0));
        self.curve.clear();
        self.curve.extend(points);
        to.shade_under(area, &self.curve, with.tint, 0.16);
        stroke(&mut pixmap, &self.curve, line, with.tint);
        to.blend(area.x as i32, area.y as i32, &pixmap);
        self.plot = Some(pixmap);
    }
}

/// Only the line needs the rasteriser. The area under it needs no smooth edge, because the line
/// covers that, and shading it row by row takes half the time.
fn stroke(pixmap: &mut Pixmap, curve: &[(f32, f32)], width: f32, rgb: u32) {
    let mut path = PathBuilder::new();
    for (i, (x, y)) in curve.iter().enumerate() {
        if i == 0 {
            path.move_to(*x, *y);
        } else {
            path.line_to(*x, *y);
        }
    }
    let Some(path) = path.finish() else { return };
    let mut paint = Paint::default();
    paint.set_color(palette::color(rgb, 1.0));
    let stroke = Stroke {
        width,
        line_join: tiny_skia::LineJoin::Bevel,
        ..Stroke::default()
    };
    pixmap.stroke_path(&path, &paint, &stroke, Transform::identity(), None);
}

impl Default for Canvas {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Canvas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canvas").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Host;

    fn scene(model: &Model) -> Scene<'_> {
        Scene {
            model,
            address: "http://127.0.0.1:8080/",
            focus: None,
            hover: None,
            pressed: false,
            cursor: None,
            cursor_shown: true,
            dark: false,
            now: Instant::now(),
        }
    }

    fn drawn(canvas: &mut Canvas, scene: &Scene<'_>, (width, height): (u32, u32)) -> Vec<u32> {
        let mut pixels = vec![0xdead_beef; (width * height) as usize];
        canvas.draw(scene, (width, height), 1.0, &mut pixels);
        pixels
    }

    #[test]
    fn every_pixel_is_drawn_and_a_count_changes_some() {
        let model = Model::new(Host::Winit);
        let mut canvas = Canvas::new();
        let before = drawn(&mut canvas, &scene(&model), (640, 400));
        assert!(!before.contains(&0xdead_beef));
        model.add();
        let after = drawn(&mut canvas, &scene(&model), (640, 400));
        assert_ne!(before, after);
    }

    #[test]
    fn the_same_scene_is_the_same_picture_from_kept_and_from_new() {
        let model = Model::new(Host::Winit);
        model.set_text("Grüße, мир");
        let scene = scene(&model);
        let mut canvas = Canvas::new();
        let first = drawn(&mut canvas, &scene, (640, 400));
        drawn(
            &mut canvas,
            &Scene {
                dark: true,
                ..scene
            },
            (500, 350),
        );
        assert!(drawn(&mut canvas, &scene, (640, 400)) == first);
    }

    #[test]
    fn a_window_too_small_for_anything_is_no_panic() {
        let model = Model::new(Host::Winit);
        model.set_text("x");
        let mut canvas = Canvas::new();
        for size in [(1, 1), (40, 3), (3, 40), (120, 90)] {
            let scene = Scene {
                cursor: Some(1),
                focus: Some(Target::Text),
                ..scene(&model)
            };
            drawn(&mut canvas, &scene, size);
        }
    }

    #[test]
    fn the_button_and_the_entry_are_where_they_are_drawn() {
        let size = (640, 400);
        let mut found = Vec::new();
        for y in (0..400).step_by(4) {
            for x in (0..640).step_by(4) {
                let target = Canvas::target(size, 1.0, (x.into(), y.into()));
                found.extend(target.filter(|target| !found.contains(target)));
            }
        }
        assert!(found.contains(&Target::Count) && found.contains(&Target::Text));
    }
}
