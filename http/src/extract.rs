//! Values that handlers extract from requests.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use serde::de::{self, DeserializeOwned, IntoDeserializer, Visitor};

use super::{
    Error, FromParts, FromRequest, HeaderMap, IntoResponse, Json, Method, Request, Response,
    StatusCode, Uri,
};
use entwined::{reactor::Handle, transport::Address};

/// The parameters of the path: one value, a tuple in the order of the path, or a struct (or map)
/// with a field for each name. Of two parameters with the same name, one in a router and one in
/// another that is nested in it, the inner one counts. Numbers and other types are parsed from the
/// text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Path<T>(pub T);

/// The query, as a struct (or map) with a field for each name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Query<T>(pub T);

/// A body of type `application/x-www-form-urlencoded`, as a struct (or map) with a field for each
/// name. For a GET or HEAD request, this is the query instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Form<T>(pub T);

/// A value that a layer gave to the request: [`layers::state`](crate::layers::state), another layer
/// such as [`layers::sessions`](crate::layers::sessions), or one of yours that
/// [inserted](Request::insert) it. It is found by its type, and cloned. It need not be `Send`: an
/// `Rc` is the usual thing.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use entwined_http::{Router, State, layers};
///
/// async fn count(State(visits): State<Rc<Cell<u64>>>) -> String {
///     visits.set(visits.get() + 1);
///     format!("visit number {}", visits.get())
/// }
///
/// let visits = Rc::new(Cell::new(0));
/// let router = Router::new().get("/", count).layer(layers::state(visits.clone()));
/// ```
///
/// If no layer gave such a value, the response is 500, and the log names the missing type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State<T>(pub T);

impl<T: DeserializeOwned> FromParts for Path<T> {
    fn from_parts(request: &mut Request) -> Result<Self, Response> {
        let value = T::deserialize(Params(request.params()));
        value.map(Path).map_err(|Wrong(error)| {
            Error::bad_request(format!("the path is wrong: {error}")).into_response()
        })
    }
}

impl<T: DeserializeOwned> FromParts for Query<T> {
    fn from_parts(request: &mut Request) -> Result<Self, Response> {
        request.query().map(Query).map_err(Error::into_response)
    }
}

impl<T: Clone + 'static> FromParts for State<T> {
    fn from_parts(request: &mut Request) -> Result<Self, Response> {
        request.get::<T>().cloned().map(State).ok_or_else(|| {
            let name = std::any::type_name::<T>();
            Error::internal(format!("no layer gave the request a state of type {name}"))
                .into_response()
        })
    }
}

impl FromParts for Handle {
    fn from_parts(request: &mut Request) -> Result<Self, Response> {
        Ok(request.handle().clone())
    }
}

/// The address of the peer.
impl FromParts for Address {
    fn from_parts(request: &mut Request) -> Result<Self, Response> {
        Ok(request.peer_address().clone())
    }
}

impl FromParts for Method {
    fn from_parts(request: &mut Request) -> Result<Self, Response> {
        Ok(request.method().clone())
    }
}

impl FromParts for Uri {
    fn from_parts(request: &mut Request) -> Result<Self, Response> {
        Ok(request.uri().clone())
    }
}

impl FromParts for HeaderMap {
    fn from_parts(request: &mut Request) -> Result<Self, Response> {
        Ok(request.headers().clone())
    }
}

/// `None` if the value cannot be extracted.
impl<T: FromParts> FromParts for Option<T> {
    fn from_parts(request: &mut Request) -> Result<Self, Response> {
        Ok(T::from_parts(request).ok())
    }
}

/// The whole body; see [`Request::bytes`].
impl FromRequest for Bytes {
    async fn from_request(mut request: Request) -> Result<Self, Response> {
        request.bytes().await.map_err(Error::into_response)
    }
}

/// The whole body; see [`Request::text`].
impl FromRequest for String {
    async fn from_request(mut request: Request) -> Result<Self, Response> {
        request.text().await.map_err(Error::into_response)
    }
}

/// The whole body; see [`Request::json`].
impl<T: DeserializeOwned + Send + 'static> FromRequest for Json<T> {
    async fn from_request(mut request: Request) -> Result<Self, Response> {
        request.json().await.map(Json).map_err(Error::into_response)
    }
}

/// The most fields of a form. A map with those of 2 MiB takes tens of milliseconds to drop, which
/// the handler does.
const MAX_FIELDS: usize = 10_000;

/// A body of more than 32 KiB is parsed on a thread, as [`Request::json`] does. One of more than
/// 10,000 fields is 413.
impl<T: DeserializeOwned + Send + 'static> FromRequest for Form<T> {
    async fn from_request(mut request: Request) -> Result<Self, Response> {
        let form = async {
            if matches!(*request.method(), Method::GET | Method::HEAD) {
                return request.query();
            }
            if request.media_type() != "application/x-www-form-urlencoded" {
                let message = "the content type must be application/x-www-form-urlencoded";
                return Err(Error::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
            }
            request.check_coding()?;
            let bytes = request.bytes().await?;
            let parse = |bytes: &[u8]| {
                let ends = bytes.iter().filter(|byte| **byte == b'&');
                if ends.count() >= MAX_FIELDS {
                    let message = format!("the form has more than {MAX_FIELDS} fields");
                    return Err(Error::new(StatusCode::PAYLOAD_TOO_LARGE, message));
                }
                serde_urlencoded::from_bytes(bytes).map_err(|error| {
                    Error::new(
                        StatusCode::UNPROCESSABLE_ENTITY,
                        format!("the form is wrong: {error}"),
                    )
                })
            };
            request.parse(bytes, parse).await
        };
        form.await.map(Form).map_err(Error::into_response)
    }
}

/// The parameters of a path, deserialized as any type.
struct Params<'a>(&'a [(String, String)]);

/// Why the parameters could not be deserialized.
#[derive(Debug)]
struct Wrong(String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Wrong(message.to_string())
    }
}

impl Params<'_> {
    fn only(&self) -> Result<Text<'_>, Wrong> {
        match self.0 {
            [(name, value)] => Ok(Text { name, value }),
            all => Err(Wrong(format!(
                "expected one value, but the path has {}",
                all.len()
            ))),
        }
    }
}

macro_rules! only {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            self.only()?.$method(visitor)
        })*
    };
}

impl<'de> de::Deserializer<'de> for Params<'_> {
    type Error = Wrong;

    only! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char deserialize_str
        deserialize_string deserialize_identifier
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_map(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let values = self.0.iter().map(|(name, value)| Text { name, value });
        visitor.visit_seq(de::value::SeqDeserializer::new(values))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        if length != self.0.len() {
            return Err(Wrong(format!(
                "expected {length} values, but the path has {}",
                self.0.len()
            )));
        }
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let all = self.0;
        // Of two with the same name, the inner one counts.
        let is_last = |place: usize, name: &str| !all[place + 1..].iter().any(|it| it.0 == name);
        let entries = all
            .iter()
            .enumerate()
            .filter(|(place, (name, _))| is_last(*place, name))
            .map(|(_, (name, value))| (name.as_str(), Text { name, value }));
        visitor.visit_map(de::value::MapDeserializer::new(entries))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_map(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.only()?.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if self.0.is_empty() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { bytes byte_buf unit_struct ignored_any }
}

/// One parameter of the path.
#[derive(Clone, Copy)]
struct Text<'a> {
    name: &'a str,
    value: &'a str,
}

impl<'de> IntoDeserializer<'de, Wrong> for Text<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl Text<'_> {
    fn read<T: FromStr>(self) -> Result<T, Wrong> {
        let Text { name, value } = self;
        value
            .parse()
            .map_err(|_| Wrong(format!("{value:?} is not a valid {name}")))
    }
}

macro_rules! read {
    ($($method:ident $visit:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            visitor.$visit(self.read()?)
        })*
    };
}

impl<'de> de::Deserializer<'de> for Text<'_> {
    type Error = Wrong;

    read! {
        deserialize_bool visit_bool deserialize_i8 visit_i8 deserialize_i16 visit_i16
        deserialize_i32 visit_i32 deserialize_i64 visit_i64 deserialize_i128 visit_i128
        deserialize_u8 visit_u8 deserialize_u16 visit_u16 deserialize_u32 visit_u32
        deserialize_u64 visit_u64 deserialize_u128 visit_u128 deserialize_f32 visit_f32
        deserialize_f64 visit_f64 deserialize_char visit_char
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_str(self.value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let text: de::value::StrDeserializer<'_, Wrong> = self.value.into_deserializer();
        visitor.visit_enum(text)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}
