//! The parts that stay the same from frame to frame: cards, captions, the button.

use tiny_skia::{FillRule, Paint, Path, PathBuilder, Pixmap, Stroke, Transform};

use super::Scene;
use super::layout::{Layout, Target};
use super::palette::{self, Palette};
use super::surface::{Area, Surface};
use super::text::{Face, Style, Type};

/// Everything that the ground depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Key {
    layout: Layout,
    focus: Option<Target>,
    hover: Option<Target>,
    pressed: bool,
    dark: bool,
}

/// The ground, already drawn.
pub(super) struct Ground {
    key: Key,
    pixels: Vec<u32>,
}

impl Key {
    pub(super) fn new(scene: &Scene<'_>, layout: Layout) -> Self {
        Self {
            layout,
            focus: scene.focus,
            hover: scene.hover,
            pressed: scene.pressed,
            dark: scene.dark,
        }
    }
}

impl Ground {
    /// Draws the ground; `None` for a window without an area.
    pub(super) fn draw(key: Key, with: &Palette, text: &mut Type) -> Option<Self> {
        let at = &key.layout;
        let mut pixmap = Pixmap::new(at.width as u32, at.height as u32)?;
        pixmap.fill(palette::color(with.ground, 1.0));
        let mut shapes = Shapes {
            pixmap: &mut pixmap,
            at,
        };
        shapes.logo(with);
        for card in [at.count_card, at.text_card, at.rate_card] {
            shapes.boxed(card, 12.0, with.card, with.edge);
        }
        shapes.boxed(at.entry, 8.0, with.field, with.edge);
        let button = match (key.pressed, key.hover) {
            (true, _) => with.accent_pressed,
            (_, Some(Target::Count)) => with.accent_hover,
            _ => with.accent,
        };
        shapes.boxed(at.button, 8.0, button, button);
        match key.focus {
            Some(Target::Count) => {
                shapes.ring(at.button.inset(-at.px(3.0), -at.px(3.0)), 11.0, with.tint)
            }
            Some(Target::Text) => shapes.ring(at.entry, 8.0, with.tint),
            Some(Target::Address) | None => {}
        }
        shapes.lines(with);

        let mut pixels: Vec<u32> = pixmap.pixels().iter().map(opaque).collect();
        let mut surface = Surface::new(&mut pixels, at.width as usize, at.height as usize);
        labels(&mut surface, at, with, text);
        Some(Self { key, pixels })
    }

    pub(super) fn is(&self, key: &Key) -> bool {
        self.key == *key
    }

    pub(super) fn pixels(&self) -> &[u32] {
        &self.pixels
    }
}

fn labels(to: &mut Surface<'_>, at: &Layout, with: &Palette, text: &mut Type) {
    text.draw(
        to,
        at.title,
        "Entwined",
        Style::new(Face::Bold, at.px(18.0), with.ink),
    );
    let caption = Style::new(Face::Bold, at.px(12.5), with.soft);
    text.draw(to, at.count_caption, "Counter", caption);
    text.draw(to, at.text_caption, "Text", caption);
    text.draw(to, at.rate_caption, "Requests", caption);
    let button = Style::new(Face::Bold, at.px(14.0), with.on_accent);
    let width = text.width("Count", button);
    text.draw(to, at.button.middle(width), "Count", button);
}

struct Shapes<'a> {
    pixmap: &'a mut Pixmap,
    at: &'a Layout,
}

impl Shapes<'_> {
    fn boxed(&mut self, area: Area, radius: f32, inside: u32, edge: u32) {
        let line = self.at.px(1.0).max(1.0).round();
        let radius = self.at.px(radius);
        self.fill(rounded(area, radius), edge);
        self.fill(rounded(area.inset(line, line), radius - line), inside);
    }

    fn ring(&mut self, area: Area, radius: f32, rgb: u32) {
        let line = self.at.px(2.0);
        let path = rounded(
            area.inset(line / 2.0, line / 2.0),
            self.at.px(radius) - line / 2.0,
        );
        self.stroke(path, line, rgb);
    }

    /// Draws the grid behind the plot.
    fn lines(&mut self, with: &Palette) {
        let area = self.at.plot;
        let line = self.at.px(1.0).max(1.0).round();
        for third in 0..=3_u8 {
            let y = (area.y + (area.height - line) * f32::from(third) / 3.0).round();
            let line = Area {
                y,
                height: line,
                ..area
            };
            self.fill(rounded(line, 0.0), with.edge);
        }
    }

    /// Draws two strands that cross over and under each other.
    fn logo(&mut self, with: &Palette) {
        let Area { x, y, width, .. } = self.at.logo;
        let unit = width / 24.0;
        for (first, rgb) in [(-8.0, with.tint), (8.0, with.second)] {
            let mut path = PathBuilder::new();
            let point = |dx: f32, dy: f32| (x + dx * unit, y + (12.0 + dy) * unit);
            let (start, end) = (point(2.0, 0.0), point(22.0, 0.0));
            let middle = point(12.0, 0.0);
            let curves = [
                (point(6.0, first), point(10.0, first), middle),
                (point(14.0, -first), point(18.0, -first), end),
            ];
            path.move_to(start.0, start.1);
            for (a, b, to) in curves {
                path.cubic_to(a.0, a.1, b.0, b.1, to.0, to.1);
            }
            self.stroke(path.finish(), 2.4 * unit, rgb);
        }
    }

    fn fill(&mut self, path: Option<Path>, rgb: u32) {
        if let Some(path) = path {
            let paint = paint(rgb);
            self.pixmap.fill_path(
                &path,
                &paint,
                FillRule::Winding,
                Transform::identity(),
                None,
            );
        }
    }

    fn stroke(&mut self, path: Option<Path>, width: f32, rgb: u32) {
        if let Some(path) = path {
            let stroke = Stroke {
                width,
                line_cap: tiny_skia::LineCap::Round,
                ..Stroke::default()
            };
            self.pixmap
                .stroke_path(&path, &paint(rgb), &stroke, Transform::identity(), None);
        }
    }
}

fn paint(rgb: u32) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color(palette::color(rgb, 1.0));
    paint
}

/// Returns a rectangle with round corners; `None` if it has no area.
fn rounded(area: Area, radius: f32) -> Option<Path> {
    /// How far a curve's control points are from its ends for a quarter of a circle.
    const HANDLE: f32 = 0.552_284_8;
    let Area {
        x,
        y,
        width,
        height,
    } = area;
    if width <= 0.0 || height <= 0.0 {
        return None;
    }
    let r = radius.clamp(0.0, width.min(height) / 2.0);
    let h = r * (1.0 - HANDLE);
    let (right, bottom) = (x + width, y + height);
    let mut path = PathBuilder::new();
    path.move_to(x + r, y);
    path.line_to(right - r, y);
    path.cubic_to(right - h, y, right, y + h, right, y + r);
    path.line_to(right, bottom - r);
    path.cubic_to(right, bottom - h, right - h, bottom, right - r, bottom);
    path.line_to(x + r, bottom);
    path.cubic_to(x + h, bottom, x, bottom - h, x, bottom - r);
    path.line_to(x, y + r);
    path.cubic_to(x, y + h, x + h, y, x + r, y);
    path.close();
    path.finish()
}

fn opaque(pixel: &tiny_skia::PremultipliedColorU8) -> u32 {
    u32::from_be_bytes([0, pixel.red(), pixel.green(), pixel.blue()])
}
