//! Both servers support enough HTTP for the benchmark, and their answers have the same length.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const BARE: &str = env!("CARGO_BIN_EXE_bare-mio-http");
const HYPER: &str = env!("CARGO_BIN_EXE_hyper-tokio-http");
const REQUEST: &[u8] = b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n";

type Outcome = Result<(), Box<dyn Error>>;

/// A server process; it ends with the test.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(program: &str) -> Result<Self, Box<dyn Error>> {
        let mut process = Command::new(program)
            .args(["--http", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line)?;
        let address = line
            .trim_end()
            .strip_prefix("http listening on ")
            .ok_or_else(|| format!("unexpected first line {line:?}"))?
            .to_owned();
        Ok(Self { process, address })
    }

    fn connect(&self) -> Result<TcpStream, Box<dyn Error>> {
        let stream = TcpStream::connect(&self.address)?;
        // Only a failing test waits this long.
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads one response: its head as text, and the bytes of its body.
fn response(stream: &mut impl BufRead) -> Result<(String, Vec<u8>), Box<dyn Error>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Err(format!("the stream ended after {head:?}").into());
        }
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .ok_or("no content-length")?;
    let mut body = vec![0; length.parse()?];
    stream.read_exact(&mut body)?;
    Ok((head, body))
}

fn assert_hello((head, body): (String, Vec<u8>)) -> usize {
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("content-type: text/plain; charset=utf-8\r\n"),
        "{head}"
    );
    assert!(head.contains("date: "), "{head}");
    assert_eq!(body, b"hello, world");
    head.len() + body.len()
}

#[test]
fn both_answer_in_the_same_number_of_bytes() -> Outcome {
    let mut lengths = Vec::new();
    for program in [BARE, HYPER] {
        let server = Server::start(program)?;
        let mut stream = BufReader::new(server.connect()?);
        stream.get_mut().write_all(REQUEST)?;
        lengths.push(assert_hello(response(&mut stream)?));
    }
    assert_eq!(lengths[0], lengths[1]);
    Ok(())
}

#[test]
fn pipelined_requests_get_one_answer_each() -> Outcome {
    for program in [BARE, HYPER] {
        let server = Server::start(program)?;
        let mut stream = BufReader::new(server.connect()?);
        stream.get_mut().write_all(&REQUEST.repeat(250))?;
        for _ in 0..250 {
            assert_hello(response(&mut stream)?);
        }
    }
    Ok(())
}

#[test]
fn a_request_may_come_byte_by_byte() -> Outcome {
    for program in [BARE, HYPER] {
        let server = Server::start(program)?;
        let mut stream = BufReader::new(server.connect()?);
        stream.get_mut().set_nodelay(true)?;
        for _ in 0..2 {
            for byte in REQUEST.chunks(1) {
                stream.get_mut().write_all(byte)?;
            }
            assert_hello(response(&mut stream)?);
        }
    }
    Ok(())
}

#[test]
fn a_peer_that_sends_faster_than_it_reads_gets_everything() -> Outcome {
    // More responses than the sockets' buffers hold, so that the server must stop in the middle of
    // one.
    const REQUESTS: usize = 100_000;
    for program in [BARE, HYPER] {
        let server = Server::start(program)?;
        let stream = server.connect()?;
        let mut writer = stream.try_clone()?;
        let sender = std::thread::spawn(move || writer.write_all(&REQUEST.repeat(REQUESTS)));
        let mut stream = BufReader::new(stream);
        for _ in 0..REQUESTS {
            assert_hello(response(&mut stream)?);
        }
        sender.join().expect("the sender does not panic")?;
    }
    Ok(())
}

#[test]
fn the_floor_closes_on_a_request_without_an_end() -> Outcome {
    let server = Server::start(BARE)?;
    let mut stream = server.connect()?;
    stream.write_all(&[b'a'; 4096])?;
    assert_eq!(stream.read(&mut [0; 1])?, 0);
    Ok(())
}

#[test]
fn the_floor_answers_what_came_before_the_end_of_the_stream() -> Outcome {
    let server = Server::start(BARE)?;
    let mut stream = server.connect()?;
    stream.write_all(REQUEST)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    assert!(answer.ends_with(b"hello, world"));
    Ok(())
}
