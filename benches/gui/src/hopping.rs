//! hyper on a tokio thread, which sends each request to the window's thread: what people write
//! without Entwined.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, thread};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    sync::oneshot,
    task::{LocalSet, spawn_local},
};

/// Sent to the window's thread for each request, and answered when the label is set.
pub type Told = oneshot::Sender<()>;

/// Sends a message to the window's thread.
pub type Said = Arc<dyn Fn(Told) + Send + Sync>;

/// Serves on a new thread until the process ends, and prints the address. `waits` says whether a
/// response waits for the label.
///
/// # Panics
/// Panics if no thread can be started, or if the port is taken.
pub fn serve(address: SocketAddr, waits: bool, say: Said) {
    let thread = thread::Builder::new().name("tokio".into());
    thread
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            LocalSet::new().block_on(&runtime, async move {
                let listener = TcpListener::bind(address).await.expect("a free port");
                println!(
                    "http listening on {}",
                    listener.local_addr().expect("an address")
                );
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    let say = say.clone();
                    spawn_local(async move {
                        let service = service_fn(move |_: hyper::Request<Incoming>| {
                            let (tell, told) = oneshot::channel();
                            say(tell);
                            async move {
                                if waits {
                                    let _ = told.await;
                                }
                                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(
                                    b"hello, world",
                                ))))
                            }
                        });
                        let _ = http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                    });
                }
            });
        })
        .expect("a thread");
}
