//! Downloads a file, and shows how much of it has come.
//!
//! ```text
//! cargo run -p entwined-http --features client,tls --example download -- URL FILE
//! ```

use std::{env, error::Error, fs::File, io::Write, time::Duration};

use entwined::{Handle, Standalone};
use entwined_http::client::Client;

async fn download(handle: Handle, url: String, path: String) -> Result<(), Box<dyn Error>> {
    let client = Client::new(&handle);
    let request = client.get(&url).timeout(Duration::from_secs(3_600));
    let mut response = request.send().await?.error_for_status()?;
    let size: Option<usize> = response
        .header("content-length")
        .and_then(|it| it.parse().ok());
    let mut file = File::create(&path)?;
    let mut received = 0;
    while let Some(piece) = response.chunk().await? {
        received += piece.len();
        // A disk may be slow, so it is written to on a thread. No more is read meanwhile.
        let writing = handle.defer_to_thread(move |_| {
            file.write_all(&piece)?;
            Ok::<_, std::io::Error>(file)
        });
        file = writing.await?;
        match size {
            // In a window, this line would set a progress bar.
            Some(size) => println!("{} %", received * 100 / size.max(1)),
            None => println!("{received} bytes"),
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(url), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err("arguments: URL FILE".into());
    };
    let reactor = Standalone::new()?;
    reactor.block_on(download(reactor.handle(), url, path))
}
