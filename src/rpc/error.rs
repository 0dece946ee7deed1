//! Why a call has no result, and the error of a method.

use std::{error::Error, fmt};

use super::message::{Code, EncodeError, Refusal};
use crate::deferred::Interrupted;

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// The peer has no such method. The text lists its methods with similar names.
    NoSuchMethod(String),
    /// The peer cannot decode the arguments as the type that its method takes.
    WrongArguments(String),
    /// The peer is already answering its maximum number of calls.
    TooMany,
    /// Too many of our own calls wait for their answers, and this one was not sent: see
    /// [`Config::max_waiting`](super::Config::max_waiting).
    TooManyWaiting,
    /// The method returned an error.
    Failed(String),
    /// The method panicked.
    Panicked,
    /// The arguments or the result are longer than a frame may be.
    TooLong(String),
    /// serde cannot serialize the arguments or the result.
    NotSerializable(String),
    /// The result is not of the expected type.
    WrongResult(String),
    /// The connection is shutting down gracefully and this call was not started. It can be made on
    /// another connection.
    Finishing,
    /// The connection is over, and why.
    Lost(String),
    /// The call was cancelled or timed out.
    Interrupted(Interrupted),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::NoSuchMethod(what) => write!(f, "the peer has no method {what}"),
            CallError::WrongArguments(what) => {
                write!(f, "the peer cannot read the arguments: {what}")
            }
            CallError::TooMany => {
                f.write_str("the peer is already answering its maximum number of calls")
            }
            CallError::TooManyWaiting => {
                f.write_str("too many calls wait for an answer of the peer, or to be sent")
            }
            CallError::Failed(what) => f.write_str(what),
            CallError::Panicked => f.write_str("the peer's method panicked"),
            CallError::TooLong(what) => write!(f, "the value is too long: {what}"),
            CallError::NotSerializable(what) => {
                write!(f, "the value cannot be serialized: {what}")
            }
            CallError::WrongResult(what) => {
                write!(f, "the result is not of the expected type: {what}")
            }
            CallError::Finishing => {
                f.write_str("the connection is shutting down and takes no more calls")
            }
            CallError::Lost(why) => write!(f, "the connection is over: {why}"),
            CallError::Interrupted(why) => why.fmt(f),
        }
    }
}

impl Error for CallError {}

impl From<EncodeError> for CallError {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::TooLong { .. } => CallError::TooLong(error.to_string()),
            EncodeError::Value(what) => CallError::NotSerializable(what),
        }
    }
}

impl From<Refusal> for CallError {
    fn from(Refusal(code, message): Refusal) -> Self {
        match code {
            Code::Failed => CallError::Failed(message),
            Code::NoSuchMethod => CallError::NoSuchMethod(message),
            Code::WrongArguments => CallError::WrongArguments(message),
            Code::TooMany => CallError::TooMany,
            Code::Panicked => CallError::Panicked,
            Code::TooLong => CallError::TooLong(message),
            Code::Finishing => CallError::Finishing,
            Code::NotSerializable => CallError::NotSerializable(message),
        }
    }
}

impl From<Interrupted> for CallError {
    fn from(why: Interrupted) -> Self {
        CallError::Interrupted(why)
    }
}

/// The error of a method, as a text for the caller.
///
/// Every error, text and `Box<dyn Error>` converts into it, so `?` works on all of them. A method
/// that returns a [`Deferred`](crate::deferred::Deferred) can have it as the `Deferred`'s error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

impl<E: Into<Box<dyn Error>>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error: Box<dyn Error> = error.into();
        Failure(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
