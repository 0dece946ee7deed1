//! The echo protocol (RFC 862): sends back what it receives, as fast as the peer reads it.
//!
//! ```text
//! cargo run --example echo               and in another terminal: nc 127.0.0.1 PORT
//! ```

use std::error::Error;

use entwined::{
    Standalone,
    protocol::{self, Connection, Flow, Protocol},
    transport::tcp,
};

/// One for each connection.
struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, connection: &Connection, data: &[u8]) {
        // What the peer does not take is queued. It gets no more than it reads.
        if connection.write(data) == Flow::Full {
            connection.pause_reading();
        }
    }

    fn resume_writing(&mut self, connection: &Connection) {
        connection.resume_reading();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let reactor = Standalone::new()?;
    let listener = tcp::listen(&reactor.handle(), "127.0.0.1:0")?;
    let server = protocol::serve(listener, |_| Some(Echo));
    println!("listening on {}", server.local_address());
    Ok(reactor.run()?)
}
