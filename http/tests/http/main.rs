//! The tests of the HTTP server and client, in one program. Peers write their bytes by hand, or are
//! other programs.

mod client;
mod gate;
mod https;
mod metrics;
mod run;
mod server;
mod sys;
mod tower;
mod websocket;
