//! Connecting to a host that has several addresses: RFC 8305, "Happy Eyeballs".

use std::{
    error::Error,
    fmt,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use super::{ConnectError, Stream, tcp};
use crate::{address::literal, reactor::Handle, resolve::ResolveError, task::Sleep};

/// How long an attempt runs before the next one starts alongside it: RFC 8305, section 8.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Time limit for the lookup of the name and all attempts together.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connects to a host, given by name or as a literal address, which may have a zone:
/// `fe80::1%eth0`.
///
/// Tries the host's addresses in turn, alternating between IPv6 and IPv4. Each attempt starts 250
/// ms after the one before it, or as soon as an attempt fails. The first that succeeds is used and
/// the others are cancelled (RFC 8305). Looking up the name and all attempts together have 30 s.
/// Dropping the future cancels all of them.
///
/// ```
/// # use entwined::{Standalone, transport::{self, tcp}};
/// # let reactor = Standalone::new()?;
/// # let handle = reactor.handle();
/// # let listener = tcp::listen(&handle, "127.0.0.1:0")?;
/// # let port = listener.local_address().tcp().unwrap().port();
/// handle.clone().spawn(async move {
///     let stream = transport::connect_host(&handle, "localhost", port)
///         .await
///         .expect("somebody listens");
///     println!("connected to {}", stream.peer_address());
///     handle.stop();
/// });
/// reactor.run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`HostError`] if the name cannot be resolved or no address accepts a connection. It lists the
/// error of each attempt.
pub async fn connect_host(handle: &Handle, host: &str, port: u16) -> Result<Stream, HostError> {
    connect_host_within(handle, host, port, None).await
}

/// Like [`connect_host`], for a caller that has a limit of its own: if it is longer, it counts.
pub(crate) async fn connect_host_within(
    handle: &Handle,
    host: &str,
    port: u16,
    limit: Option<Duration>,
) -> Result<Stream, HostError> {
    let end = handle.after(limit.unwrap_or_default().max(PATIENCE));
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = match literal(bare, port) {
        Some(address) => vec![address.map_err(|source| {
            let host = host.to_owned();
            HostError::Name(ResolveError::NotFound { host, source })
        })?],
        None => {
            let resolving = handle.resolver().resolve(handle, host, port);
            let resolved = handle.timeout_at(end, resolving).await;
            resolved
                .unwrap_or_else(|_| Err(ResolveError::late()))
                .map_err(HostError::Name)?
        }
    };
    let addresses = by_turns(&addresses);
    let connect = |address| {
        let handle = handle.clone();
        async move { tcp::connect(&handle, address).await }
    };
    let mut race = Race::new(handle, addresses, connect);
    let finished = handle.timeout_at(end, poll_fn(|cx| race.poll(cx))).await;
    match finished {
        Ok(result) => result.map_err(|attempts| HostError::Attempts {
            host: host.to_owned(),
            attempts,
        }),
        Err(_) => Err(HostError::TimedOut {
            host: host.to_owned(),
            attempts: race.errors,
        }),
    }
}

/// Orders addresses so that the families alternate, starting with the family of the first: RFC
/// 8305, section 4.
fn by_turns(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) = addresses
        .iter()
        .copied()
        .partition(|address| address.is_ipv6() == first_is_v6);
    first.reverse();
    second.reverse();
    let mut ordered = Vec::with_capacity(addresses.len());
    while !first.is_empty() || !second.is_empty() {
        ordered.extend(first.pop());
        ordered.extend(second.pop());
    }
    ordered
}

/// Staggered attempts, of which the first to succeed wins.
struct Race<A, C, F, E> {
    handle: Handle,
    /// The targets still to be tried, the next one last.
    waiting: Vec<A>,
    connect: C,
    running: Vec<Pin<Box<F>>>,
    /// When the next attempt starts, even if no other has failed.
    delay: Option<Sleep>,
    errors: Vec<E>,
}

impl<A, C, F, T, E> Race<A, C, F, E>
where
    C: Fn(A) -> F,
    F: Future<Output = Result<T, E>>,
{
    fn new(handle: &Handle, mut targets: Vec<A>, connect: C) -> Self {
        targets.reverse();
        Race {
            handle: handle.clone(),
            waiting: targets,
            connect,
            running: Vec::new(),
            delay: None,
            errors: Vec::new(),
        }
    }

    /// Ready with the first success, or with all errors in the order in which they occurred.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Vec<E>>> {
        loop {
            let mut failed = false;
            let mut place = 0;
            while place < self.running.len() {
                match self.running[place].as_mut().poll(cx) {
                    Poll::Ready(Ok(connected)) => {
                        self.running.clear();
                        return Poll::Ready(Ok(connected));
                    }
                    Poll::Ready(Err(error)) => {
                        self.errors.push(error);
                        drop(self.running.remove(place));
                        failed = true;
                    }
                    Poll::Pending => place += 1,
                }
            }
            let late = self
                .delay
                .as_mut()
                .is_none_or(|delay| Pin::new(delay).poll(cx).is_ready());
            if !(failed || late) {
                return Poll::Pending;
            }
            match self.waiting.pop() {
                Some(target) => {
                    self.running.push(Box::pin((self.connect)(target)));
                    self.delay = Some(self.handle.sleep(ATTEMPT_DELAY));
                }
                None if self.running.is_empty() => {
                    return Poll::Ready(Err(std::mem::take(&mut self.errors)));
                }
                None => return Poll::Pending,
            }
        }
    }
}

/// Why connecting to a host failed. `Debug` prints the same text as `Display`, and the causes.
#[non_exhaustive]
pub enum HostError {
    /// The name could not be resolved.
    Name(ResolveError),
    /// None of its addresses accepted a connection.
    Attempts {
        /// The host.
        host: String,
        /// The error of each attempt, in the order in which they failed.
        attempts: Vec<ConnectError>,
    },
    /// No attempt succeeded within 30 s.
    TimedOut {
        /// The host.
        host: String,
        /// The errors of the attempts that had failed by then.
        attempts: Vec<ConnectError>,
    },
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempts = match self {
            HostError::Name(source) => return source.fmt(f),
            HostError::Attempts { attempts, .. } if attempts.len() == 1 => {
                return attempts[0].fmt(f);
            }
            HostError::Attempts { host, attempts } => {
                write!(f, "cannot connect to {host}")?;
                attempts
            }
            HostError::TimedOut { host, attempts } => {
                write!(f, "{host} does not answer")?;
                attempts
            }
        };
        for (number, attempt) in attempts.iter().enumerate() {
            write!(f, "{} {attempt}", if number == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::report::debug(self, f)
    }
}

impl Error for HostError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            HostError::Name(source) => Some(source),
            HostError::Attempts { attempts, .. } | HostError::TimedOut { attempts, .. } => attempts
                .first()
                .map(|attempt| attempt as &(dyn Error + 'static)),
        }
    }
}

impl From<HostError> for io::Error {
    fn from(error: HostError) -> Self {
        let kind = match &error {
            HostError::Name(source) if source.is_late() => io::ErrorKind::TimedOut,
            HostError::Name(_) => io::ErrorKind::NotFound,
            HostError::TimedOut { .. } => io::ErrorKind::TimedOut,
            HostError::Attempts { attempts, .. } => attempts
                .first()
                .map_or(io::ErrorKind::Other, ConnectError::kind),
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc, time::Instant};

    use super::*;
    use crate::{
        deferred::{Deferred, Resolver},
        resolve::Resolve,
        simulation::Simulation,
    };

    /// Runs attempts that each take the given time and then succeed or fail, or never finish if
    /// there is no time. Returns the result, when it came, and when each attempt started.
    fn race(attempts: &[(Option<u64>, bool)]) -> (Result<usize, Vec<usize>>, u64, Vec<u64>) {
        let simulation = Simulation::new();
        let (handle, start) = (simulation.handle(), simulation.handle().now());
        let begun = Rc::new(RefCell::new(Vec::new()));
        let since = move |now: Instant| (now - start).as_millis() as u64;
        let targets = (0..attempts.len()).collect();
        let (attempts, noted, clock) = (attempts.to_vec(), begun.clone(), handle.clone());
        let connect = move |number: usize| {
            noted.borrow_mut().push(since(clock.now()));
            let (time, succeeds) = attempts[number];
            let sleep = time.map(|time| clock.sleep(Duration::from_millis(time)));
            async move {
                match sleep {
                    Some(sleep) => sleep.await,
                    None => std::future::pending().await,
                }
                if succeeds { Ok(number) } else { Err(number) }
            }
        };
        let mut race = Race::new(&handle, targets, connect);
        let result = handle.spawn(poll_fn(move |cx| race.poll(cx)));
        let result = simulation.run_until(result).expect("an end");
        let begun = begun.take();
        (result, since(handle.now()), begun)
    }

    #[test]
    fn the_first_that_answers_wins() {
        assert_eq!(
            race(&[(Some(10), true), (Some(5), true)]),
            (Ok(0), 10, vec![0])
        );
        // The second started alongside it, and was faster.
        assert_eq!(
            race(&[(Some(400), true), (Some(5), true)]),
            (Ok(1), 255, vec![0, 250])
        );
        assert_eq!(
            race(&[(None, true), (None, true), (Some(1), true)]),
            (Ok(2), 501, vec![0, 250, 500])
        );
        assert_eq!(
            race(&[(Some(300), true), (None, true)]),
            (Ok(0), 300, vec![0, 250])
        );
    }

    #[test]
    fn a_failure_begins_the_next_at_once() {
        assert_eq!(
            race(&[(Some(10), false), (Some(5), true)]),
            (Ok(1), 15, vec![0, 10])
        );
        assert_eq!(
            race(&[(Some(0), false), (Some(0), false), (Some(0), true)]),
            (Ok(2), 0, vec![0, 0, 0])
        );
        // The delay before an attempt counts from the start of the one before it.
        assert_eq!(
            race(&[(Some(100), false), (None, true), (Some(1), true)]),
            (Ok(2), 351, vec![0, 100, 350])
        );
    }

    #[test]
    fn all_failures_are_told() {
        assert_eq!(
            race(&[(Some(300), false), (Some(10), false)]),
            (Err(vec![1, 0]), 300, vec![0, 250])
        );
        assert_eq!(race(&[]), (Err(vec![]), 0, vec![]));
    }

    /// The system's resolver has a limit of its own; others need not have one.
    #[test]
    fn a_name_is_not_looked_up_without_end() {
        struct Silent(RefCell<Vec<Resolver<Vec<SocketAddr>, ResolveError>>>);

        impl Resolve for Silent {
            fn resolve(
                &self,
                _: &Handle,
                _: &str,
                _: u16,
            ) -> Deferred<Vec<SocketAddr>, ResolveError> {
                let (resolver, deferred) = Deferred::new();
                self.0.borrow_mut().push(resolver);
                deferred
            }
        }

        let (simulation, silent) = (Simulation::new(), Rc::new(Silent(RefCell::default())));
        let (handle, start) = (simulation.handle(), simulation.handle().now());
        handle.set_resolver(silent.clone());
        let own = handle.clone();
        let connecting = handle.spawn(async move { connect_host(&own, "a.test", 80).await.err() });
        let error = simulation.run_until(connecting).expect("an end");
        let error = error.expect("no connection");
        assert_eq!(handle.now() - start, PATIENCE);
        assert!(silent.0.borrow()[0].is_cancelled());
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn families_take_turns() {
        let list = |text: &str| {
            text.split(' ')
                .map(|address| SocketAddr::new(address.parse().expect("an address"), 80))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            by_turns(&list("::1 ::2 ::3 1.1.1.1 2.2.2.2")),
            list("::1 1.1.1.1 ::2 2.2.2.2 ::3")
        );
        assert_eq!(by_turns(&list("1.1.1.1 ::1 ::2")), list("1.1.1.1 ::1 ::2"));
        assert_eq!(by_turns(&list("1.1.1.1 2.2.2.2")), list("1.1.1.1 2.2.2.2"));
        assert!(by_turns(&[]).is_empty());
    }
}
