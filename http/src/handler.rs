//! What answers requests: functions of what they need to know.

use std::{future::Future, rc::Rc};

use super::{IntoResponse, Request, Response, ResponseFuture};

/// Answers requests. It is implemented for functions, so that nobody need implement it:
///
/// - of up to eight arguments, each something that is taken [out of a request](FromParts), the last
///   one possibly the [request itself](FromRequest) or its body;
/// - that give something that [can be a response](IntoResponse), or a future of that: an async
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
///     .get("/books/{id}", |Path(id): Path<u32>, Query(page): Query<Page>| format!("page {} of {id}", page.number))
///     .post("/sum", |Json(numbers): Json<Vec<i64>>| Json(numbers.into_iter().sum::<i64>()))
///     .put("/all", |mut request: Request| async move {
///         let bytes = request.bytes().await?;
///         Ok::<_, Error>(format!("{} bytes from {}", bytes.len(), request.peer_address()))
///     });
/// ```
///
/// What cannot be taken out of a request is answered without calling the function, by a status of
/// 4xx that says what is wrong. `M` is for the compiler, which tells the kinds of functions apart
/// by it.
#[diagnostic::on_unimplemented(
    message = "this function cannot answer requests",
    note = "each argument must be `FromParts`, the last may be `FromRequest`; the result must be `IntoResponse`, or a future of that"
)]
pub trait Handler<M>: 'static {
    /// Begins to answer a request.
    fn call(this: &Rc<Self>, request: Request) -> ResponseFuture;
}

/// A handler whose kind is forgotten.
pub(super) type AnyHandler = Rc<dyn Fn(Request) -> ResponseFuture>;

pub(super) fn erased<H: Handler<M>, M>(handler: H) -> AnyHandler {
    let handler = Rc::new(handler);
    Rc::new(move |request| H::call(&handler, request))
}

/// Something that is in a request besides its body: an argument of a [`Handler`].
pub trait FromParts: Sized {
    /// Takes it.
    ///
    /// # Errors
    /// The answer for a request that has no such thing.
    // A response is large, and here it is rare.
    #[expect(clippy::result_large_err)]
    fn from_parts(request: &mut Request) -> Result<Self, Response>;
}

/// A request, or what is made of one: the last argument of a [`Handler`]. Whatever is [`FromParts`]
/// is this too.
///
/// `M` is for the compiler.
pub trait FromRequest<M = Whole>: Sized {
    /// Takes it.
    ///
    /// # Errors
    /// The answer for a request of which none can be made.
    fn from_request(request: Request) -> impl Future<Output = Result<Self, Response>> + 'static;
}

/// Marks what needs a request as a whole.
#[derive(Debug)]
pub struct Whole(());

/// Marks what needs only what comes before the body.
#[derive(Debug)]
pub struct Parts(());

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

/// Marks handlers that are no functions.
#[derive(Debug)]
pub struct Mounted(());

/// What a handler may give: a response, or a future of one. `M` is for the compiler.
pub trait IntoAnswer<M> {
    /// The response, when it is there.
    fn into_answer(self) -> ResponseFuture;
}

/// Marks results that are there at once.
#[derive(Debug)]
pub struct Now(());

/// Marks results that come later.
#[derive(Debug)]
pub struct Later(());

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
