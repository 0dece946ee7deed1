//! Peers that behave well. Each must be served, whatever the others do.

use std::{future::Future, net::SocketAddr, pin::Pin};

use entwined::{
    rpc::{self, Methods},
    transport::{ByteStream, Stream, tcp},
};
use entwined_http::{
    Version,
    client::Client,
    websocket::{self, Message},
};
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use crate::{Load, Outcome};

/// What a peer does.
type Talk<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// Returns a name and what it does.
pub fn peer(load: &Load) -> (&'static str, Talk<'_>) {
    match load.dice.below(40) {
        0..10 => ("HTTP/1.1", Box::pin(http1(load))),
        10..15 => ("HTTP/2", Box::pin(http2(load))),
        15..18 => ("HTTP/2 over TLS", Box::pin(https(load))),
        18..25 => ("WebSocket", Box::pin(socket(load))),
        25..31 => ("echo", Box::pin(echo(load))),
        31..33 => ("echo over TLS", Box::pin(tls_echo(load))),
        33..37 => ("calls", Box::pin(calls(load))),
        37..39 => ("events", Box::pin(events(load))),
        _ => ("child process", Box::pin(child(load))),
    }
}

async fn connect(load: &Load, address: SocketAddr) -> Outcome<Stream> {
    Ok(tcp::connect(&load.handle, address).await?)
}

/// Several requests, one after the other.
async fn ask(load: &Load, client: Client, base: String, version: Version) -> Outcome {
    for _ in 0..=load.dice.below(10) {
        let mut response = client.get(&format!("{base}/hello")).send().await?;
        same(&response.version(), &version, "the version")?;
        same(&response.text().await?, "hello, world", "the text")?;
    }
    let body = load.dice.bytes(1 + load.dice.below(20_000));
    let url = format!("{base}/echo");
    let mut response = client.post(&url).body(body.clone()).send().await?;
    same(&response.bytes().await?[..], &body[..], "the echo")?;
    if load.dice.chance(20) {
        let mut response = client.get(&format!("{base}/large")).send().await?;
        let mut length = 0;
        while let Some(piece) = response.chunk().await? {
            length += piece.len();
        }
        same(&length, &(4 * 1024 * 1024), "the length")?;
    }
    Ok(())
}

async fn http1(load: &Load) -> Outcome {
    let base = format!("http://{}", load.addresses.http);
    let client = Client::new(&load.handle);
    ask(load, client, base, Version::HTTP_11).await
}

async fn http2(load: &Load) -> Outcome {
    let base = format!("http://{}", load.addresses.http);
    let client = Client::builder(&load.handle).http2_prior_knowledge();
    ask(load, client.build(), base, Version::HTTP_2).await
}

async fn https(load: &Load) -> Outcome {
    let base = format!("https://localhost:{}", load.addresses.https.port());
    let client = Client::builder(&load.handle).roots(load.roots.clone());
    ask(load, client.build(), base, Version::HTTP_2).await
}

async fn child(load: &Load) -> Outcome {
    let url = format!("http://{}/child", load.addresses.http);
    let mut response = Client::new(&load.handle).get(&url).send().await?;
    same(&response.text().await?, "child\n", "the child's text")
}

async fn events(load: &Load) -> Outcome {
    let url = format!("http://{}/events", load.addresses.http);
    let mut response = Client::new(&load.handle).get(&url).send().await?;
    for _ in 0..=load.dice.below(30) {
        response.chunk().await?.ok_or("the events ended")?;
    }
    Ok(())
}

async fn socket(load: &Load) -> Outcome {
    let url = format!("ws://{}/socket", load.addresses.http);
    let mut socket = websocket::connect(&load.handle, &url).await?;
    for _ in 0..=load.dice.below(20) {
        let message = Message::from(load.dice.bytes(load.dice.below(5_000)));
        socket.send(message.clone()).await?;
        let echo = socket.next().await.ok_or("the WebSocket ended")??;
        same(&echo, &message, "the message")?;
    }
    Ok(socket.close(1000, "").await?)
}

async fn echo(load: &Load) -> Outcome {
    let stream = connect(load, load.addresses.echo).await?;
    echoes(load, stream).await
}

async fn tls_echo(load: &Load) -> Outcome {
    let stream = connect(load, load.addresses.tls_echo).await?;
    echoes(load, load.connector.connect(stream, "localhost")?).await
}

async fn echoes(load: &Load, mut stream: impl ByteStream) -> Outcome {
    for _ in 0..=load.dice.below(10) {
        // It fits into the buffers in between.
        let sent = load.dice.bytes(1 + load.dice.below(10_000));
        stream.write_all(&sent).await?;
        stream.flush().await?;
        let mut received = vec![0; sent.len()];
        stream.read_exact(&mut received).await?;
        same(&received, &sent, "the echo")?;
    }
    stream.close().await?;
    let rest = stream.read(&mut [0]).await?;
    same(&rest, &0, "what follows the end")
}

async fn calls(load: &Load) -> Outcome {
    let stream = connect(load, load.addresses.rpc).await?;
    let peer = Closing(rpc::start(&load.handle, stream, Methods::new()));
    let peer = &peer.0;
    for number in 0..=load.dice.below(20) as u64 {
        let sum: u64 = peer.call("add", &(number, 2_u64)).await?;
        same(&sum, &(number + 2), "the sum")?;
    }
    let mut items = peer.stream::<(u32, Vec<u8>)>("count", &());
    let mut expected = 0;
    while let Some(item) = items.next().await {
        same(&item?.0, &expected, "the item")?;
        expected += 1;
        if load.dice.chance(200) {
            break;
        }
    }
    drop(items);
    Ok(peer.finish().await?)
}

/// Closes the connection when it is dropped: by itself it outlives its [`rpc::Peer`], because the
/// other side may make calls.
struct Closing(rpc::Peer);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn same<T: PartialEq<U> + ?Sized, U: ?Sized>(found: &T, expected: &U, what: &str) -> Outcome {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what} is wrong").into())
    }
}
