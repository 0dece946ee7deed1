//! Where everything is.

use super::surface::Area;

/// What the pointer can be over and the keyboard focus can be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The button that counts.
    Count,
    /// The text entry.
    Text,
    /// The address.
    Address,
}

/// All positions in physical pixels, for one size of window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) width: f32,
    pub(super) height: f32,
    pub(super) scale: f32,
    pub(super) logo: Area,
    pub(super) title: Area,
    pub(super) address: Area,
    pub(super) count_card: Area,
    pub(super) count_caption: Area,
    pub(super) number: Area,
    pub(super) button: Area,
    pub(super) text_card: Area,
    pub(super) text_caption: Area,
    pub(super) entry: Area,
    pub(super) entry_text: Area,
    pub(super) rate_card: Area,
    pub(super) rate_caption: Area,
    pub(super) figures: Area,
    pub(super) plot: Area,
}

impl Layout {
    pub(super) fn new(width: f32, height: f32, scale: f32) -> Self {
        let (w, h) = (width / scale, height / scale);
        let area = |x: f32, y: f32, width: f32, height: f32| Area {
            x: (x * scale).round(),
            y: (y * scale).round(),
            width: (width * scale).round().max(0.0),
            height: (height * scale).round().max(0.0),
        };
        let (edge, gap, inner) = (18.0, 14.0, 16.0);
        let (row, row_height) = (62.0, 118.0);
        let half = (w - 2.0 * edge - gap) / 2.0;
        let right = edge + half + gap;
        let rate = row + row_height + gap;
        let rate_height = h - rate - edge;
        let button = 96.0;
        // Wide enough for an IPv6 address; shorter ones are aligned to its right.
        let link = (w - 2.0 * edge - 150.0).min(240.0);
        let full = w - 2.0 * (edge + inner);
        Self {
            width,
            height,
            scale,
            logo: area(edge, 17.0, 30.0, 30.0),
            title: area(edge + 40.0, 16.0, 110.0, 30.0),
            address: area(w - edge - link, 16.0, link, 30.0),
            count_card: area(edge, row, half, row_height),
            count_caption: area(edge + inner, row + 10.0, half, 22.0),
            number: area(edge + inner, row + 38.0, half - button - 3.0 * inner, 64.0),
            button: area(edge + half - inner - button, row + 50.0, button, 40.0),
            text_card: area(right, row, half, row_height),
            text_caption: area(right + inner, row + 10.0, half, 22.0),
            entry: area(right + inner, row + 50.0, half - 2.0 * inner, 40.0),
            entry_text: area(
                right + inner + 12.0,
                row + 50.0,
                half - 2.0 * inner - 24.0,
                40.0,
            ),
            rate_card: area(edge, rate, w - 2.0 * edge, rate_height),
            rate_caption: area(edge + inner, rate + 10.0, full, 22.0),
            figures: area(edge + inner, rate + 10.0, full, 22.0),
            plot: area(edge + inner, rate + 42.0, full, rate_height - 42.0 - inner),
        }
    }

    /// Converts `logical` pixels to physical ones.
    pub(super) fn px(&self, logical: f32) -> f32 {
        logical * self.scale
    }

    pub(super) fn target(&self, x: f32, y: f32) -> Option<Target> {
        if self.button.contains(x, y) {
            Some(Target::Count)
        } else if self.entry.contains(x, y) {
            Some(Target::Text)
        } else if self.address.contains(x, y) {
            Some(Target::Address)
        } else {
            None
        }
    }
}
