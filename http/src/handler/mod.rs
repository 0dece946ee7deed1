//! Handlers: functions that answer requests, and the traits behind them.

pub mod marker;

use std::{future::Future, rc::Rc};

use self::marker::{Later, Now, Parts, Whole};
use super::{IntoResponse, Request, Response, ResponseFuture};

/// Answers requests. This trait is implemented for functions, so you need not implement it:
///
/// - of up to eight arguments. Each is something that can be [taken from a request](FromParts). The
///   last one may also be the [request itself](FromRequest) or its body;
/// - that return something that [can become a response](IntoResponse), or a future of it: an async
///   function, a [`Deferred`](entwined::deferred::Deferred).
///
/// ```
/// use entwined_http::{Error, Json, Path, Query, Request, Router};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Page { number: u32 }
///
/// let router = Router::new()
///     .get("/", || "a value")
///     .get("/later", || async { "a future" })
///     .get("/books/{id}", |Path(id): Path<u32>, Query(page): Query<Page>| {
///         format!("page {} of {id}", page.number)
///     })
///     .post("/sum", |Json(numbers): Json<Vec<i64>>| Json(numbers.into_iter().sum::<i64>()))
///     .put("/all", |mut request: Request| async move {
///         let bytes = request.bytes().await?;
///         Ok::<_, Error>(format!("{} bytes from {}", bytes.len(), request.peer_address()))
///     });
/// ```
///
/// If an argument cannot be taken from a request, the function is not called, and the response says
/// what is wrong (usually a 4xx status). `M` lets the compiler tell the kinds of functions apart.
#[diagnostic::on_unimplemented(
    message = "this function cannot answer requests",
    note = "each argument must be `FromParts`, the last may be `FromRequest`; \
            the result must be `IntoResponse`, or a future of that"
)]
pub trait Handler<M>: 'static {
    /// Starts to answer a request, in a callback of the reactor. A panic becomes a 500.
    fn call(this: &Rc<Self>, request: Request) -> ResponseFuture;
}

/// A type-erased handler.
pub(super) type AnyHandler = Rc<dyn Fn(Request) -> ResponseFuture>;

pub(super) fn erased<H: Handler<M>, M>(handler: H) -> AnyHandler {
    let handler = Rc::new(handler);
    Rc::new(move |request| H::call(&handler, request))
}

/// A value from a request, without its body: an argument of a [`Handler`].
pub trait FromParts: Sized {
    /// Takes the value.
    ///
    /// # Errors
    /// The response for a request that has no such value.
    // A response is large, but rare here.
    #[expect(clippy::result_large_err)]
    fn from_parts(request: &mut Request) -> Result<Self, Response>;
}

/// A request, or a value made from a whole request: the last argument of a [`Handler`]. Every
/// [`FromParts`] type also implements this trait.
///
/// `M` lets the compiler tell the kinds of types apart.
pub trait FromRequest<M = Whole>: Sized {
    /// Takes the value.
    ///
    /// # Errors
    /// The response for a request from which the value cannot be made.
    fn from_request(request: Request) -> impl Future<Output = Result<Self, Response>> + 'static;
}

impl<T: FromParts + 'static> FromRequest<Parts> for T {
    fn from_request(
        mut request: Request,
    ) -> impl Future<Output = Result<Self, Response>> + 'static {
        std::future::ready(T::from_parts(&mut request))
    }
}

impl FromRequest for Request {
    fn from_request(request: Request) -> impl Future<Output = Result<Self, Response>> + 'static {
        std::future::ready(Ok(request))
    }
}

/// What a handler may return: a response, or a future of one. `M` lets the compiler tell these
/// apart.
pub trait IntoAnswer<M> {
    /// Returns the future of the response.
    fn into_answer(self) -> ResponseFuture;
}

impl<R: IntoResponse> IntoAnswer<Now> for R {
    fn into_answer(self) -> ResponseFuture {
        ResponseFuture::ready(self)
    }
}

impl<F> IntoAnswer<Later> for F
where
    F: Future + 'static,
    F::Output: IntoResponse,
{
    fn into_answer(self) -> ResponseFuture {
        ResponseFuture::new(async { self.await.into_response() })
    }
}

impl<F, R, K> Handler<(K,)> for F
where
    F: Fn() -> R + 'static,
    R: IntoAnswer<K> + 'static,
{
    fn call(this: &Rc<Self>, _: Request) -> ResponseFuture {
        this().into_answer()
    }
}

macro_rules! handlers {
    ($($part:ident)*) => {
        impl<F, R, K, M, $($part,)* Last> Handler<(K, M, $($part,)* Last)> for F
        where
            F: Fn($($part,)* Last) -> R + 'static,
            R: IntoAnswer<K> + 'static,
            $($part: FromParts + 'static,)*
            Last: FromRequest<M> + 'static,
        {
            #[allow(non_snake_case, unused_mut)]
            fn call(this: &Rc<Self>, mut request: Request) -> ResponseFuture {
                $(
                    let $part = match $part::from_parts(&mut request) {
                        Ok(part) => part,
                        Err(response) => return ResponseFuture::ready(response),
                    };
                )*
                let handler = this.clone();
                ResponseFuture::new(async move {
                    match Last::from_request(request).await {
                        Ok(last) => handler($($part,)* last).into_answer().await,
                        Err(response) => response,
                    }
                })
            }
        }
    };
}

handlers! {}
handlers! { A }
handlers! { A B }
handlers! { A B C }
handlers! { A B C D }
handlers! { A B C D E }
handlers! { A B C D E G }
handlers! { A B C D E G H }
