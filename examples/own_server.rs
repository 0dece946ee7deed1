//! A server of one's own on the server kit: each line is answered in capitals. It has a limit of
//! connections, says when it has closed, and reports stalls under a name of its own.
//!
//! ```text
//! cargo run --example own_server        and in another terminal: nc 127.0.0.1 7000
//! ```

use std::{error::Error, future::poll_fn, io, pin::Pin, time::Duration};

use entwined::{
    Handle, Standalone,
    reactor::{Label, Origin},
    server::Acceptor,
    signal::{Signal, Signals},
    transport::{AsyncRead, AsyncWrite, ByteStream, Listen, tcp},
};

/// Longer lines end the connection.
const MAX_LINE: usize = 4096;

fn serve(handle: &Handle, listener: impl Listen) -> Acceptor {
    let (connection, answer) = (Label::new("capitals"), Label::new("capitals answer"));
    let (connection, answer) = (Origin::here(connection), Origin::here(answer));
    let handle = handle.clone();
    Acceptor::new(listener, connection, move |stream, permit| {
        let own = handle.clone();
        handle.spawn_detached(connection, async move {
            // The connection counts until the permit is dropped.
            let _permit = permit;
            if let Err(error) = talk(&own, stream, answer).await {
                eprintln!("a connection failed: {error}");
            }
        });
    })
}

async fn talk(handle: &Handle, mut stream: Box<dyn ByteStream>, answer: Origin) -> io::Result<()> {
    let (mut line, mut piece) = (Vec::new(), [0; MAX_LINE]);
    loop {
        match poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut piece)).await? {
            0 => return Ok(()),
            count => line.extend_from_slice(&piece[..count]),
        }
        while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            let asked: Vec<u8> = line.drain(..=end).collect();
            // Timed by itself; a panic in it is reported and ends nothing else.
            let said = handle.measure(answer, || asked.to_ascii_uppercase());
            let mut rest = &said.unwrap_or_default()[..];
            while !rest.is_empty() {
                let sent = poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, rest)).await?;
                rest = &rest[sent..];
            }
        }
        if line.len() > MAX_LINE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the line is too long",
            ));
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let reactor = Standalone::new()?;
    let handle = reactor.handle();
    handle.observe(|report| println!("{report}")).keep();
    handle.set_stall_threshold(Duration::from_millis(4));
    let server = serve(&handle, tcp::listen(&handle, "127.0.0.1:7000")?);
    server.set_max_connections(2);
    println!("listening on {}", server.local_address());
    reactor.block_on(async move {
        Signals::new(&handle, Signal::INT)?.next().await?;
        server.stop();
        println!("{} connections to go", server.connections());
        server.closed().await?;
        Ok(())
    })
}
