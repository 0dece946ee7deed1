//! Names of hosts, and the addresses that they stand for.
//!
//! ```
//! use std::rc::Rc;
//! use entwined::{Standalone, resolve::{Resolver, Table}};
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let table = Table::new([("printer.example", ["127.0.0.1".parse()?, "127.0.0.2".parse()?])]);
//! handle.set_resolver(Rc::new(table));
//!
//! handle.clone().spawn(async move {
//!     let addresses = handle.resolver().resolve(&handle, "printer.example").await.expect("it is in the table");
//!     assert_eq!(addresses.len(), 2);
//!     handle.stop().expect("the reactor runs");
//! }).detach();
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{
    cell::RefCell,
    collections::HashMap,
    error::Error,
    fmt, io,
    net::{IpAddr, ToSocketAddrs},
    rc::Rc,
    time::Duration,
};

use crate::{
    deferred::{Deferred, Full, Interrupted},
    reactor::Handle,
    thread::{Limits, ThreadPool},
};

/// Addresses of one name that are used at most; more are left out.
const MOST_ADDRESSES: usize = 32;

/// Finds the addresses of a host.
pub trait Resolver {
    /// The addresses of `host`, at least one, the one to try first at the front. Cancelling the
    /// Deferred gives the search up.
    fn resolve(&self, handle: &Handle, host: &str) -> Deferred<Vec<IpAddr>, ResolveError>;
}

/// Why there are no addresses.
#[derive(Debug)]
#[non_exhaustive]
pub enum ResolveError {
    /// Nobody knows the name, or nobody answers: which of them the system does not tell apart.
    NotFound {
        /// The name.
        host: String,
        /// As the system says it.
        source: io::Error,
    },
    /// There was no answer: cancelled, timed out, or too many names are being looked up.
    Interrupted(Interrupted),
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResolveError::NotFound { host, source } => {
                write!(f, "no address is known for {host:?}: {source}")
            }
            ResolveError::Interrupted(Interrupted::Refused) => {
                f.write_str("too many names are being looked up")
            }
            ResolveError::Interrupted(why) => write!(f, "a name was not looked up: {why}"),
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

/// Asks the system, by getaddrinfo(3): its hosts file, its name servers, in the order of RFC 6724.
///
/// That blocks, so it has threads of its own (4 at most), which no other work can keep from it; 256
/// names may wait. What the system is asked for cannot be taken back: a search that was given up
/// keeps its thread until the system gives up too, after some seconds.
#[derive(Clone, Debug)]
pub struct System {
    pool: ThreadPool,
}

/// How long the system may take.
const PATIENCE: Duration = Duration::from_secs(15);

impl System {
    /// A resolver with threads of its own; they start when they are needed.
    pub fn new() -> Self {
        let mut limits = Limits::default();
        (limits.threads, limits.queue) = (4, 256);
        System {
            pool: ThreadPool::new("resolver", limits),
        }
    }
}

impl Default for System {
    fn default() -> Self {
        System::new()
    }
}

impl Resolver for System {
    /// An answer that takes longer than 15 s is [`TimedOut`](Interrupted::TimedOut).
    fn resolve(&self, handle: &Handle, host: &str) -> Deferred<Vec<IpAddr>, ResolveError> {
        let host = host.to_owned();
        let job = move |_: &_| match look_up(&host) {
            Ok(addresses) => Ok(addresses),
            Err(source) => Err(ResolveError::NotFound { host, source }),
        };
        match self.pool.defer(handle, job) {
            Ok(answer) => answer.add_timeout(handle, PATIENCE),
            Err(Full(_)) => Deferred::ready(Err(Interrupted::Refused.into())),
        }
    }
}

fn look_up(host: &str) -> io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for address in (host, 0).to_socket_addrs()? {
        if !addresses.contains(&address.ip()) && addresses.len() < MOST_ADDRESSES {
            addresses.push(address.ip());
        }
    }
    if addresses.is_empty() {
        Err(io::ErrorKind::NotFound.into())
    } else {
        Ok(addresses)
    }
}

/// Knows the names that it was given and no others.
#[derive(Clone, Debug, Default)]
pub struct Table {
    hosts: HashMap<String, Vec<IpAddr>>,
}

impl Table {
    /// A table of names and their addresses.
    pub fn new<N: Into<String>, A: IntoIterator<Item = IpAddr>>(
        hosts: impl IntoIterator<Item = (N, A)>,
    ) -> Self {
        let entry = |(name, addresses): (N, A)| {
            (
                name.into().to_ascii_lowercase(),
                addresses.into_iter().collect(),
            )
        };
        Table {
            hosts: hosts.into_iter().map(entry).collect(),
        }
    }
}

impl Resolver for Table {
    fn resolve(&self, _: &Handle, host: &str) -> Deferred<Vec<IpAddr>, ResolveError> {
        Deferred::ready(match self.hosts.get(&host.to_ascii_lowercase()) {
            Some(addresses) if !addresses.is_empty() => Ok(addresses.clone()),
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
    /// What finds the addresses of hosts for this reactor: [`System`], unless it was
    /// [set](Handle::set_resolver).
    pub fn resolver(&self) -> Rc<dyn Resolver> {
        let kept = self.extension(|| Rc::new(Kept(RefCell::new(Rc::new(System::new())))));
        kept.0.borrow().clone()
    }

    /// Has another resolver find the addresses of hosts from now on.
    pub fn set_resolver(&self, resolver: Rc<dyn Resolver>) {
        let kept = self.extension(|| Rc::new(Kept(RefCell::new(resolver.clone()))));
        let old = kept.0.replace(resolver);
        drop(old);
    }
}

/// The reactor keeps its resolver without knowing what it is.
struct Kept(RefCell<Rc<dyn Resolver>>);
