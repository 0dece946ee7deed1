//! Entwined in a GTK 4 application.
