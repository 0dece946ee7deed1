//! Servers that violate HTTP or attack the client.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener},
    thread,
    time::Duration,
};

use entwined_http::client::{Client, ClientError};
use flate2::{Compression, write::GzEncoder};

use crate::run::run;

/// Answers each request with the next of `answers`, on a connection of its own, and then closes it.
fn say(answers: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for answer in answers {
            let (mut client, _) = listener.accept().expect("a client");
            let mut reader = BufReader::new(client.try_clone().expect("a copy"));
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                if reader.read_line(&mut line).expect("a line") == 0 {
                    break;
                }
            }
            // The client may already have closed the connection.
            let _ = client.write_all(&answer);
        }
    });
    format!("http://{address}/")
}

#[test]
fn answers_that_are_cut_off_or_no_http_are_errors() {
    let endless = [b"HTTP/1.1 200 OK\r\na: ".to_vec(), vec![b'a'; 4_000_000]].concat();
    let many = [b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".repeat(100_000)].concat();
    let heads = [
        b"".to_vec(),
        b"HTTP/1.1 200".to_vec(),
        b"nonsense\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nab".to_vec(),
        endless,
        many,
    ];
    let bodies = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\nabc\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc".to_vec(),
    ];
    let (first, second) = (heads.len(), bodies.len());
    let url = say(heads.into_iter().chain(bodies).collect());
    run(|handle| async move {
        let client = Client::new(&handle);
        for number in 0..first {
            let error = client
                .get(&url)
                .send()
                .await
                .map(|_| number)
                .expect_err("no response");
            assert!(matches!(error, ClientError::Http(_)), "{number}: {error}");
        }
        for number in 0..second {
            let mut response = client.get(&url).send().await.expect("a head");
            let error = response.bytes().await.map(|_| number).expect_err("no body");
            assert!(
                matches!(error, ClientError::Http(_) | ClientError::Decode(_)),
                "{number}: {error}"
            );
        }
        while client.connections() > 0 {
            handle.sleep(Duration::from_millis(1)).await;
        }
    });
}

/// 200 MB of zeros arrive as 200 KB.
#[test]
fn a_body_that_was_made_small_to_do_harm_stops_at_the_limit() {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..200 {
        packed.write_all(&vec![0; 1_000_000]).expect("in memory");
    }
    let packed = packed.finish().expect("in memory");
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        packed.len()
    );
    let answer = [head.into_bytes(), packed].concat();
    let url = say(vec![answer.clone(), answer]);
    run(|handle| async move {
        let client = Client::new(&handle);
        let mut response = client.get(&url).send().await.expect("a head");
        let error = response.bytes_up_to(1_000_000).await.expect_err("too much");
        assert!(matches!(error, ClientError::TooLarge(1_000_000)), "{error}");
        let (mut response, mut all) = (client.get(&url).send().await.expect("a head"), 0);
        while let Some(piece) = response.chunk().await.expect("a piece") {
            assert!(piece.len() <= 64 * 1024, "{} bytes at once", piece.len());
            all += piece.len();
        }
        assert_eq!(all, 200_000_000);
    });
}
