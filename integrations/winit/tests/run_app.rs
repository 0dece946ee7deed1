//! The reactor inside winit's own loop.

mod common;

use std::process::ExitCode;

use entwined_winit::UserEvent;
use winit::event_loop::EventLoop;

fn main() -> ExitCode {
    common::main("run_app", &mut |network, app| {
        let event_loop = EventLoop::<UserEvent>::with_user_event()
            .build()
            .expect("a display; set DISPLAY, for example to that of an Xvfb");
        let mut hosted = network.host(&event_loop, app).expect("a thread");
        event_loop
            .run_app(&mut hosted)
            .expect("a run without errors");
    })
}
