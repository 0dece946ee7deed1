//! Entwined on the GLib main loop.
