//! Contains only the README and the guide, so that their programs are compiled with the tests.
#![doc = include_str!("../../../README.md")]

macro_rules! pages {
    ($($name:ident: $file:literal)*) => {
        $(#[doc = include_str!(concat!("../../../docs/guide/", $file))] pub mod $name {})*
    };
}

pages! {
    http_readme: "../../http/README.md"
    first_window: "first-window.md"
    whole_program: "whole-program.md"
    styles: "styles.md"
    handlers: "handlers.md"
    long_work: "long-work.md"
    protocols: "protocols.md"
    safe_server: "safe-server.md"
    cores: "cores.md"
    nginx: "nginx.md"
    processes: "processes.md"
    stalls: "stalls.md"
    from_tokio: "from-tokio.md"
    from_gio: "from-gio.md"
}
