//! Pumps winit's events inside the reactor's loop.

mod common;

use std::process::ExitCode;

use winit::event_loop::EventLoop;

fn main() -> ExitCode {
    common::main("pump", &mut |network, app| {
        let event_loop =
            EventLoop::new().expect("a display; set DISPLAY, for example to that of an Xvfb");
        network.run(event_loop, app).expect("a run without errors");
    })
}
