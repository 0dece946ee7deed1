//! Gives the program's state to handlers.

use crate::{Layer, Next, Request, ResponseFuture};

/// Gives a clone of `value` to each request, for handlers that take [`State<T>`](crate::State). The
/// usual value is an `Rc`; nothing of it need be `Send`.
///
/// Each type has one value: for two of the same type, make a type of your own.
///
/// ```
/// use std::{cell::RefCell, rc::Rc};
/// use entwined_http::{Json, Router, State, layers};
///
/// type Names = Rc<RefCell<Vec<String>>>;
///
/// async fn all(State(names): State<Names>) -> Json<Vec<String>> {
///     Json(names.borrow().clone())
/// }
///
/// async fn add(State(names): State<Names>, name: String) {
///     names.borrow_mut().push(name);
/// }
///
/// let names = Names::default();
/// let router = Router::new().get("/", all).post("/", add).layer(layers::state(names.clone()));
/// ```
pub fn state<T: Clone + 'static>(value: T) -> impl Layer {
    Given(value)
}

struct Given<T>(T);

impl<T: Clone + 'static> Layer for Given<T> {
    fn call(&self, mut request: Request, next: Next) -> ResponseFuture {
        request.insert(self.0.clone());
        next.run(request)
    }
}
