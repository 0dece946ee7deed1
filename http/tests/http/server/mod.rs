//! Tests the HTTP server on the standalone backend, with peers that write their bytes by hand.

mod bodies;
mod compressed;
mod connections;
mod deadlines;
mod ended;
#[cfg(unix)]
mod files;
#[cfg(windows)]
mod files_on_windows;
mod handlers;
mod held_host;
mod http2;
mod layers;
mod monitor;
mod multipart;
mod origins;
mod peers;
mod refusals;
mod replay;
mod results;
mod routing;
mod rules;
mod shutdown;
mod spellings;
mod states;
mod streaming;
mod support;
mod taking;
mod uploads;
mod wire;
