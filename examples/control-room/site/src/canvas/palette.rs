//! The colours, the same as the page's.

use tiny_skia::Color;

/// Each as `0x00RRGGBB`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Palette {
    pub(super) ground: u32,
    pub(super) card: u32,
    pub(super) edge: u32,
    pub(super) ink: u32,
    pub(super) soft: u32,
    pub(super) field: u32,
    pub(super) accent: u32,
    pub(super) accent_hover: u32,
    pub(super) accent_pressed: u32,
    pub(super) on_accent: u32,
    pub(super) tint: u32,
    pub(super) second: u32,
}

const LIGHT: Palette = Palette {
    ground: 0xf4f4f8,
    card: 0xffffff,
    edge: 0xe0e0ea,
    ink: 0x1d1d2b,
    soft: 0x626277,
    field: 0xfafafd,
    accent: 0x5457d6,
    accent_hover: 0x4548c4,
    accent_pressed: 0x3b3eb0,
    on_accent: 0xffffff,
    tint: 0x5457d6,
    second: 0x0f9b8e,
};

const DARK: Palette = Palette {
    ground: 0x14141c,
    card: 0x1d1d28,
    edge: 0x2f2f3e,
    ink: 0xededf5,
    soft: 0xa0a0b6,
    field: 0x17171f,
    accent: 0x5f62e6,
    accent_hover: 0x7073f2,
    accent_pressed: 0x5255d0,
    on_accent: 0xffffff,
    tint: 0x9294ff,
    second: 0x35c4b4,
};

impl Palette {
    pub(super) fn new(dark: bool) -> Self {
        if dark { DARK } else { LIGHT }
    }
}

/// Converts `rgb` for the rasteriser.
pub(super) fn color(rgb: u32, alpha: f32) -> Color {
    let [_, red, green, blue] = rgb.to_be_bytes();
    let mut color = Color::from_rgba8(red, green, blue, 255);
    color.set_alpha(alpha);
    color
}
