//! A server on one thread.
use entwined::{
    Standalone,
    http::{self, Router},
    transport::tcp,
};
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addr = std::env::args().nth(2).unwrap_or("127.0.0.1:0".into());
    let reactor = Standalone::new()?;
    let handle = reactor.handle();
    let router = Router::new().get("/hello", |_| async { "hello, world" }).get("/panic", |_| async {
        if true {
            panic!("no")
        }
        ""
    });
    let server = http::serve(tcp::listen(&handle, addr.parse()?)?, router);
    println!("http listening on {}", server.local_address());
    reactor.run()?;
    Ok(())
}
