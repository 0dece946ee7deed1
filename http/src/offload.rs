//! Handlers that block.

use std::{fmt, rc::Rc, sync::Arc};

use super::{
    Bytes, Error, Handler, HeaderMap, IntoResponse, Method, Request, ResponseFuture, Uri,
    handler::marker::Offloaded, held::Held,
};
use entwined::transport::Address;

/// A request with its whole body, which can be sent to a thread.
#[derive(Clone)]
#[non_exhaustive]
pub struct BlockingRequest {
    /// The method.
    pub method: Method,
    /// The target.
    pub uri: Uri,
    /// The headers.
    pub headers: HeaderMap,
    /// The address of the peer.
    pub peer: Address,
    /// The parameters of the path.
    pub params: Vec<(String, String)>,
    /// The body; see [`Request::bytes`].
    pub body: Bytes,
}

/// Without the query and the body, which may have secrets in them.
impl fmt::Debug for BlockingRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingRequest")
            .field("method", &self.method)
            .field("path", &self.uri.path())
            .field("headers", &self.headers)
            .field("peer", &self.peer)
            .field("body", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Makes a handler that runs on a thread of the [reactor's
/// pool](entwined::reactor::Handle::defer_to_thread), as WSGI programs do; the loop sends its
/// response. `work` must be `Send` and `Sync`, and may block. If it panics the response is 500; if
/// the pool has no room, or more than 128 MiB of bodies wait for it, it is 503.
///
/// ```
/// use entwined_http::{Router, offload};
///
/// let router = Router::new().post("/sum", offload(|request| {
///     // Something slow.
///     request.body.iter().map(|byte| u64::from(*byte)).sum::<u64>().to_string()
/// }));
/// ```
pub fn offload<F, R>(work: F) -> impl Handler<Offloaded>
where
    F: Fn(BlockingRequest) -> R + Send + Sync + 'static,
    R: IntoResponse + Send + 'static,
{
    Offload(Arc::new(work))
}

struct Offload<F>(Arc<F>);

impl<F, R> Handler<Offloaded> for Offload<F>
where
    F: Fn(BlockingRequest) -> R + Send + Sync + 'static,
    R: IntoResponse + Send + 'static,
{
    fn call(this: &Rc<Self>, mut request: Request) -> ResponseFuture {
        let work = this.0.clone();
        ResponseFuture::new(async move {
            let body = match request.bytes().await {
                Ok(body) => body,
                Err(error) => return error.into_response(),
            };
            let asked = BlockingRequest {
                method: request.method().clone(),
                uri: request.uri().clone(),
                headers: request.headers().clone(),
                peer: request.peer_address().clone(),
                params: request.params().to_vec(),
                body,
            };
            let held = match Held::new(asked.body.len()) {
                Ok(held) => held,
                Err(error) => return error.into_response(),
            };
            let job = request.handle().defer_to_thread(move |_| {
                let _held = held;
                Ok::<_, Error>(work(asked))
            });
            match job.await {
                Ok(result) => result.into_response(),
                Err(error) => error.into_response(),
            }
        })
    }
}
