//! A protocol with a time limit, and a test of it that does not wait.
//! ```text
//! cargo test --example simulated_time
//! cargo run --example simulated_time -- 5        and in another terminal: nc 127.0.0.1 PORT
//! ```

use std::{env, error::Error, time::Duration};

use entwined::protocol::{self, Connection, Protocol};
use entwined::{Standalone, transport::tcp};

/// Says goodbye after this time, whatever the peer does.
struct Visit(Duration);

impl Protocol for Visit {
    fn connection_made(&mut self, connection: &Connection) {
        let own = connection.clone();
        connection.handle().call_later(self.0, move || {
            own.write(b"bye\n");
            own.close();
        });
    }

    fn data_received(&mut self, _: &Connection, _: &[u8]) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = env::args().nth(1).ok_or("how many seconds?")?.parse()?;
    let reactor = Standalone::new()?;
    let listener = tcp::listen(&reactor.handle(), "127.0.0.1:0")?;
    let server = protocol::serve(listener, move |_| Some(Visit(Duration::from_secs(seconds))));
    println!("listening on {}", server.local_address());
    Ok(reactor.run()?)
}

#[test]
fn a_visit_takes_an_hour() {
    use entwined::{simulation::Simulation, transport::memory};
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (ours, _theirs) = memory::pair(&handle);
    let visit = protocol::start(&handle, ours, Visit(Duration::from_secs(3_600)));
    simulation.advance(Duration::from_secs(3_599));
    assert!(!visit.is_closing());
    simulation.advance(Duration::from_secs(1));
    assert!(visit.is_closing());
}
