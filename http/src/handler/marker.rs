//! Marker types, which let the compiler tell the kinds of handlers, arguments and results apart.
//!
//! A program does not name them: they are the `M` of [`Handler`](super::Handler),
//! [`FromRequest`](super::FromRequest) and [`IntoAnswer`](super::IntoAnswer). A type of yours that
//! implements [`Handler`](super::Handler) itself uses [`Mounted`].

/// Marks results that are ready at once.
#[derive(Clone, Copy, Debug)]
pub struct Now(());

/// Marks results that come later: futures.
#[derive(Clone, Copy, Debug)]
pub struct Later(());

/// Marks arguments that need the whole request, usually its body.
#[derive(Clone, Copy, Debug)]
pub struct Whole(());

/// Marks arguments that do not need the body.
#[derive(Clone, Copy, Debug)]
pub struct Parts(());

/// Marks handlers that are not functions, such as [`Files`](crate::Files).
#[derive(Clone, Copy, Debug)]
pub struct Mounted(());

/// Marks handlers that run on a thread of the pool: [`offload`](crate::offload).
#[derive(Clone, Copy, Debug)]
pub struct Offloaded(());
