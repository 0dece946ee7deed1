//! The window and the pixels that it shows.

use std::fmt;
use std::num::NonZeroU32;
use std::rc::Rc;

use site::Pixels;
use site::canvas::{Canvas, Scene};
use softbuffer::{Context, SoftBufferError, Surface};
use winit::dpi::LogicalSize;
use winit::error::OsError;
use winit::event_loop::{ActiveEventLoop, OwnedDisplayHandle};
use winit::window::Window;

const SIZE: LogicalSize<u32> = LogicalSize::new(640, 400);
const LEAST: LogicalSize<u32> = LogicalSize::new(480, 330);

/// A window with a buffer in memory that the display server shows.
pub(crate) struct Screen {
    surface: Surface<OwnedDisplayHandle, Rc<Window>>,
    window: Rc<Window>,
    canvas: Canvas,
}

/// Why there is no window, or why it shows nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum ScreenError {
    /// The system could not create a window.
    Window(OsError),
    /// The window does not accept pixels.
    Pixels(SoftBufferError),
}

impl Screen {
    pub(crate) fn open(event_loop: &ActiveEventLoop) -> Result<Self, ScreenError> {
        let attributes = Window::default_attributes()
            .with_title("Entwined")
            .with_inner_size(SIZE)
            .with_min_inner_size(LEAST);
        let window = Rc::new(event_loop.create_window(attributes)?);
        let context = Context::new(event_loop.owned_display_handle())?;
        let surface = Surface::new(&context, Rc::clone(&window))?;
        Ok(Self {
            surface,
            window,
            canvas: Canvas::new(),
        })
    }

    pub(crate) fn window(&self) -> &Rc<Window> {
        &self.window
    }

    pub(crate) fn size(&self) -> (u32, u32) {
        self.window.inner_size().into()
    }

    /// Draws a frame and commits it to the display server, after calling `before`. A window without
    /// an area shows no frame.
    pub(crate) fn show(
        &mut self,
        scene: &Scene<'_>,
        before: impl FnOnce(),
    ) -> Result<(), ScreenError> {
        let size = self.size();
        let (Some(width), Some(height)) = (NonZeroU32::new(size.0), NonZeroU32::new(size.1)) else {
            return Ok(());
        };
        self.surface.resize(width, height)?;
        let mut pixels = self.surface.buffer_mut()?;
        self.canvas
            .draw(scene, size, self.window.scale_factor(), &mut pixels);
        self.window.pre_present_notify();
        before();
        pixels.present()?;
        Ok(())
    }

    /// Returns the window's contents, drawn again rather than read from the screen.
    pub(crate) fn picture(&mut self, scene: &Scene<'_>) -> Pixels {
        let size @ (width, height) = self.size();
        let mut pixels = vec![0; width as usize * height as usize];
        self.canvas
            .draw(scene, size, self.window.scale_factor(), &mut pixels);
        let rgba = pixels
            .iter()
            .flat_map(|pixel| ((pixel << 8) | 0xff).to_be_bytes())
            .collect();
        Pixels {
            width,
            height,
            rgba,
        }
    }
}

impl fmt::Display for ScreenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Window(error) => write!(f, "the system could not create a window ({error})"),
            Self::Pixels(error) => write!(f, "the window does not accept pixels ({error})"),
        }
    }
}

impl std::error::Error for ScreenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Window(error) => Some(error),
            Self::Pixels(error) => Some(error),
        }
    }
}

impl From<OsError> for ScreenError {
    fn from(error: OsError) -> Self {
        Self::Window(error)
    }
}

impl From<SoftBufferError> for ScreenError {
    fn from(error: SoftBufferError) -> Self {
        Self::Pixels(error)
    }
}
