//! The registry of endpoint kinds.

use std::{fmt, future::Future, pin::Pin, rc::Rc, time::Duration};

use super::{Arguments, EndpointError, ParseError, arguments::seconds};
use crate::{
    reactor::Handle,
    table::Table,
    transport::{BoxedListener, ByteStream},
};

/// A parsed endpoint of one kind, to listen on.
pub trait Server {
    /// Listens.
    ///
    /// # Errors
    /// Why listening failed.
    fn listen(&self, handle: &Handle) -> Result<BoxedListener, EndpointError>;
}

/// A parsed endpoint of one kind, to connect to.
pub trait Client {
    /// Connects. Dropping the future cancels the attempt.
    fn connect(&self, handle: &Handle) -> Connecting;
}

/// A connection attempt.
pub type Connecting = Pin<Box<dyn Future<Output = Result<Box<dyn ByteStream>, EndpointError>>>>;

pub(super) fn boxed(stream: impl ByteStream) -> Box<dyn ByteStream> {
    Box::new(stream)
}

type ReadServer = Rc<dyn Fn(&mut Arguments<'_>) -> Result<Rc<dyn Server>, ParseError>>;
type ReadClient = Rc<dyn Fn(&mut Arguments<'_>) -> Result<Rc<dyn Client>, ParseError>>;

/// The known kinds, by name.
///
/// ```
/// use std::rc::Rc;
/// use entwined::{
///     Handle,
///     endpoint::{EndpointError, Kinds, Server},
///     transport::{BoxedListener, Listen, tcp},
/// };
///
/// /// `local:PORT`
/// struct Local(u16);
///
/// impl Server for Local {
///     fn listen(&self, handle: &Handle) -> Result<BoxedListener, EndpointError> {
///         Ok(tcp::listen(handle, ([127, 0, 0, 1], self.0))?.boxed())
///     }
/// }
///
/// let mut kinds = Kinds::new();
/// kinds.add_server("local", |arguments| {
///     Ok(Rc::new(Local(arguments.required("port", "a port number")?)))
/// });
/// let endpoint = kinds.server("local:8080")?;
/// let error = kinds.server("local:80800").unwrap_err();
/// assert_eq!(error.to_string(), "\"80800\" is not a port number\n    local:80800\n          ^");
/// # Ok::<(), entwined::endpoint::ParseError>(())
/// ```
#[derive(Clone)]
pub struct Kinds {
    servers: Table<&'static str, ReadServer>,
    clients: Table<&'static str, ReadClient>,
}

/// Default timeout of a client.
const PATIENCE: Duration = Duration::from_secs(30);

impl Kinds {
    pub(super) fn empty() -> Self {
        Kinds {
            servers: Table::new(),
            clients: Table::new(),
        }
    }

    /// Adds or replaces a kind to listen on. `read` takes the arguments that it knows; any argument
    /// left over is an error.
    pub fn add_server(
        &mut self,
        name: &'static str,
        read: impl Fn(&mut Arguments<'_>) -> Result<Rc<dyn Server>, ParseError> + 'static,
    ) {
        self.servers.insert(name, Rc::new(read));
    }

    /// Adds or replaces a kind to connect to. See [`add_server`](Kinds::add_server).
    pub fn add_client(
        &mut self,
        name: &'static str,
        read: impl Fn(&mut Arguments<'_>) -> Result<Rc<dyn Client>, ParseError> + 'static,
    ) {
        self.clients.insert(name, Rc::new(read));
    }

    /// Parses a text that says where to listen.
    ///
    /// # Errors
    /// [`ParseError`] points at the mistake.
    pub fn server(&self, text: &str) -> Result<ServerEndpoint, ParseError> {
        let (kind, mut arguments) = Arguments::parse(text)?;
        let read = find(&self.servers, text, &kind.text)?;
        let server = read(&mut arguments)?;
        arguments.finish()?;
        Ok(ServerEndpoint {
            text: text.into(),
            server,
        })
    }

    /// Parses a text that says what to connect to.
    ///
    /// # Errors
    /// [`ParseError`] points at the mistake.
    pub fn client(&self, text: &str) -> Result<ClientEndpoint, ParseError> {
        let (kind, mut arguments) = Arguments::parse(text)?;
        let read = find(&self.clients, text, &kind.text)?;
        let client = read(&mut arguments)?;
        let timeout = match arguments.name("timeout") {
            None => PATIENCE,
            Some(value) => seconds(&value.text).ok_or_else(|| {
                let wrong = format!("{:?} is not a number of seconds", value.text);
                arguments.error(value.at, wrong)
            })?,
        };
        arguments.finish()?;
        Ok(ClientEndpoint {
            text: text.into(),
            client,
            timeout,
        })
    }
}

fn find<'k, K>(
    kinds: &'k Table<&'static str, K>,
    text: &str,
    kind: &str,
) -> Result<&'k K, ParseError> {
    kinds.get(kind).ok_or_else(|| {
        let known: Vec<_> = kinds.keys().copied().collect();
        ParseError::new(
            text,
            0,
            format!("unknown kind {kind:?}; the kinds are {}", known.join(", ")),
        )
    })
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kinds")
            .field("servers", &self.servers.keys().collect::<Vec<_>>())
            .field("clients", &self.clients.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// Where to listen. `Display` shows the text that it was parsed from.
#[derive(Clone)]
pub struct ServerEndpoint {
    text: Rc<str>,
    server: Rc<dyn Server>,
}

impl ServerEndpoint {
    /// Listens. The result can be passed to [`serve`](crate::protocol::serve).
    ///
    /// # Errors
    /// Why listening failed, and how to fix it.
    pub fn listen(&self, handle: &Handle) -> Result<BoxedListener, EndpointError> {
        self.server.listen(handle)
    }
}

/// What to connect to. `Display` shows the text that it was parsed from.
#[derive(Clone)]
pub struct ClientEndpoint {
    text: Rc<str>,
    client: Rc<dyn Client>,
    timeout: Duration,
}

impl ClientEndpoint {
    /// Connects. Dropping the future cancels the attempt.
    ///
    /// A TLS stream is already [established](ByteStream::poll_established) when this returns.
    ///
    /// # Errors
    /// Why connecting failed; [`TimedOut`](EndpointError::TimedOut) if the timeout expired.
    pub async fn connect(&self, handle: &Handle) -> Result<Box<dyn ByteStream>, EndpointError> {
        let connected = async {
            let mut stream = self.client.connect(handle).await?;
            stream.established(handle, self.timeout).await?;
            Ok(stream)
        };
        handle
            .timeout(self.timeout, connected)
            .await
            .unwrap_or(Err(EndpointError::TimedOut))
    }
}

impl fmt::Display for ServerEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for ClientEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ServerEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerEndpoint({:?})", self.text)
    }
}

impl fmt::Debug for ClientEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientEndpoint({:?})", self.text)
    }
}
