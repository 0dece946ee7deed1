//! Keeps connections for reuse.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

use hyper::client::conn::{http1, http2};
use url::Url;

use super::{
    ClientError,
    connect::SendRequest,
    link::{Link, Outgoing},
    settings::Settings,
};
use crate::times::{MIN_LOOK, later};
use entwined::{
    deferred::{DeferredSemaphore, SemaphorePermit},
    reactor::{Handle, Timer},
};

pub(super) struct Pool {
    handle: Handle,
    hosts: RefCell<HashMap<String, Host>>,
    limits: Limits,
    /// Runs while there is any host, and drops connections that have been idle for too long.
    sweeping: RefCell<Option<Timer>>,
    own: Weak<Pool>,
    /// Called when a connection has answered its last request.
    rests: Rc<dyn Fn()>,
}

/// What a pool keeps, and for how long.
struct Limits {
    /// The most idle connections, and the most of them for each host.
    max_idle: usize,
    max_idle_per_host: usize,
    idle_timeout: Duration,
    /// The most requests to a host that are in flight, and the most that wait for their turn.
    max_concurrent: usize,
    max_waiting: usize,
}

/// Hosts beyond this number are kept only while there is something of them: a connection, or a
/// request.
const MAX_EMPTY_HOSTS: usize = 64;

struct Host {
    /// HTTP/1.1 connections. Those that are not ready are still in use.
    one: Vec<One>,
    /// HTTP/2 connections. More than one only if the server takes few streams at a time.
    two: Vec<Two>,
    turns: DeferredSemaphore,
}

type One = (http1::SendRequest<Outgoing>, Rc<Link>);
type Two = (http2::SendRequest<Outgoing>, Rc<Link>);

/// Whether a connection takes further requests, perhaps later.
fn usable((sender, link): &Two) -> bool {
    link.is_usable() && !sender.is_closed()
}

impl Host {
    /// Whether there is nothing to keep: no connection, and no request.
    fn is_empty(&self, limits: &Limits) -> bool {
        self.one.is_empty()
            && self.two.is_empty()
            && self.turns.available() == limits.max_concurrent
    }

    /// The idle connections, with the time since when they are idle.
    fn idle(&self) -> impl Iterator<Item = (Instant, Rc<Link>)> {
        let one = self.one.iter().map(|one| &one.1);
        let two = self.two.iter().map(|two| &two.1);
        one.chain(two)
            .filter_map(|link| Some((link.idle_since()?, link.clone())))
    }

    fn len(&self) -> usize {
        self.one.len() + self.two.len()
    }

    fn remove(&mut self, link: &Rc<Link>) {
        self.two.retain(|two| !Rc::ptr_eq(&two.1, link));
        self.one.retain(|one| !Rc::ptr_eq(&one.1, link));
    }
}

impl Pool {
    pub(super) fn new(settings: &Settings) -> Rc<Self> {
        let limits = Limits {
            max_idle: settings.max_idle,
            max_idle_per_host: settings.max_idle_per_host,
            idle_timeout: settings.idle_timeout,
            max_concurrent: settings.max_concurrent,
            max_waiting: settings.max_waiting,
        };
        Rc::new_cyclic(|own| Pool {
            handle: settings.handle.clone(),
            hosts: RefCell::default(),
            limits,
            sweeping: RefCell::default(),
            own: own.clone(),
            rests: {
                let own = own.clone();
                Rc::new(move || {
                    if let Some(pool) = own.upgrade() {
                        pool.rests();
                    }
                })
            },
        })
    }

    /// The key of a connection. Connections with the same scheme, host and port are
    /// interchangeable.
    pub(super) fn key(url: &Url) -> String {
        format!(
            "{}://{}:{}",
            url.scheme(),
            url.host_str().unwrap_or(""),
            url.port_or_known_default().unwrap_or(0)
        )
    }

    /// Waits for a free place among the requests to a host.
    pub(super) async fn turn(&self, key: &str) -> Result<SemaphorePermit, ClientError> {
        let turns = self.with(key, |host| host.turns.clone());
        let turn = turns.acquire().map_err(|_| ClientError::TooManyWaiting)?;
        turn.await
            .map_err(|_| ClientError::TimedOut("waiting for other requests to this host"))
    }

    fn with<R>(&self, key: &str, call: impl FnOnce(&mut Host) -> R) -> R {
        // Even a host that is never reached must be swept in time.
        self.sweep_later(self.limits.idle_timeout);
        let limits = &self.limits;
        let mut hosts = self.hosts.borrow_mut();
        if hosts.len() >= MAX_EMPTY_HOSTS && !hosts.contains_key(key) {
            hosts.retain(|_, host| !host.is_empty(limits));
        }
        let new = || Host {
            one: Vec::new(),
            two: Vec::new(),
            turns: DeferredSemaphore::bounded(limits.max_concurrent, limits.max_waiting),
        };
        call(hosts.entry(key.to_owned()).or_insert_with(new))
    }

    /// Returns a free connection.
    pub(super) fn take(&self, key: &str) -> Option<SendRequest> {
        self.with(key, |host| {
            host.two.retain(usable);
            if let Some((sender, link)) = host.two.iter().find(|two| two.1.has_room()) {
                return Some(SendRequest::Two(sender.clone(), link.clone()));
            }
            host.one
                .retain(|(sender, link)| link.is_usable() && !sender.is_closed());
            // Takes the newest first, so that the others age out.
            let free = |(sender, _): &One| sender.is_ready();
            let place = host.one.iter().rposition(free)?;
            let (sender, link) = host.one.remove(place);
            Some(SendRequest::One(sender, link))
        })
    }

    /// Keeps a connection for the next request. It may stay in use until a response has been read.
    pub(super) fn put(&self, key: &str, sender: SendRequest) {
        sender.link().kept_by(self.rests.clone());
        self.with(key, |host| match sender {
            SendRequest::Two(sender, link) => {
                // One is enough, as long as it has room.
                let enough = |two: &Two| Rc::ptr_eq(&two.1, &link) || two.1.has_room();
                host.two.retain(usable);
                if !host.two.iter().any(enough) {
                    host.two.push((sender, link));
                }
            }
            SendRequest::One(sender, link) => {
                host.one.retain(|(sender, _)| !sender.is_closed());
                host.one.push((sender, link));
            }
        });
    }

    /// Whether some connections may be too many, if they are idle.
    fn has_many(&self) -> bool {
        let most = self.limits.max_idle.min(self.limits.max_idle_per_host);
        self.hosts.borrow().values().map(Host::len).sum::<usize>() > most
    }

    /// A connection has answered its last request. Drops those that have been idle for the longest
    /// if there are too many of them.
    fn rests(&self) {
        if !self.has_many() {
            return;
        }
        let limits = &self.limits;
        let mut dropped = Vec::new();
        let mut hosts = self.hosts.borrow_mut();
        let mut all = Vec::new();
        for host in hosts.values_mut() {
            let mut idle: Vec<_> = host.idle().collect();
            idle.sort_by_key(|(since, _)| *since);
            let excess = idle.len().saturating_sub(limits.max_idle_per_host);
            dropped.extend(idle.drain(..excess));
            all.extend(idle);
        }
        all.sort_by_key(|(since, _)| *since);
        let excess = all.len().saturating_sub(limits.max_idle);
        dropped.extend(all.drain(..excess));
        if dropped.is_empty() {
            return;
        }
        for host in hosts.values_mut() {
            for (_, link) in &dropped {
                host.remove(link);
            }
        }
    }

    /// No further request goes over this connection.
    pub(super) fn retire(&self, key: &str, link: &Rc<Link>) {
        self.with(key, |host| host.remove(link));
    }

    fn sweep_later(&self, after: Duration) {
        let mut sweeping = self.sweeping.borrow_mut();
        // The one of a run that has ended never comes.
        if !sweeping.as_ref().is_some_and(Timer::is_pending) {
            let own = self.own.clone();
            *sweeping = Some(self.handle.call_later(after, move || {
                if let Some(pool) = own.upgrade() {
                    pool.sweep();
                }
            }));
        }
    }

    /// Drops the connections that have been idle for too long, and comes back for the next one.
    fn sweep(&self) {
        self.sweeping.take();
        let (now, limits) = (self.handle.now(), &self.limits);
        let old = |link: &Link| {
            link.idle_since()
                .is_some_and(|since| later(since, limits.idle_timeout) <= now)
        };
        let mut hosts = self.hosts.borrow_mut();
        let mut oldest = None;
        hosts.retain(|_, host| {
            // A connection in use is not idle, however long it takes.
            host.one
                .retain(|(sender, link)| !(sender.is_closed() || old(link)));
            host.two
                .retain(|(sender, link)| !(sender.is_closed() || old(link)));
            oldest = oldest
                .into_iter()
                .chain(host.idle().map(|idle| idle.0))
                .min();
            !host.is_empty(limits)
        });
        let some = !hosts.is_empty();
        drop(hosts);
        if some {
            let next = oldest.map(|since| later(since, limits.idle_timeout).duration_since(now));
            self.sweep_later(next.unwrap_or(limits.idle_timeout).max(MIN_LOOK));
        }
    }

    pub(super) fn len(&self) -> usize {
        let open = |host: &Host| {
            let one = host.one.iter().filter(|one| !one.0.is_closed());
            let two = host.two.iter().filter(|two| !two.0.is_closed());
            one.count() + two.count()
        };
        self.hosts.borrow().values().map(open).sum()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(sweeping) = self.sweeping.take() {
            let _ = sweeping.cancel();
        }
    }
}
