//! Entwined in a winit application.
