//! Opens connections, makes one request on each, and holds them until its standard input ends:
//! `hold ADDRESS COUNT [PATH]`, where `/ws` asks for a WebSocket.

use std::io::{Read, Write};
use std::net::TcpStream;

use peers::Outcome;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, count, path] = &arguments[..] else {
        return Err("ADDRESS COUNT PATH".into());
    };
    let upgrade = if path == "/ws" {
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    } else {
        ""
    };
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{upgrade}\r\n");
    let mut connections = Vec::new();
    for _ in 0..count.parse()? {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(request.as_bytes())?;
        let mut answer = [0; 1024];
        let read = stream.read(&mut answer)?;
        if !answer[..read].starts_with(if upgrade.is_empty() {
            b"HTTP/1.1 200"
        } else {
            b"HTTP/1.1 101"
        }) {
            return Err(format!("it answers {}", String::from_utf8_lossy(&answer[..read])).into());
        }
        connections.push(stream);
    }
    println!("holding {}", connections.len());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
