//! Entwined on calloop.
