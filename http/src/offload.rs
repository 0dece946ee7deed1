//! Handlers that block.

use std::{rc::Rc, sync::Arc};

use super::{Bytes, Error, Handler, HeaderMap, IntoResponse, Method, Request, ResponseFuture, Uri};
use entwined::transport::Address;

/// A request with all of its body, for a thread.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BlockingRequest {
    /// The method.
    pub method: Method,
    /// The target.
    pub uri: Uri,
    /// The headers.
    pub headers: HeaderMap,
    /// Who sent it.
    pub peer: Address,
    /// The parameters of the path.
    pub params: Vec<(String, String)>,
    /// The body; see [`Request::bytes`].
    pub body: Bytes,
}

/// A handler whose work is done on a thread of the [reactor's
/// pool](entwined::reactor::Handle::defer_to_thread), as WSGI programs do theirs; its response is sent
/// on the loop. It must be `Send`, and may block. A panic in it is 500, and so is a pool that has
/// no room: 503 then.
///
/// ```
/// use entwined_http::{Router, offload};
///
/// let router = Router::new().post("/sum", offload(|request| {
///     // Something that takes long.
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

/// Marks work on threads.
#[derive(Debug)]
pub struct Offloaded(());

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
            let job = request
                .handle()
                .defer_to_thread(move |_| Ok::<_, Error>(work(asked)));
            match job.await {
                Ok(result) => result.into_response(),
                Err(error) => error.into_response(),
            }
        })
    }
}
