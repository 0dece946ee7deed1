//! Name resolution: from host names to addresses.
//!
//! ```
//! use std::rc::Rc;
//! use entwined::{Standalone, resolve::{Resolve, Table}};
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let table = Table::new([("printer.example", ["127.0.0.1".parse()?, "127.0.0.2".parse()?])]);
//! handle.set_resolver(Rc::new(table));
//!
//! handle.clone().spawn(async move {
//!     let addresses = handle
//!         .resolver()
//!         .resolve(&handle, "printer.example", 631)
//!         .await
//!         .expect("it is in the table");
//!     assert_eq!(addresses.len(), 2);
//!     handle.stop();
//! });
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{
    cell::RefCell,
    collections::HashMap,
    error::Error,
    fmt, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    rc::Rc,
    time::Duration,
};

use crate::{
    deferred::{Deferred, Interrupted},
    reactor::Handle,
    thread::{Config, ThreadPool},
};

/// The maximum number of addresses to use for one name. Further ones are ignored.
const MOST_ADDRESSES: usize = 32;

/// Finds the addresses of a host.
pub trait Resolve {
    /// Looks up the addresses of `host`. The result has at least one address; the first one is
    /// tried first. Each has `port`; a link-local one also says on which network interface it is.
    /// Cancelling the Deferred abandons the lookup.
    fn resolve(
        &self,
        handle: &Handle,
        host: &str,
        port: u16,
    ) -> Deferred<Vec<SocketAddr>, ResolveError>;
}

/// Why there are no addresses.
#[derive(Debug)]
#[non_exhaustive]
pub enum ResolveError {
    /// The name does not exist, or no name server answered. The system does not distinguish these.
    NotFound {
        /// The name.
        host: String,
        /// The error from the operating system.
        source: io::Error,
    },
    /// There was no answer: the lookup was cancelled, timed out, or was refused because too many
    /// lookups were in progress.
    Interrupted(Interrupted),
}

impl ResolveError {
    /// The lookup took too long.
    pub(crate) fn late() -> Self {
        ResolveError::Interrupted(Interrupted::TimedOut)
    }

    pub(crate) fn is_late(&self) -> bool {
        matches!(self, ResolveError::Interrupted(Interrupted::TimedOut))
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResolveError::NotFound { host, source } => {
                write!(f, "no address was found for {host:?}: {source}")
            }
            ResolveError::Interrupted(Interrupted::Refused) => {
                f.write_str("too many names are being looked up")
            }
            ResolveError::Interrupted(why) => write!(f, "the name lookup failed: {why}"),
        }
    }
}

impl Error for ResolveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ResolveError::NotFound { source, .. } => Some(source),
            ResolveError::Interrupted(why) => Some(why),
        }
    }
}

impl From<Interrupted> for ResolveError {
    fn from(why: Interrupted) -> Self {
        ResolveError::Interrupted(why)
    }
}

/// Uses the operating system's resolver, getaddrinfo(3), with its hosts file and name servers.
/// Addresses are in the order of RFC 6724.
///
/// These calls block, so this resolver has threads of its own, at most 4, which no other work can
/// occupy. Up to 256 names may wait. A running system call cannot be cancelled: an abandoned lookup
/// keeps its thread until the system gives up too, after some seconds.
#[derive(Clone, Debug)]
pub struct System {
    pool: ThreadPool,
}

/// How long the system may take.
const PATIENCE: Duration = Duration::from_secs(15);

impl System {
    /// Creates a resolver with its own threads. They start when they are needed.
    pub fn new() -> Self {
        let mut config = Config::default();
        (config.max_threads, config.max_queued) = (4, 256);
        System {
            pool: ThreadPool::new("resolver", config),
        }
    }
}

impl Default for System {
    fn default() -> Self {
        System::new()
    }
}

impl Resolve for System {
    /// Fails with [`TimedOut`](Interrupted::TimedOut) if the answer takes longer than 15 s.
    fn resolve(
        &self,
        handle: &Handle,
        host: &str,
        port: u16,
    ) -> Deferred<Vec<SocketAddr>, ResolveError> {
        let host = host.to_owned();
        let job = move |_: &_| match look_up(&host, port) {
            Ok(addresses) => Ok(addresses),
            Err(source) => Err(ResolveError::NotFound { host, source }),
        };
        self.pool.defer(handle, job).add_timeout(handle, PATIENCE)
    }
}

fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for address in (host, port).to_socket_addrs()? {
        if !addresses.contains(&address) && addresses.len() < MOST_ADDRESSES {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        Err(io::ErrorKind::NotFound.into())
    } else {
        Ok(addresses)
    }
}

/// A fixed table of names. It knows no other names.
#[derive(Clone, Debug, Default)]
pub struct Table {
    hosts: HashMap<String, Vec<IpAddr>>,
}

impl Table {
    /// Creates a table of names and their addresses.
    pub fn new<N: Into<String>, A: IntoIterator<Item = IpAddr>>(
        hosts: impl IntoIterator<Item = (N, A)>,
    ) -> Self {
        let entry =
            |(name, addresses): (N, A)| (form(&name.into()), addresses.into_iter().collect());
        Table {
            hosts: hosts.into_iter().map(entry).collect(),
        }
    }
}

/// A name in the form in which it is looked up. The dot at the end of an absolute one (RFC 1034,
/// 3.1) is not a part of it.
fn form(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

impl Resolve for Table {
    fn resolve(
        &self,
        _: &Handle,
        host: &str,
        port: u16,
    ) -> Deferred<Vec<SocketAddr>, ResolveError> {
        let with_port = |address: &IpAddr| SocketAddr::new(*address, port);
        Deferred::ready(match self.hosts.get(&form(host)) {
            Some(addresses) if !addresses.is_empty() => {
                Ok(addresses.iter().map(with_port).collect())
            }
            _ => {
                let source = io::Error::new(io::ErrorKind::NotFound, "the table does not have it");
                Err(ResolveError::NotFound {
                    host: host.to_owned(),
                    source,
                })
            }
        })
    }
}

impl Handle {
    /// Returns this reactor's resolver: [`System`], unless another one was
    /// [set](Handle::set_resolver).
    pub fn resolver(&self) -> Rc<dyn Resolve> {
        let kept = self.extension(|| Rc::new(Kept(RefCell::new(Rc::new(System::new())))));
        kept.0.borrow().clone()
    }

    /// Sets the resolver to use from now on.
    pub fn set_resolver(&self, resolver: Rc<dyn Resolve>) {
        let kept = self.extension(|| Rc::new(Kept(RefCell::new(resolver.clone()))));
        let old = kept.0.replace(resolver);
        drop(old);
    }
}

/// What the reactor keeps, as an extension.
struct Kept(RefCell<Rc<dyn Resolve>>);
