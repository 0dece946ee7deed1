//! Pixels to draw on.

use tiny_skia::Pixmap;

/// A rectangle in physical pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Area {
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) width: f32,
    pub(super) height: f32,
}

impl Area {
    pub(super) fn contains(&self, x: f32, y: f32) -> bool {
        (self.x..self.x + self.width).contains(&x) && (self.y..self.y + self.height).contains(&y)
    }

    /// Returns the part that is `width` wide and ends at the right edge, or the whole area if it is
    /// narrower.
    pub(super) fn right(self, width: f32) -> Self {
        let width = width.ceil().min(self.width);
        Self {
            x: self.x + self.width - width,
            width,
            ..self
        }
    }

    /// Returns the middle part of this width.
    pub(super) fn middle(self, width: f32) -> Self {
        Self {
            x: self.x + (self.width - width) / 2.0,
            width: width.ceil(),
            ..self
        }
    }

    pub(super) fn inset(self, x: f32, y: f32) -> Self {
        Self {
            x: self.x + x,
            y: self.y + y,
            width: (self.width - 2.0 * x).max(0.0),
            height: (self.height - 2.0 * y).max(0.0),
        }
    }
}

/// Rows of `0x00RRGGBB`. Everything drawn is clipped at the edges.
pub(super) struct Surface<'a> {
    pixels: &'a mut [u32],
    width: usize,
    height: usize,
}

impl<'a> Surface<'a> {
    pub(super) fn new(pixels: &'a mut [u32], width: usize, height: usize) -> Self {
        assert_eq!(
            pixels.len(),
            width * height,
            "as many pixels as the size says"
        );
        Self {
            pixels,
            width,
            height,
        }
    }

    /// Replaces everything with another surface of the same size.
    pub(super) fn copy(&mut self, from: &[u32]) {
        self.pixels.copy_from_slice(from);
    }

    pub(super) fn fill(&mut self, area: Area, rgb: u32) {
        let (from, to) = self.columns(area);
        for y in self.rows(area) {
            self.pixels[y * self.width..][from..to].fill(rgb);
        }
    }

    /// Draws `rgb` with the given `coverage` (rows of `width`, 255 is opaque), with its corner at
    /// (`x`, `y`), clipped to `clip`.
    pub(super) fn cover(
        &mut self,
        (x, y): (i32, i32),
        width: usize,
        coverage: &[u8],
        clip: Area,
        rgb: u32,
    ) {
        let (from, to) = self.columns(clip);
        let rows = self.rows(clip);
        for (line, row) in coverage.chunks_exact(width.max(1)).zip(y..) {
            let Some(row) = usize::try_from(row).ok().filter(|row| rows.contains(row)) else {
                continue;
            };
            let pixels = &mut self.pixels[row * self.width..][..self.width];
            for (alpha, column) in line.iter().zip(x..) {
                if *alpha == 0 {
                    continue;
                }
                if let Some(column) = usize::try_from(column)
                    .ok()
                    .filter(|c| (from..to).contains(c))
                {
                    pixels[column] = mix(pixels[column], rgb, u32::from(*alpha));
                }
            }
        }
    }

    /// Blends a picture over the surface, with its corner at (`x`, `y`).
    pub(super) fn blend(&mut self, x: i32, y: i32, picture: &Pixmap) {
        let width = picture.width() as usize;
        for (line, row) in picture.pixels().chunks_exact(width).zip(y..) {
            let Some(row) = usize::try_from(row).ok().filter(|row| *row < self.height) else {
                continue;
            };
            let pixels = &mut self.pixels[row * self.width..][..self.width];
            for (over, column) in line.iter().zip(x..) {
                if over.alpha() == 0 {
                    continue;
                }
                let under = usize::try_from(column)
                    .ok()
                    .and_then(|column| pixels.get_mut(column));
                if let Some(under) = under {
                    let rest = 255 - u32::from(over.alpha());
                    let [_, red, green, blue] = under.to_be_bytes();
                    let add = |over: u8, under: u8| {
                        u32::from(over) + (u32::from(under) * rest + 127) / 255
                    };
                    *under = add(over.red(), red).min(255) << 16
                        | add(over.green(), green).min(255) << 8
                        | add(over.blue(), blue).min(255);
                }
            }
        }
    }

    /// Shades the part of `area` below `curve`, whose points go from left to right and are relative
    /// to the area.
    pub(super) fn shade_under(&mut self, area: Area, curve: &[(f32, f32)], rgb: u32, alpha: f32) {
        let alpha = (alpha * 255.0) as u32;
        let (from, to) = self.columns(area);
        let mut tops = Vec::with_capacity(to - from);
        let mut pairs = curve.windows(2).peekable();
        for column in from..to {
            let x = column as f32 + 0.5 - area.x;
            while pairs.next_if(|pair| pair[1].0 < x).is_some() {}
            let top = pairs.peek().map_or(f32::INFINITY, |pair| {
                let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
                y0 + (y1 - y0) * (x - x0) / (x1 - x0)
            });
            tops.push((area.y + top) as usize);
        }
        for row in self.rows(area) {
            let pixels = &mut self.pixels[row * self.width..][from..to];
            for (pixel, top) in pixels.iter_mut().zip(&tops) {
                // Both results are computed so that the loop has no branch and can be vectorised.
                let shaded = mix(*pixel, rgb, alpha);
                *pixel = if row >= *top { shaded } else { *pixel };
            }
        }
    }

    fn columns(&self, area: Area) -> (usize, usize) {
        let from = (area.x.max(0.0) as usize).min(self.width);
        let to = ((area.x + area.width).max(0.0).ceil() as usize).min(self.width);
        (from, to.max(from))
    }

    fn rows(&self, area: Area) -> std::ops::Range<usize> {
        let from = (area.y.max(0.0) as usize).min(self.height);
        let to = ((area.y + area.height).max(0.0).ceil() as usize).min(self.height);
        from..to.max(from)
    }
}

/// Blends `over` onto `under` with `alpha` (0 to 255). Red and blue share one multiplication: each
/// has eight bits of room above it.
fn mix(under: u32, over: u32, alpha: u32) -> u32 {
    const RED_BLUE: u32 = 0x00ff_00ff;
    const GREEN: u32 = 0x0000_ff00;
    let alpha = alpha + (alpha >> 7); // maps 255 to 256, fully opaque
    let blend = |mask: u32| {
        let both = (under & mask) * (256 - alpha) + (over & mask) * alpha;
        (both >> 8) & mask
    };
    blend(RED_BLUE) | blend(GREEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixing_none_all_and_half() {
        assert_eq!(mix(0x123456, 0xfedcba, 0), 0x123456);
        assert_eq!(mix(0x123456, 0xfedcba, 255), 0xfedcba);
        assert_eq!(mix(0x000000, 0xffffff, 128), 0x808080);
    }

    #[test]
    fn shade_is_under_the_curve_and_in_the_area() {
        let mut pixels = vec![0; 16];
        let mut surface = Surface::new(&mut pixels, 4, 4);
        let area = Area {
            x: 1.0,
            y: 0.0,
            width: 3.0,
            height: 3.0,
        };
        let curve = [(-1.0, 1.0), (1.0, 1.0), (1.0, 2.0), (5.0, 2.0)];
        surface.shade_under(area, &curve, 0xff, 1.0);
        let rows = [[0; 4], [0, 0xff, 0, 0], [0, 0xff, 0xff, 0xff], [0; 4]];
        assert_eq!(pixels, rows.concat());
    }

    #[test]
    fn what_is_outside_is_cut() {
        let mut pixels = vec![0; 12];
        let mut surface = Surface::new(&mut pixels, 4, 3);
        let all = Area {
            x: -9.0,
            y: -9.0,
            width: 99.0,
            height: 99.0,
        };
        surface.cover((-1, -1), 2, &[255; 4], all, 0xff);
        surface.cover((3, 2), 2, &[255; 4], all, 0xff);
        surface.cover((1, 1), 1, &[255], Area::default(), 0xff);
        assert_eq!(pixels, [0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff]);
    }
}
