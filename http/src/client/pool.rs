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
};
use entwined::{
    deferred::{DeferredSemaphore, SemaphorePermit},
    reactor::{Handle, Timer},
};

pub(super) struct Pool {
    handle: Handle,
    hosts: RefCell<HashMap<String, Host>>,
    /// The most idle connections to keep for each host.
    max_idle: usize,
    idle_timeout: Duration,
    max_concurrent: usize,
    /// Runs while there is any host, and drops connections that have been idle for too long.
    sweeping: RefCell<Option<Timer>>,
    own: Weak<Pool>,
}

struct Host {
    /// HTTP/1.1 connections. Those that are not ready are still in use.
    one: Vec<(http1::SendRequest<Outgoing>, Rc<Link>, Instant)>,
    two: Option<(http2::SendRequest<Outgoing>, Rc<Link>, Instant)>,
    turns: DeferredSemaphore,
}

impl Pool {
    pub(super) fn new(
        handle: &Handle,
        max_idle: usize,
        idle_timeout: Duration,
        max_concurrent: usize,
    ) -> Rc<Self> {
        Rc::new_cyclic(|own| Pool {
            handle: handle.clone(),
            hosts: RefCell::default(),
            max_idle,
            idle_timeout,
            max_concurrent,
            sweeping: RefCell::default(),
            own: own.clone(),
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
        let many =
            || ClientError::Request("too many requests are waiting for this host".to_owned());
        let turn = turns.acquire().map_err(|_| many())?;
        turn.await
            .map_err(|_| ClientError::TimedOut("waiting for other requests to this host"))
    }

    fn with<R>(&self, key: &str, call: impl FnOnce(&mut Host) -> R) -> R {
        // Even a host that is never reached must be swept in time.
        self.sweep_later();
        let mut hosts = self.hosts.borrow_mut();
        let new = || Host {
            one: Vec::new(),
            two: None,
            turns: DeferredSemaphore::new(self.max_concurrent),
        };
        call(hosts.entry(key.to_owned()).or_insert_with(new))
    }

    /// Returns a free connection.
    pub(super) fn take(&self, key: &str) -> Option<SendRequest> {
        self.with(key, |host| {
            let usable = |link: &Link, closed: bool| link.is_usable() && !closed;
            if let Some((two, link, used)) = &mut host.two {
                if usable(link, two.is_closed()) {
                    *used = self.handle.now();
                    return Some(SendRequest::Two(two.clone(), link.clone()));
                }
            }
            host.two = None;
            host.one
                .retain(|(sender, link, _)| usable(link, sender.is_closed()));
            // Takes the newest first, so that the others age out.
            let place = host
                .one
                .iter()
                .rposition(|(sender, ..)| sender.is_ready())?;
            let (sender, link, _) = host.one.swap_remove(place);
            Some(SendRequest::One(sender, link))
        })
    }

    /// Keeps a connection for the next request. It may stay in use until a response has been read.
    pub(super) fn put(&self, key: &str, sender: SendRequest) {
        let now = self.handle.now();
        self.with(key, |host| match sender {
            SendRequest::Two(sender, link) => {
                // A connection that goes away must not replace a new one.
                if link.is_usable() && !sender.is_closed() {
                    host.two = Some((sender, link, now));
                }
            }
            SendRequest::One(sender, link) => {
                host.one.retain(|(sender, ..)| !sender.is_closed());
                host.one.push((sender, link, now));
                // Connections in use do not count.
                while host
                    .one
                    .iter()
                    .filter(|(sender, ..)| sender.is_ready())
                    .count()
                    > self.max_idle
                {
                    let oldest = host.one.iter().position(|(sender, ..)| sender.is_ready());
                    oldest.map(|place| host.one.remove(place));
                }
            }
        });
    }

    /// No further request goes over this connection.
    pub(super) fn retire(&self, key: &str, link: &Rc<Link>) {
        self.with(key, |host| {
            host.two.take_if(|two| Rc::ptr_eq(&two.1, link));
            host.one.retain(|one| !Rc::ptr_eq(&one.1, link));
        });
    }

    fn sweep_later(&self) {
        let mut sweeping = self.sweeping.borrow_mut();
        if sweeping.is_none() {
            let own = self.own.clone();
            *sweeping = Some(self.handle.call_later(self.idle_timeout, move || {
                if let Some(pool) = own.upgrade() {
                    pool.sweep();
                }
            }));
        }
    }

    fn sweep(&self) {
        self.sweeping.take();
        let now = self.handle.now();
        let mut hosts = self.hosts.borrow_mut();
        hosts.retain(|_, host| {
            let old = |used: &Instant| *used + self.idle_timeout <= now;
            // A connection in use is not idle, however long it takes.
            host.one.retain(|(sender, _, used)| {
                !(sender.is_closed() || (sender.is_ready() && old(used)))
            });
            host.two
                .take_if(|(sender, _, used)| sender.is_closed() || old(used));
            !host.one.is_empty()
                || host.two.is_some()
                || host.turns.available() < self.max_concurrent
        });
        let some = !hosts.is_empty();
        drop(hosts);
        if some {
            self.sweep_later();
        }
    }

    pub(super) fn len(&self) -> usize {
        let open = |host: &Host| {
            let one = host
                .one
                .iter()
                .filter(|(sender, ..)| !sender.is_closed())
                .count();
            one + usize::from(host.two.as_ref().is_some_and(|two| !two.0.is_closed()))
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
