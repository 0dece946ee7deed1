//! Our web server on one of the backends: `entwined-http standalone|untimed|glib|calloop --http
//! ADDR`.

use entwined::transport::tcp;
use entwined_http::{self as http, Files, Json, Request, Router, websocket};
use loops::Host;
use peers::{Outcome, announce, files, records};

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backend, _, address] = &arguments[..] else {
        return Err("standalone, untimed, glib or calloop, and --http ADDR".into());
    };
    let host = match backend.as_str() {
        "standalone" | "untimed" => Host::standalone(),
        "glib" => Host::glib(),
        "calloop" => Host::calloop(),
        other => return Err(format!("no backend {other:?}").into()),
    };
    host.handle.set_timing(backend != "untimed");
    let router = Router::new()
        .get("/hello", || "hello, world")
        .get("/json", || Json(records()))
        .fallback(Files::new(files()?))
        .get("/ws", |request: Request| {
            websocket::upgrade(request, |mut socket| async move {
                while let Some(Ok(message)) = socket.next().await {
                    if socket.send(message).await.is_err() {
                        break;
                    }
                }
            })
        });
    let server = http::serve(tcp::listen(&host.handle, address)?, router);
    announce(server.local_address().tcp().ok_or("TCP")?);
    host.run_until(|| false);
    Ok(())
}
