//! What kinds of endpoints there are.

use std::{collections::BTreeMap, fmt, future::Future, pin::Pin, rc::Rc, time::Duration};

use super::{Arguments, EndpointError, ParseError, standard};
use crate::{
    reactor::Handle,
    transport::{BoxedListener, ByteStream},
};

/// What one kind of endpoint listens on.
pub trait Server {
    /// Listens.
    ///
    /// # Errors
    /// Why that is not possible.
    fn listen(&self, handle: &Handle) -> Result<BoxedListener, EndpointError>;
}

/// What one kind of endpoint connects to.
pub trait Client {
    /// Connects. The future may be dropped, which gives the attempt up.
    fn connect(&self, handle: &Handle) -> Connecting;
}

/// A connection that is being made.
pub type Connecting = Pin<Box<dyn Future<Output = Result<Box<dyn ByteStream>, EndpointError>>>>;

type ReadServer = Rc<dyn Fn(&mut Arguments<'_>) -> Result<Rc<dyn Server>, ParseError>>;
type ReadClient = Rc<dyn Fn(&mut Arguments<'_>) -> Result<Rc<dyn Client>, ParseError>>;

/// The kinds that are known, by their names.
///
/// ```
/// use std::rc::Rc;
/// use entwined::{Handle, endpoint::{EndpointError, Kinds, Server}, transport::{BoxedListener, Listen, tcp}};
///
/// /// `local:PORT`
/// struct Local(u16);
///
/// impl Server for Local {
///     fn listen(&self, handle: &Handle) -> Result<BoxedListener, EndpointError> {
///         Ok(tcp::listen(handle, ([127, 0, 0, 1], self.0).into())?.boxed())
///     }
/// }
///
/// let mut kinds = Kinds::new();
/// kinds.add_server("local", |arguments| Ok(Rc::new(Local(arguments.required("port", "a port number")?))));
/// let endpoint = kinds.server("local:8080")?;
/// let error = kinds.server("local:80800").unwrap_err();
/// assert_eq!(error.to_string(), "\"80800\" is not a port number\n    local:80800\n          ^");
/// # Ok::<(), entwined::endpoint::ParseError>(())
/// ```
#[derive(Clone)]
pub struct Kinds {
    servers: BTreeMap<&'static str, ReadServer>,
    clients: BTreeMap<&'static str, ReadClient>,
}

/// How long a client tries, unless told.
const PATIENCE: Duration = Duration::from_secs(30);

impl Kinds {
    /// The standard kinds.
    pub fn new() -> Self {
        let mut kinds = Kinds {
            servers: BTreeMap::new(),
            clients: BTreeMap::new(),
        };
        standard::add(&mut kinds);
        #[cfg(feature = "tls")]
        super::tls::add(&mut kinds);
        kinds
    }

    /// Adds a kind to listen on, or replaces it. `read` takes what it knows of the arguments; what
    /// it leaves is an error.
    pub fn add_server(
        &mut self,
        name: &'static str,
        read: impl Fn(&mut Arguments<'_>) -> Result<Rc<dyn Server>, ParseError> + 'static,
    ) {
        self.servers.insert(name, Rc::new(read));
    }

    /// Adds a kind to connect to, or replaces it; see [`add_server`](Kinds::add_server).
    pub fn add_client(
        &mut self,
        name: &'static str,
        read: impl Fn(&mut Arguments<'_>) -> Result<Rc<dyn Client>, ParseError> + 'static,
    ) {
        self.clients.insert(name, Rc::new(read));
    }

    /// Reads a description of where to listen.
    ///
    /// # Errors
    /// [`ParseError`] points at what is wrong.
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

    /// Reads a description of what to connect to.
    ///
    /// # Errors
    /// [`ParseError`] points at what is wrong.
    pub fn client(&self, text: &str) -> Result<ClientEndpoint, ParseError> {
        let (kind, mut arguments) = Arguments::parse(text)?;
        let read = find(&self.clients, text, &kind.text)?;
        let client = read(&mut arguments)?;
        let timeout = match arguments.name("timeout") {
            None => PATIENCE,
            Some(value) => {
                match value
                    .text
                    .parse()
                    .ok()
                    .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                {
                    Some(timeout) => timeout,
                    None => {
                        return Err(arguments.error(
                            value.at,
                            format!("{:?} is not a number of seconds", value.text),
                        ));
                    }
                }
            }
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
    kinds: &'k BTreeMap<&'static str, K>,
    text: &str,
    kind: &str,
) -> Result<&'k K, ParseError> {
    kinds.get(kind).ok_or_else(|| {
        let known: Vec<_> = kinds.keys().copied().collect();
        ParseError::new(
            text,
            0,
            format!(
                "the kind {kind:?} is not known here; there are {}",
                known.join(", ")
            ),
        )
    })
}

impl Default for Kinds {
    fn default() -> Self {
        Kinds::new()
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kinds")
            .field("servers", &self.servers.keys())
            .field("clients", &self.clients.keys())
            .finish()
    }
}

/// Where to listen. Shown, it is the text that it was made of.
#[derive(Clone)]
pub struct ServerEndpoint {
    text: Rc<str>,
    server: Rc<dyn Server>,
}

impl ServerEndpoint {
    /// Listens there: what it gives can be [served](crate::protocol::serve) on.
    ///
    /// # Errors
    /// Why that is not possible, and what to do about it.
    pub fn listen(&self, handle: &Handle) -> Result<BoxedListener, EndpointError> {
        self.server.listen(handle)
    }
}

/// What to connect to. Shown, it is the text that it was made of.
#[derive(Clone)]
pub struct ClientEndpoint {
    text: Rc<str>,
    client: Rc<dyn Client>,
    timeout: Duration,
}

impl ClientEndpoint {
    /// Connects. Dropping the future gives the attempt up.
    ///
    /// A stream with TLS is [established](ByteStream::poll_established) then.
    ///
    /// # Errors
    /// Why there is no connection; [`TimedOut`](EndpointError::TimedOut) when its time is over.
    pub async fn connect(&self, handle: &Handle) -> Result<Box<dyn ByteStream>, EndpointError> {
        let connected = async {
            let mut stream = self.client.connect(handle).await?;
            stream.established().await?;
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
