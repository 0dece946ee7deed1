//! A chat: each line goes to everybody who is here.
//!
//! ```text
//! cargo run --example line_chat          and in two other terminals: nc 127.0.0.1 PORT
//! ```

use std::{cell::RefCell, error::Error, rc::Rc};

use entwined::{
    Standalone,
    framing::Lines,
    protocol::{self, Connection, FrameReceiver, Framed, Lost},
    transport::tcp,
};

/// Knows everybody. State is shared without locks, because there is one thread.
struct Guest(Rc<RefCell<Vec<Connection>>>);

impl FrameReceiver<Lines> for Guest {
    fn connection_made(&mut self, connection: &Connection) {
        connection.write(b"welcome\n");
        self.0.borrow_mut().push(connection.clone());
    }

    fn frame_received(&mut self, own: &Connection, _: &mut Lines, line: &[u8]) {
        let name = own.peer_address().to_string();
        for guest in self.0.borrow().iter() {
            guest.write_all(&[name.as_bytes(), b": ", line, b"\n"]);
        }
    }

    fn connection_lost(&mut self, _: &Lost) {
        self.0.borrow_mut().retain(|guest| !guest.is_closing());
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let reactor = Standalone::new()?;
    let listener = tcp::listen(&reactor.handle(), "127.0.0.1:0")?;
    let guests = Rc::default();
    let server = protocol::serve(listener, move |_| {
        // Longer lines end the connection.
        Some(Framed::new(Lines::new(1_024), Guest(Rc::clone(&guests))))
    });
    println!("listening on {}", server.local_address());
    Ok(reactor.run()?)
}
