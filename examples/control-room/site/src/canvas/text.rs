//! Text, composed of glyphs that are rasterised once.

use std::collections::HashMap;

use ab_glyph::{Font, FontRef, GlyphId, PxScale, ScaleFont};

use super::surface::{Area, Surface};

/// The maximum number of cached glyphs. The windows use some 200; a text may contain any others.
const MOST_GLYPHS: usize = 2048;

/// A glyph is cached at this many positions within a pixel, so that words are spaced evenly.
const PLACES: f32 = 4.0;

/// The height of a capital letter in this font, in ems.
const CAPITAL: f32 = 0.73;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Face {
    Regular,
    Bold,
}

/// How a text looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) face: Face,
    /// The em, in pixels.
    pub(super) size: f32,
    /// `0x00RRGGBB`.
    pub(super) color: u32,
}

/// The fonts, and the glyphs that were drawn.
pub(super) struct Type {
    regular: FontRef<'static>,
    bold: FontRef<'static>,
    glyphs: HashMap<Key, Glyph>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    face: Face,
    size: u32,
    id: GlyphId,
    place: u8,
}

struct Glyph {
    left: i32,
    top: i32,
    width: usize,
    coverage: Vec<u8>,
}

impl Style {
    pub(super) fn new(face: Face, size: f32, color: u32) -> Self {
        Self { face, size, color }
    }
}

impl Type {
    pub(super) fn new() -> Self {
        let font = |bytes| FontRef::try_from_slice(bytes).expect("the font is in the program");
        Self {
            regular: font(dejavu::sans::regular()),
            bold: font(dejavu::sans::bold()),
            glyphs: HashMap::new(),
        }
    }

    /// Returns the width of `text` in pixels.
    pub(super) fn width(&self, text: &str, style: Style) -> f32 {
        let mut width = 0.0;
        set(self.face(style.face), style.size, text, |_, _, end| {
            width = end
        });
        width
    }

    /// Returns the size, `size` at most, at which `text` is no wider than `width`.
    pub(super) fn fitting(&self, text: &str, face: Face, size: f32, width: f32) -> f32 {
        let wide = self.width(text, Style::new(face, size, 0));
        if wide <= width || wide <= 0.0 {
            size
        } else {
            (size * width / wide).floor().max(1.0)
        }
    }

    /// Draws `text` at the left of `area`, vertically centred and clipped to it.
    pub(super) fn draw(&mut self, to: &mut Surface<'_>, area: Area, text: &str, style: Style) {
        self.draw_shifted(to, area, 0.0, text, style);
    }

    /// Same as `draw`, with the text moved left by `shift` and clipped.
    pub(super) fn draw_shifted(
        &mut self,
        to: &mut Surface<'_>,
        area: Area,
        shift: f32,
        text: &str,
        style: Style,
    ) {
        if self.glyphs.len() > MOST_GLYPHS {
            self.glyphs.clear();
        }
        let (font, glyphs) = match style.face {
            Face::Regular => (&self.regular, &mut self.glyphs),
            Face::Bold => (&self.bold, &mut self.glyphs),
        };
        // Capitals and figures look centred if their own middle is, not that of their line.
        let capital = CAPITAL * style.size;
        let baseline = (area.y + (area.height + capital) / 2.0).round();
        set(font, style.size, text, |id, start, _| {
            let x = area.x + start - shift;
            let place = ((x - x.floor()) * PLACES) as u8;
            let key = Key {
                face: style.face,
                size: style.size.to_bits(),
                id,
                place,
            };
            let glyph = glyphs.entry(key).or_insert_with(|| rasterise(font, key));
            let corner = (x.floor() as i32 + glyph.left, baseline as i32 + glyph.top);
            to.cover(corner, glyph.width, &glyph.coverage, area, style.color);
        });
    }

    fn face(&self, face: Face) -> &FontRef<'static> {
        match face {
            Face::Regular => &self.regular,
            Face::Bold => &self.bold,
        }
    }
}

/// Lays out `text` in a line; reports where each glyph starts and ends.
fn set(font: &FontRef<'_>, size: f32, text: &str, mut each: impl FnMut(GlyphId, f32, f32)) {
    let scaled = font.as_scaled(scale(font, size));
    let mut x = 0.0;
    let mut last = None;
    for character in text.chars() {
        let id = font.glyph_id(character);
        x += last.map_or(0.0, |last| scaled.kern(last, id));
        let end = x + scaled.h_advance(id);
        each(id, x, end);
        (x, last) = (end, Some(id));
    }
}

/// The library measures a font by its line height, designers (and CSS) by its em.
fn scale(font: &FontRef<'_>, em: f32) -> PxScale {
    let units = font.units_per_em().unwrap_or(1000.0);
    PxScale::from(em * font.height_unscaled() / units)
}

fn rasterise(font: &FontRef<'_>, key: Key) -> Glyph {
    let size = f32::from_bits(key.size);
    let place = (f32::from(key.place) + 0.5) / PLACES;
    let glyph = key
        .id
        .with_scale_and_position(scale(font, size), ab_glyph::point(place, 0.0));
    let Some(outlined) = font.outline_glyph(glyph) else {
        return Glyph {
            left: 0,
            top: 0,
            width: 0,
            coverage: Vec::new(),
        }; // a space
    };
    let bounds = outlined.px_bounds();
    let width = bounds.width() as usize;
    let mut coverage = vec![0; width * bounds.height() as usize];
    outlined.draw(|x, y, covered| {
        coverage[y as usize * width + x as usize] = (covered.min(1.0) * 255.0).round() as u8;
    });
    Glyph {
        left: bounds.min.x as i32,
        top: bounds.min.y as i32,
        width,
        coverage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_all_of_one_width() {
        let text = Type::new();
        let width = |digits| text.width(digits, Style::new(Face::Bold, 52.0, 0));
        assert!((width("1111") - width("8888")).abs() < 0.01);
    }

    #[test]
    fn a_number_that_does_not_fit_is_set_smaller() {
        let text = Type::new();
        let size = text.fitting("18,446,744,073,709,551,615", Face::Bold, 52.0, 150.0);
        assert!(size < 52.0);
        let wide = text.width(
            "18,446,744,073,709,551,615",
            Style::new(Face::Bold, size, 0),
        );
        assert!(wide <= 150.0);
    }

    #[test]
    fn kept_glyphs_are_bounded() {
        let mut text = Type::new();
        let mut pixels = vec![0; 64 * 64];
        let area = Area {
            x: 0.0,
            y: 0.0,
            width: 64.0,
            height: 64.0,
        };
        for size in 4..64_u8 {
            let many: String = ('!'..'ÿ').collect();
            let mut surface = Surface::new(&mut pixels, 64, 64);
            text.draw(
                &mut surface,
                area,
                &many,
                Style::new(Face::Regular, size.into(), 0),
            );
        }
        assert!(text.glyphs.len() < MOST_GLYPHS + 500);
    }
}
